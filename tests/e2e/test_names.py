"""Names and folders as they come, through the real daemon and the commands that look at it.

The worker is `stand_in`, which copies; so nothing here loads torch.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import fork_server
from tests.conftest import SCRIPTS, load_script

pytestmark = pytest.mark.slow

CONFIG = """\
version: 1
pipelines: {copy: [{stand_in: {}}]}
inboxes:
  - {path: inbox/archive, pipeline: copy, recursive: true, settle_seconds: 0.3,
     sidecar_wait_seconds: 0, rescan_seconds: 3600}
  - {path: inbox/keep, pipeline: copy, recursive: true, settle_seconds: 0.3, originals: keep,
     sidecar_wait_seconds: 0, rescan_seconds: 3600}
"""

CLI = """\
from dna_pipeline.stages import registry
registry.STAGES["stand_in"] = "stand_in:StandIn"
from dna_pipeline.interfaces.cli.main import main
main()
"""

FORBIDDEN = '\\\\/:*?"<>|'


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (number % 256, number // 256, 7)).save(file, "PNG")
    return file.getvalue()


class Studio:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.outbox = root / "outbox"
        (root / "pipeline.yaml").write_text(CONFIG)
        for name in ("archive", "keep"):
            (root / "inbox" / name).mkdir(parents=True)
        self.environment = load_script("stand_in").environment(SCRIPTS) | {"PYTHONUTF8": "1"}

    def put(self, path: bytes | str, data: bytes) -> None:
        """`path` below the folder of all inboxes."""
        target = Path(os.fsdecode(os.fsencode(self.root / "inbox") + b"/" + os.fsencode(path)))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def run(self) -> None:
        daemon = self._start("--until-idle")
        assert daemon.wait(200) == 0, self.log.read_text()

    @contextmanager
    def watching(self) -> Iterator[Path]:
        """The daemon, and its log."""
        self.log.unlink(missing_ok=True)
        daemon = self._start()
        try:
            self.wait(lambda: (self.outbox / "status.json").exists())
            yield self.log
        finally:
            daemon.terminate()
            assert daemon.wait(30) == 0, self.log.read_text()

    def _start(self, *flags: str) -> fork_server.Process:
        return fork_server.logged(
            fork_server.light(), self.log, "stand_in", "pipeline.yaml", *flags,
            cwd=self.root, env=self.environment,
        )  # fmt: skip

    @property
    def log(self) -> Path:
        return self.root / "log"

    def wait(self, is_so: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, "it did not come to it"
            time.sleep(0.1)

    def cli(self, *arguments: str, code: int = 0) -> str:
        server, options = fork_server.light(), {"cwd": self.root, "env": self.environment}
        done = fork_server.run(server, "-c", CLI, *arguments, **options)
        assert done.returncode == code, done.stderr.decode()
        return done.stdout.decode()  # strictly: what is no UTF-8 fails here

    def manifests(self) -> dict[str, dict[str, Any]]:
        """Those that are published, by the folder's path below the outbox."""
        return {
            path.parent.relative_to(self.outbox).as_posix(): json.loads(path.read_text("utf-8"))
            for path in self.outbox.rglob("manifest.json")
            if ".dna" not in path.parts
        }


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


ODD: list[bytes] = [
    b"caf\xe9.png",
    unicodedata.normalize("NFC", "é.png").encode(),
    unicodedata.normalize("NFD", "é.png").encode(),
    b"n" * 251 + b".png",
    "ü".encode() * 125 + b".png",
    "\U0001f600".encode() * 62 + b".png",
    b"CON.png",
    b"aux.png",
    b"a:b?.png",
    b"dot..png",
    b"space .png",
    b"new\nline\x1b[31m.png",
    b'"<>|*.png',
    b"--help.png",
    b"%s {0}.png",
]


@pytest.mark.parametrize("inbox", ["archive", "keep"])
def test_names_of_every_kind(studio: Studio, inbox: str) -> None:
    pictures = {name: picture(number) for number, name in enumerate(ODD)}
    for name, data in pictures.items():
        studio.put(inbox.encode() + b"/" + name, data)
    studio.put(inbox.encode() + b"/caf\xe9.yaml", b"meta: {of: cafe}\n")
    studio.run()
    manifests = studio.manifests()
    assert len(manifests) == len(ODD)
    told = {m["input"]["sha256"]: m for m in manifests.values()}
    for name, data in pictures.items():
        manifest = told[hashlib.sha256(data).hexdigest()]
        assert manifest["input"]["name"] == name.decode("utf-8", "backslashreplace")
    (cafe,) = [m for m in manifests.values() if m["job"]["meta"]]
    assert cafe["input"]["name"] == "caf\\xe9.png"
    for folder, manifest in manifests.items():
        made = [entry["path"] for entry in manifest["artifacts"]]
        for part in [*folder.split("/"), *made]:
            assert len(part.encode()) <= 255
            assert not set(part) & set(FORBIDDEN)
            assert part.isprintable()
            assert part.split(".")[0].rstrip().upper() not in ("CON", "AUX")
            assert not part.endswith((".", " "))
        assert all((studio.outbox / folder / path).is_file() for path in made)
        if inbox == "archive":
            (original,) = [
                path
                for path in (studio.outbox / folder / "source").iterdir()
                if path.suffix == ".png"
            ]
            assert pictures[os.fsencode(original.name)] == original.read_bytes()
    _all_commands_cope(studio, manifests)


def _all_commands_cope(studio: Studio, manifests: dict[str, dict[str, Any]]) -> None:
    assert {entry["name"] for entry in json.loads(studio.cli("jobs", "--json"))} == {
        manifest["input"]["name"] for manifest in manifests.values()
    }
    shown = studio.cli("jobs")
    assert "caf\\xe9.png" in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 1 + len(manifests)
    for manifest in manifests.values():
        assert studio.cli("show", manifest["job"]["id"])
        break
    for command in (["events"], ["events", "--json"], ["status"], ["verify"]):
        studio.cli(*command)


def test_names_that_wait_can_be_told(studio: Studio) -> None:
    for name in (b"caf\xe9.jxl", b"new\nline\x1b[31m.jxl"):
        studio.put(b"archive/" + name, b"x")
    with studio.watching():

        def told() -> set[str]:
            status = json.loads((studio.outbox / "status.json").read_text("utf-8"))
            return {entry["file"] for entry in status["waiting"]}

        studio.wait(lambda: told() == {"caf\\xe9.jxl", "new\nline\x1b[31m.jxl"})
        shown = studio.cli("status")
        assert "caf\\xe9.jxl" in shown
        assert "\x1b" not in shown
    studio.cli("check")


def test_subfolders_are_mirrored_and_found_by_their_events(studio: Studio) -> None:
    """No rescan comes to help: what no event tells of would never be found."""
    tree = studio.root / "tree"
    (tree / "x/y").mkdir(parents=True)
    (tree / "x/y/moved.png").write_bytes(picture(999))
    with studio.watching() as log:
        folders = ["failed", "latest", "Latest/latest", "deep/er/still"]
        folders += [f"run{number}/b/c" for number in range(30)]
        for inbox in ("archive", "keep"):
            for number, folder in enumerate(folders):
                studio.put(f"{inbox}/{folder}/cat.png", picture(number))
                time.sleep(0.01 * (number % 3))
        tree.rename(studio.root / "inbox/archive/tree")
        studio.wait(lambda: len(studio.manifests()) == 2 * len(folders) + 1)
    parents = {folder.rpartition("/")[0] for folder in studio.manifests()}
    expected = ["failed_", "latest_", "Latest_/latest", *folders[3:]]
    assert parents == {f"{i}/{f}" for i in ("archive", "keep") for f in expected} | {
        "archive/tree/x/y"
    }
    assert (studio.outbox / "keep/latest/deep/er/still/cat.png").is_file()
    assert "error" not in log.read_text()


def test_inboxes_that_are_missing_removed_and_made_anew(studio: Studio) -> None:
    text = CONFIG.replace("rescan_seconds: 3600", "rescan_seconds: 0.5")
    (studio.root / "pipeline.yaml").write_text(text)
    keep = studio.root / "inbox/keep"
    keep.rmdir()
    with studio.watching():
        studio.put("keep/cat.png", picture(1))
        studio.wait(lambda: len(studio.manifests()) == 1)
        keep.rename(studio.root / "away")
        time.sleep(1.5)
        keep.mkdir()
        studio.put("keep/dog.png", picture(2))
        studio.wait(lambda: len(studio.manifests()) == 2)
        for path in (keep / "dog.png", keep):
            path.rmdir() if path.is_dir() else path.unlink()
        time.sleep(1.5)
        (studio.root / "away").rename(keep)
        studio.put("keep/cow.png", picture(3))
        studio.wait(lambda: len(studio.manifests()) == 3)
        time.sleep(1.5)
    names = sorted(manifest["input"]["name"] for manifest in studio.manifests().values())
    assert names == ["cat.png", "cow.png", "dog.png"], "and nothing twice"


def test_inboxes_that_are_unmounted_while_their_jobs_run(studio: Studio, elsewhere: Path) -> None:
    """The disk is a folder of another file system behind links, which lead to empty ones then."""
    text = CONFIG.replace("rescan_seconds: 3600", "rescan_seconds: 0.5")
    (studio.root / "pipeline.yaml").write_text(text.replace("{}", "{seconds: 1}"))
    links = [studio.root / "inbox" / name for name in ("archive", "keep")]

    def lead_to(disk: Path) -> None:
        for link in links:
            (disk / link.name).mkdir(parents=True, exist_ok=True)
            link.unlink() if link.is_symlink() else link.rmdir()
            link.symlink_to(disk / link.name)

    def status() -> dict[str, Any]:
        return json.loads((studio.outbox / "status.json").read_text("utf-8"))

    lead_to(elsewhere)
    names = [f"{link.name}/{number}.png" for link in links for number in range(4)]
    for number, name in enumerate(names):
        studio.put(name, picture(number))
    with studio.watching():
        studio.wait(lambda: len(studio.manifests()) == 1 and status()["running"] is not None)
        lead_to(studio.root / "bare")
        studio.wait(lambda: [hold["code"] for hold in status()["holds"]] == ["inbox_unavailable"])
        studio.wait(lambda: len(studio.manifests()) >= 5)
        time.sleep(2)
        assert len(studio.manifests()) < len(names)
        lead_to(elsewhere)
        studio.wait(lambda: len(studio.manifests()) == len(names))
        time.sleep(2)
    assert not list(studio.outbox.rglob("failed"))
    folders = studio.manifests()
    assert sorted(f"{f.split('/')[0]}/{m['input']['name']}" for f, m in folders.items()) == names
    archived = [studio.outbox / f for f in folders if f.startswith("archive/")]
    assert all(len(list((folder / "source").iterdir())) == 1 for folder in archived)
    assert len(list((elsewhere / "keep").iterdir())) == 4
