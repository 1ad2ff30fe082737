"""The bench of the turntable runs, and tells what it measured."""

import json
from pathlib import Path

import pytest

from tests.conftest import load_script

bench = load_script("bench")
load_script("benches.turntable")

SCENES = Path(__file__).parents[2] / "golden" / "scenes"


@pytest.mark.slow
def test_a_film_of_the_mesh(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["turntable", "--mode", "mesh", "--scene", str(SCENES / "robot.npz"), "--software"]
    words += ["--resolution", "32", "--views", "3", "--size", "48", "--json"]
    monkeypatch.setattr("sys.argv", ["bench.py", *words])
    bench.main()
    facts = json.loads(capsys.readouterr().out)
    assert (facts["renderer"], facts["views"], facts["size"]) == ("software", 3, 48)
    assert facts["seconds"].keys() == {"open", "render", "encode", "film"}
    assert facts["faces"] > 500
    assert facts["bytes"] > 500
