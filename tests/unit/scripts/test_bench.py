"""The bench: its numbers are those of the scenes, its reference is the original's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dna_pipeline.providers.base import Device
from dna_pipeline.providers.triposr.field import Field
from dna_pipeline.providers.triposr.provider import TripoSRModel
from tests.conftest import load_script
from tests.triposr_stage import TINY

pytestmark = pytest.mark.usefixtures("one_thread")

SCENES = Path(__file__).parents[2] / "golden" / "scenes"
COUNTS = ("points", "inside", "vertices", "faces")

bench = load_script("bench")
mesh_bench = load_script("benches.mesh")


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> str:
    monkeypatch.setattr("sys.argv", ["bench.py", "mesh", "--device", "cpu", *arguments])
    bench.main()
    return capsys.readouterr().out


def facts_of(*args: Any) -> dict[str, Any]:
    return json.loads(run(*args, "--json"))


@pytest.mark.parametrize("scene", ["robot", "knot"])
def test_the_reference_gives_the_golden_densities(scene: str) -> None:
    field = Field.from_npz(SCENES / f"{scene}.npz")
    with np.load(SCENES / f"{scene}.expected.npz") as arrays:
        index, expected = arrays["sample_index_128"], arrays["sample_density_128"]
    points = torch.as_tensor(index / 127 * 2 * field.radius - field.radius, dtype=torch.float32)
    density, color = mesh_bench.reference_query(field, points)
    np.testing.assert_allclose(density, expected, rtol=1e-4)
    np.testing.assert_allclose(color, field.density_and_color(points)[1], atol=1e-5)


@pytest.mark.slow
def test_both_ways_give_the_same_mesh(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--scene", str(SCENES / "robot.npz"), "--resolution", "48", "--compare")
    ours = facts_of(monkeypatch, capsys, *arguments)
    theirs = ours["reference"]
    assert (ours["method"], theirs["method"]) == ("pipeline", "reference")
    assert {k: ours[k] for k in COUNTS[1:]} == {k: theirs[k] for k in COUNTS[1:]}
    assert theirs["points"] == 48**3
    assert ours["points"] <= 48**3
    for key, golden in (("area", 2.24), ("volume", 0.153)):
        assert ours[key] == pytest.approx(theirs[key], rel=1e-5)
        assert ours[key] == pytest.approx(golden, rel=0.05)
    ratio = theirs["seconds"]["total"] / ours["seconds"]["total"]
    assert ours["speedup"] == pytest.approx(ratio, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "method"), [((), "pipeline"), (("--dense",), "reference")])
def test_json(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    method: str,
) -> None:
    arguments = ("--scene", str(SCENES / "knot.npz"), "--resolution", "40", *flags)
    facts = facts_of(monkeypatch, capsys, *arguments)
    assert (facts["method"], facts["scene"], facts["resolution"]) == (method, "knot.npz", 40)
    assert {type(facts[key]) for key in COUNTS} == {int}
    seconds = facts["seconds"]
    assert min(seconds.values()) >= 0
    assert seconds["density"] > 0
    assert sum(seconds.values()) - seconds["total"] == pytest.approx(seconds["total"], abs=1e-3)
    assert "reference" not in facts


@pytest.mark.slow
def test_the_level_set_of_the_logarithm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--scene", str(SCENES / "knot.npz"), "--resolution", "24", "--level-set")
    density, logit = (facts_of(monkeypatch, capsys, *arguments, s) for s in ("density", "logit"))
    assert density["vertices"] == logit["vertices"]
    assert density["area"] != logit["area"]


@pytest.mark.slow
def test_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--scene", str(SCENES / "robot.npz"), "--resolution", "24", "--compare")
    lines = run(monkeypatch, capsys, *arguments).splitlines()
    assert "resolution  24" in lines
    assert "seconds:" in lines
    assert "reference:" in lines
    assert any(line.startswith("    total") for line in lines)
    assert any(line.startswith("speedup") for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--scene", "nowhere.npz"], "No such file"),
        (["--scene", "{empty}"], "no array scene_code"),
        (["--scene", "{robot}", "--resolution", "1"], "--resolution: at least 2"),
        (["--scene", "{robot}", "--resolution", "2"], "do not cross 25"),
        (["--scene", "{robot}", "--resolution", "2", "--dense"], "no density crosses"),
        (["--scene", "{robot}", "--dense", "--compare"], "not allowed with"),
        ([], "--scene"),
    ],
)
def test_wrong_calls_end_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    told: str,
) -> None:
    np.savez(tmp_path / "empty.npz", other=np.zeros(1))
    paths = {"{robot}": str(SCENES / "robot.npz"), "{empty}": str(tmp_path / "empty.npz")}
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, capsys, *(paths.get(text, text) for text in arguments))
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_a_turntable_beside_every_sample(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = str(SCENES / "robot.npz")
    words = f"bench.py turntable --mode nerf --device cpu --json --scene {scene}"
    more = "--views 4 --size 24 --reference-views 1"
    monkeypatch.setattr("sys.argv", [*words.split(), *more.split()])
    bench.main()
    facts = json.loads(capsys.readouterr().out)
    assert (facts["views"], facts["reference"]["views"], facts["reference"]["scaled_by"]) == (
        4,
        1,
        4,
    )
    assert facts["psnr_db"] > 45
    assert facts["reference"]["points"] == 4 * 24**2 * 128
    assert 66**3 < facts["points"] < 0.4 * 129**3 + 0.05 * facts["reference"]["points"]


@pytest.mark.slow
def test_what_finding_a_surface_took() -> None:
    report = mesh_bench.pipeline_mesh(Field.from_npz(SCENES / "robot.npz"), 128)
    phases = ["coarse", "fine", "marching_cubes", "colors", "other", "total"]
    assert list(report.seconds) == phases
    assert min(report.seconds.values()) >= 0
    assert report.points < 128**3 / 4
    assert 0 <= report.peak_mib < 1500


def test_the_peak_of_memory_is_above_what_was_held() -> None:
    held = np.ones(8 << 20)
    memory = mesh_bench.PeakMemory(torch.device("cpu"))
    assert memory.mib() < 16
    np.ones(8 << 20).sum()
    assert 60 < memory.mib() < 80
    assert held.all()


def test_the_bench_of_reuse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a small network in the place of the one of full size."""
    bench_of_reuse = load_script("benches.reuse")
    small = TripoSRModel(path=TINY).load(Device("cpu", "float32"))
    monkeypatch.setattr(bench_of_reuse.forward, "random_network", lambda: small._network)
    scene = SCENES / "robot.npz"
    words = f"bench.py reuse --device cpu --json --scene {scene} --resolution 24 --repeat 1"
    monkeypatch.setattr("sys.argv", words.split())
    bench.main()
    report = json.loads(capsys.readouterr().out)
    assert report["nothing_differs_s"] > 0
    assert report["kept_mib"] > 1
