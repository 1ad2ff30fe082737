"""A disk that really runs full under the real daemon."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Studio

from tests.integration.acting import install

pytestmark = pytest.mark.slow

CONFIG = """\
version: 1
pipelines: {{act: [{{act: {act}}}]}}
inboxes: [{{path: inbox/act, pipeline: act, settle_seconds: 0.2, sidecar_wait_seconds: 0}}]
"""


@pytest.fixture(params=["data", "outbox"])
def small(
    request: pytest.FixtureRequest, tmp_path: Path, lacking: Callable[[str], None]
) -> Iterator[Path]:
    """One of a studio's folders on a disk of 80 MiB, enough to begin with, too little to end."""
    folder = tmp_path / request.param
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        lacking("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """A studio with one stage, of `acting.py`, and one picture in its inbox."""
    from PIL import Image

    install(tmp_path / "site")
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    studio = Studio(tmp_path)
    studio.inbox("act").mkdir(parents=True)
    Image.new("RGB", (64, 64), "red").save(studio.inbox("act") / "a.png")
    return studio


def test_the_work_waits_until_there_is_room(small: Path, studio: Studio):
    (studio.root / "pipeline.yaml").write_text(CONFIG.format(act="{deed: flood}"))
    with studio.watch():
        studio.wait(lambda: any(job["hold"] == "disk_full" for job in studio.jobs()))
        subprocess.run(["mount", "-o", "remount,size=400m", str(small)], check=True)
        (job,) = studio.ended(1)
    assert (job["status"], job["attempt"]) == ("completed", 1)
    assert shutil.disk_usage(small).free > 100 << 20
    assert studio.leftovers() == []


@pytest.mark.parametrize("small", ["data"], indirect=True)
def test_others_may_fill_the_disk_of_the_ledger(small: Path, studio: Studio):
    act = "{steps: 150, seconds: 0.1}"
    (studio.root / "pipeline.yaml").write_text(CONFIG.format(act=act))
    with studio.watch() as daemon:
        studio.wait(lambda: any(job["status"] == "running" for job in studio.jobs()))
        fill(small / "other")
        studio.wait(lambda: "ledger.unavailable" in (studio.root / "watch.log").read_text())
        time.sleep(2)
        assert daemon.poll() is None
        (small / "other").unlink()
        (job,) = studio.ended(1)
    assert (job["status"], job["attempt"]) == ("completed", 1)


def fill(path: Path) -> None:
    """To the last byte."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
