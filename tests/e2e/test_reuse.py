"""Results that one job computed and another takes, through the real daemon and worker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import SCRIPTS, load_script

pytestmark = pytest.mark.slow

stand_in = load_script("stand_in")

CONFIG = """\
version: 1
pipelines:
  two: [{stand_in: {id: first}}, {stand_in: {id: last}}]
inboxes:
  - {path: inbox, pipeline: two, settle_seconds: 0, sidecar_wait_seconds: 0}
  - {path: anew, pipeline: two, reuse: off, settle_seconds: 0, sidecar_wait_seconds: 0}
"""


class Site:
    """A folder with a daemon that runs until it is idle."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        (root / "pipeline.yaml").write_text(CONFIG)

    def drop(self, sidecar: str = "", inbox: str = "inbox") -> None:
        folder = self.root / inbox
        folder.mkdir(exist_ok=True)
        if sidecar:
            (folder / "cat.yaml").write_text(sidecar)
        Image.new("RGB", (24, 16), (200, 90, 60)).save(folder / "cat.png")

    def run(self) -> None:
        command = [sys.executable, "-m", "stand_in", str(self.root / "pipeline.yaml")]
        environment = stand_in.environment(SCRIPTS)
        with (self.root / "log").open("ab") as log:
            subprocess.run(
                [*command, "--until-idle"], env=environment, stdout=log, stderr=log, check=True,
                timeout=300,
            )  # fmt: skip

    def results(self) -> list[dict[str, Any]]:
        """The manifests in the order in which their jobs began, each with its folder."""
        paths = [*(self.root / "outbox").rglob("manifest.json")]
        manifests = [json.loads(path.read_text()) | {"folder": path.parent} for path in paths]
        return sorted(manifests, key=lambda manifest: manifest["job"]["started_at"])

    def files(self, manifest: dict[str, Any]) -> dict[str, bytes]:
        folder: Path = manifest["folder"]
        return {
            file["path"]: (folder / file["path"]).read_bytes() for file in manifest["artifacts"]
        }


def origins(manifest: dict[str, Any]) -> list[str | None]:
    """The job that each stage's result was taken from."""
    return [stage.get("reused_from", {}).get("job") for stage in manifest["stages"]]


def test_an_image_that_is_dropped_again(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.drop()
    site.run()
    (first,) = site.results()
    assert origins(first) == [None, None]
    assert (site.root / "data/kept").is_dir()

    site.drop()  # nothing differs
    site.drop(inbox="anew")
    site.run()
    site.drop("last: {seconds: 0.01}")
    site.run()
    by_inbox = [(m["job"]["inbox"], origins(m)) for m in site.results()[1:3]]
    id_ = first["job"]["id"]
    assert sorted(by_inbox) == [("anew", [None, None]), ("inbox", [id_, id_])]
    other = site.results()[3]
    assert origins(other) == [id_, None], "another second stage"
    assert len({str(site.files(manifest)) for manifest in site.results()}) == 1

    shutil.rmtree(site.root / "data/kept")
    site.drop()
    site.run()
    assert origins(site.results()[4]) == [None, None]


def test_the_stage_before_a_failure_is_taken_by_other_jobs(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.drop("last: {fails: true}")
    site.run()
    (failure,) = (site.root / "outbox/inbox/failed").iterdir()
    job = json.loads((failure / "error.json").read_text())["job"]["id"]
    site.drop()
    site.run()
    assert origins(site.results()[0]) == [job, None]


def test_two_data_folders_share_nothing(tmp_path: Path) -> None:
    sites = [Site(tmp_path / name) for name in ("one", "two")]
    for site in sites:
        site.drop()
        site.run()
    assert [origins(site.results()[0]) for site in sites] == [[None, None], [None, None]]


def test_a_damaged_result_is_computed_again(tmp_path: Path) -> None:
    site = Site(tmp_path / "site")
    site.drop()
    site.run()
    for path in (site.root / "data/kept").rglob("0"):
        path.write_bytes(b"damaged")
    site.drop()
    site.run()
    first, second = site.results()
    assert origins(second) == [None, None]
    assert site.files(first) == site.files(second)
