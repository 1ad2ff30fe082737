"""A disk that really runs full under the real daemon."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Studio

from tests.integration.acting import install

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a tmpfs"),
]

CONFIG = """\
version: 1
pipelines: {act: [{act: {deed: flood}}]}
inboxes: [{path: inbox/act, pipeline: act, settle_seconds: 0.2, sidecar_wait_seconds: 0}]
"""


@pytest.fixture(params=["data", "outbox"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """One of a studio's folders on a disk of 80 MiB, enough to begin with, too little to end."""
    folder = tmp_path / request.param
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_the_work_waits_until_there_is_room(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from PIL import Image

    install(tmp_path / "site")
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    studio = Studio(tmp_path)
    studio.inbox("act").mkdir(parents=True)
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    Image.new("RGB", (64, 64), "red").save(studio.inbox("act") / "a.png")
    with studio.watch():
        studio.wait(lambda: any(job["hold"] == "disk_full" for job in studio.jobs()))
        subprocess.run(["mount", "-o", "remount,size=400m", str(small)], check=True)
        (job,) = studio.ended(1)
    assert (job["status"], job["attempt"]) == ("completed", 1)
    assert shutil.disk_usage(small).free > 100 << 20
    assert studio.leftovers() == []
