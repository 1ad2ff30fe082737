"""Which folders of a configuration may lie in one another."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.loader import load_config

Outcome = Callable[..., list[str]]

TEXT = """\
version: 1
models: {{sd: {{provider: diffusers, path: {weights}}}}}
pipelines: {{mesh: [{{img2img: {{}}}}]}}
inboxes: [{{path: {inbox}, pipeline: mesh}}]
"""


@pytest.fixture
def problems(tmp_path: Path, read, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """The lines that a person reads about an outbox and an inbox at these places."""
    monkeypatch.chdir(tmp_path)

    def problems(out: str, data: str = "data", inbox: str = "in", weights: str = "w") -> list[str]:
        text = TEXT.format(inbox=inbox, weights=weights)
        try:
            read(text, DNA_DATA_DIR=data, DNA_OUTPUT_DIR=out)
        except ConfigError as error:
            start = f"{tmp_path}/pipeline.yaml: "
            lines = [line.removeprefix(start) for line in str(error).splitlines()]
            return [line.replace(str(tmp_path), "HERE") for line in lines]
        return []

    return problems


@pytest.mark.parametrize("place", ["data/output", "data/results/of/ours", "data/workshop"])
def test_an_outbox_below_the_data_folder(problems: Outcome, place: str) -> None:
    assert problems(place) == []


@pytest.mark.parametrize(
    "place",
    ["work", "work/out", "Work", "claims", "recovered", "logs/out", "models", "models/sd/out",
     "wildcards", "embeddings", "ledger.db", "daemon.json", "server.0a1b2c3d.json", ".dna-owner"],
)  # fmt: skip
def test_not_where_the_program_has_its_own_files(problems: Outcome, place: str) -> None:
    first = place.split("/")[0]
    assert problems(f"data/{place}") == [
        f"$DNA_OUTPUT_DIR: HERE/data/{place} overlaps HERE/data/{first}, which the program uses "
        "itself; choose another folder, such as HERE/data/output"
    ]


@pytest.mark.parametrize("place", ["output", "output/weights", "output/weights/out"])
def test_nor_where_a_model_is(problems: Outcome, place: str) -> None:
    (line,) = problems(f"data/{place}", weights="output/weights")
    assert "overlaps HERE/data/output/weights, which the program uses itself" in line


@pytest.mark.parametrize(
    "places",
    [
        {"data": "all/data", "out": "all"},
        {"data": "same", "out": "same"},
        {"out": "data/output", "inbox": "data/in"},
        {"out": "data/output", "inbox": "data/output/in"},
        {"out": "in/output"},
        {"out": "out", "data": "in/data"},
    ],
)
def test_what_would_meet_is_refused(problems: Outcome, places: dict[str, str]) -> None:
    lines = problems(**places)
    assert lines
    assert all(line.endswith("keep them apart") for line in lines)


def test_paths_are_compared_as_they_are_written(problems: Outcome, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("in")
    assert problems("link") == []


def test_paths_are_compared_by_their_real_places(tmp_path: Path) -> None:
    file, links = tmp_path / "pipeline.yaml", {tmp_path / "out": tmp_path / "in"}
    file.write_text(TEXT.format(inbox="in/deep", weights="w") + "paths: {outbox: out}\n")
    assert load_config(file, {}).outbox == tmp_path / "out"
    with pytest.raises(ConfigError, match=r"in/deep overlaps paths.outbox \(.*/in\); keep them"):
        load_config(file, {}, lambda folder: links.get(folder, folder))
