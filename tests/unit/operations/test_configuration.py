"""Folders of a configuration that meet through links on the disk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.operations import configuration

Outcome = Callable[..., list[str]]

TEXT = """\
version: 1
models: {sd: {provider: diffusers, path: w}}
pipelines: {mesh: [{img2img: {}}]}
inboxes:
"""


@pytest.fixture
def problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """The lines that a person reads about an outbox and inboxes at these places."""
    monkeypatch.chdir(tmp_path)

    def problems(*inboxes: str, out: str = "out") -> list[str]:
        file = tmp_path / "pipeline.yaml"
        file.write_text(TEXT + "".join(f"- {{path: {p}, pipeline: mesh}}\n" for p in inboxes))
        try:
            configuration.load(file, {"DNA_DATA_DIR": "data", "DNA_OUTPUT_DIR": out})
        except ConfigError as error:
            lines = str(error).replace(f"{file}: ", "").splitlines()
            return [line.replace(str(tmp_path), "HERE") for line in lines]
        return []

    return problems


def test_inboxes_that_meet_through_a_link(problems: Outcome, tmp_path: Path) -> None:
    (tmp_path / "real/in").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    assert problems("link/in/a", "real/in") == [
        "line 6: inboxes[1].path: HERE/real/in overlaps inboxes[0].path (HERE/real/in/a); "
        "keep them apart"
    ]


def test_links_in_the_data_folder(problems: Outcome, tmp_path: Path) -> None:
    for name in ("scratch", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "data/work").symlink_to("../scratch")
    (tmp_path / "data/output").symlink_to("work")
    (tmp_path / "data/results").symlink_to("../results")
    link = "overlaps $DNA_DATA_DIR (HERE/scratch); keep them apart"
    assert problems("in", out="scratch/out") == [f"$DNA_OUTPUT_DIR: HERE/scratch/out {link}"]
    assert problems("in", out="data/output") == [f"$DNA_OUTPUT_DIR: HERE/scratch {link}"]
    assert problems("scratch") == [f"line 5: inboxes[0].path: HERE/scratch {link}"]
    assert problems("in", out="data/results") == []


def test_an_inbox_that_is_a_link_to_the_folder_of_the_file(
    problems: Outcome, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(".")
    (line, *_) = problems("link")
    assert line.startswith("line 5: inboxes[0].path: this folder holds pipeline.yaml itself")


def test_problems_of_text_and_disk_are_named_at_once(problems: Outcome, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    lines = problems("in", "link, colour: red")
    assert [line.partition(":")[0] for line in lines] == ["line 6", "line 6"]
    assert "colour" in lines[0]
    assert "overlaps" in lines[1]
