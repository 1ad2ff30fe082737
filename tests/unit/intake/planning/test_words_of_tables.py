"""What is said of a table whose images or columns are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.base.errors import JobError
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.candidates import Candidate, References
from dna_pipeline.intake.discovery.pairing import pair
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.discovery.stability import StabilityTracker
from dna_pipeline.intake.planning.nearest_images import MOST_NAMES
from dna_pipeline.intake.planning.planner import Planner

CONFIG = """\
version: 1
models: {sd15: {provider: diffusers, path: models/sd}}
pipelines: {restyle: [{img2img: {model: sd15}}]}
inboxes: [{path: inbox, pipeline: restyle}]
"""


class Site:
    """An inbox with files, and what is said of a table in it."""

    def __init__(self, folder: Path) -> None:
        (folder / "pipeline.yaml").write_text(CONFIG, encoding="utf-8")
        self.config = load_config(folder / "pipeline.yaml", {})
        self.inbox = self.config.inboxes[0]
        self.inbox.path.mkdir(exist_ok=True)

    def put(self, *paths: str) -> None:
        for path in paths:
            file = self.inbox.path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()

    def said(self, text: str, name: str = "t.csv", **fields: tuple[tuple[str, str], ...]) -> str:
        """The messages about its rows, or the one about all of it."""
        (self.inbox.path / name).write_text(text, encoding="utf-8")
        try:
            plan = Planner(self.config, self.inbox).plan(
                Candidate(None, None, table=name, is_batch=True, **fields)
            )
        except JobError as error:
            return error.detail
        return "\n".join(item.error.detail for item in plan.items if item.error)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Shared.PNG", "shared.png"),
        ("sahred.png", "shared.png"),
        ("sub/Cat_01.jpg", "sub/cat_01.jpeg"),
        (r"sub\cat01.jpeg", "sub/cat_01.jpeg"),
    ],
)
def test_the_nearest_image_of_the_folder_is_named(site: Site, written: str, meant: str):
    site.put("shared.png", "sub/cat_01.jpeg", "notes.txt")
    said = site.said(f"image\n{written}\n")
    assert said == f"row 2: image: there is no {written!r}; did you mean {meant!r}?"


@pytest.mark.parametrize("written", ["other.png", "none/shared.png", "notes.tx"])
def test_nothing_far_fetched_is_named(site: Site, written: str):
    site.put("shared.png", "notes.txt")
    assert site.said(f"image\n{written}\n") == f"row 2: image: there is no {written!r}"


@pytest.mark.slow
def test_large_folders_are_not_searched(site: Site):
    site.put("shared.png", *(f"{number}.png" for number in range(MOST_NAMES)))
    assert site.said("image\nShared.PNG\n") == "row 2: image: there is no 'Shared.PNG'"


@pytest.mark.parametrize("glob", ["*.png", "sub/*", "shot_??.jpg", "**/a[0-9].png"])
def test_a_glob_in_a_table(site: Site, glob: str):
    site.put("a.png")
    wrong = f"there is no {glob!r}; a table names single images"
    assert site.said(f"image\n{glob}\n") == (
        f"row 2: image: {wrong}; globs are for job files (`images:`)"
    )


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("Nr.", "`meta.Nr`"),
        ("No. ", "`meta.No`"),
        ("Zeit.min", "`meta.Zeit.min`"),
        ("img2img.", "`meta.img2img`"),
        ("img2imgg.prompt", "`img2img.prompt`"),
        ("promt.", "`img2img.prompt`"),
    ],
)
def test_an_unknown_column_with_a_dot(site: Site, column: str, meant: str):
    said = site.said(f"{column},image\n1,a.png\n")
    assert f"{column.strip()}: there is no such column; did you mean {meant}" in said
    assert "known here" not in said


@pytest.mark.parametrize(
    "column", ["file", "File Name", "filename", "path", "images", "Image_Path", "img"]
)
def test_a_column_that_was_meant_to_be_image(site: Site, column: str):
    said = site.said(f"{column};seed\na.png;1\n")
    assert f"no column is called 'image'; did you mean `image` by '{column}'?" in said
    assert "did you mean" not in site.said("asset,seed\na.png,1\n")


def looked_at(told: dict[str, References | str], *images: str) -> dict[str | None, Candidate]:
    """The candidates of an inbox by their table or YAML."""
    inbox = Inbox(name="in", path=Path("in"), pipeline="p", settle_s=0, sidecar_wait_s=0)
    tracker = StabilityTracker(0)
    files = [*told, *images]
    for now in (0, 9):
        tracker.observe({path: FileStat(1, 0, 0, 1, 1) for path in files}, now)
    pairing = pair(inbox, files, tracker, told.get)
    return {c.table or c.sidecar: c for c in pairing.ready}


def test_the_table_that_takes_an_image_is_named(site: Site):
    names = References(("shared.png", "own.png"), waits_long=False)
    others = References(("Own.png", "shared.PNG"), waits_long=False)
    found = looked_at({"t1.csv": names, "t2.csv": others}, "shared.png", "own.png")
    assert found["t1.csv"].images == ("shared.png", "own.png")
    assert found["t1.csv"].claimed_by_others == ()
    assert found["t2.csv"].claimed_by_others == (("shared.PNG", "t1.csv"),)
    site.put("shared.png")
    said = site.said(
        "image\nshared.PNG\n", "t2.csv", claimed_by_others=found["t2.csv"].claimed_by_others
    )
    assert said == (
        "row 2: image: 'shared.PNG' goes to t1.csv, which names it too; put both into one table"
    )


def test_the_job_file_that_takes_an_image_is_named():
    found = looked_at(
        {"job.yaml": "a.png", "t.csv": References(("a.png",), waits_long=False)}, "a.png"
    )
    assert found["t.csv"].claimed_by_others == (("a.png", "job.yaml"),)
