"""An inbox that is really unmounted under the real daemon."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Studio
from PIL import Image

from tests.integration.acting import install

pytestmark = pytest.mark.slow

CONFIG = """\
version: 1
pipelines: {act: [{act: {steps: 40, seconds: 0.1}}]}
inboxes: [{path: inbox/act, pipeline: act, settle_seconds: 0.2, sidecar_wait_seconds: 0}]
"""


class Share:
    """A folder that can be mounted as an inbox and taken away."""

    def __init__(self, disk: Path, place: Path) -> None:
        self.disk = disk
        self.place = place

    def mount(self) -> bool:
        command = ["mount", "--bind", str(self.disk), str(self.place)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.place)], check=True)


@pytest.fixture
def share(tmp_path: Path, lacking: Callable[[str], None]) -> Iterator[Share]:
    share = Share(tmp_path / "disk", tmp_path / "inbox/act")
    for folder in (share.disk, share.place):
        folder.mkdir(parents=True)
    if sys.platform != "linux" or not share.mount():
        lacking("nothing can be mounted here")
    yield share
    # Of a bind mount on the same disk, `is_mount` sees nothing.
    subprocess.run(["umount", "-l", str(share.place)], capture_output=True)


def test_its_jobs_wait_until_it_is_back(
    tmp_path: Path, share: Share, monkeypatch: pytest.MonkeyPatch
):
    install(tmp_path / "site")
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    studio = Studio(tmp_path)
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    for color in ("red", "blue"):
        Image.new("RGB", (64, 64), color).save(share.place / f"{color}.png")
    with studio.watch():
        studio.wait(lambda: any(job["status"] == "running" for job in studio.jobs()))
        share.unmount()
        studio.wait(lambda: [job["hold"] for job in studio.jobs()] == ["inbox_unavailable"] * 2)
        assert "is not there now; mount the inbox again" in studio.cli("status").stdout
        share.mount()
        jobs = studio.ended(2)
    assert {job["status"] for job in jobs} == {"completed"}
    assert [job["attempt"] for job in jobs] == [1, 1]
    sources = [path.name for path in studio.outbox.glob("*/*/source/*.png")]
    assert sorted(sources) == ["blue.png", "red.png"]
    assert studio.leftovers() == []
