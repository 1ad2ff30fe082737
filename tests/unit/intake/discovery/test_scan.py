import os
import shutil
import socket
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.scan import (
    FileStat,
    is_image_name,
    is_yaml_name,
    scan,
)
from tests.junctions import pretend


def inbox(path: Path, **options) -> Inbox:
    return Inbox(name="in", path=path, pipeline="p", **options)


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_files_are_images_and_yamls_with_their_stat(tmp_path: Path) -> None:
    put(tmp_path, "cat.png", "cat.yaml", "dog.JPEG", "job.YML")
    found = scan(inbox(tmp_path))
    assert set(found.files) == {"cat.png", "cat.yaml", "dog.JPEG", "job.YML"}
    assert found.files["cat.png"] == FileStat.of((tmp_path / "cat.png").lstat())
    assert found.ignored == {}


@pytest.mark.parametrize(
    "suffix",
    [
        "png",
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "webp",
        "gif",
        "tif",
        "tiff",
        "bmp",
        "avif",
        "heic",
        "heif",
        "hif",
        "apng",
        "mpo",
        "exr",
        "HEIC",
        "PNG",
    ],
)
def test_image_kinds(suffix: str) -> None:
    assert is_image_name(f"sub.d/a.b.{suffix}")
    assert not is_yaml_name(f"a.{suffix}")


@pytest.mark.parametrize("name", ["a.psd", "a.svg", "a.yaml.txt", "png", "a.png/b", "a.", "a.pngx"])
def test_no_images(name: str) -> None:
    assert not is_image_name(name)
    assert not is_yaml_name(name)


PASSED_OVER = [
    ".cat.png",
    "._cat.png",
    ".DS_Store",
    "Thumbs.db",
    "thumbs.DB",
    "desktop.ini",
    "a.png.tmp",
    "a.png.part",
    "a.png.PARTIAL",
    "a.png.crdownload",
    "~a.png",
    ".syncthing.a.png.tmp",
    "~syncthing~a.png.tmp",
    ".a.png.Xy12Zq",
    ".dna/ledger/drop/a.png",
    "a.png@",
    "scene.blend@",
    "comp.nk~",
    "a.png~",
    "a.yaml.swp",
    ".~lock.a.png#",
    "a.png.lock",
    "psA1B2.tmp",
    "a.exr.4711.tmp",
    "b.exr.mantra_checkpoint",
    "a.png.sb-515b24a2-00Ug5l/a.png",
    "b.png.aria2",
    "b.png.opdownload",
    "b.png.!qB",
    "SYNOPHOTO_THUMB_XL.jpg",
    "ehthumbs.db",
]

SYSTEM_FOLDERS = [
    "@eaDir",
    "#recycle",
    "#snapshot",
    "@sharesnap",
    "@Recycle",
    "@Recently-Snapshot",
    "@tmp",
    "@sharebin",
    "$RECYCLE.BIN",
    "RECYCLER",
    "System Volume Information",
    "found.000",
    "lost+found",
    ".Trashes",
    ".Trash-1000",
    "__MACOSX",
    "~snapshot",
    ".snapshots",
    ".zfs",
    ".stfolder",
    ".stversions",
    ".AppleDouble",
    ".@__thumb",
    "Network Trash Folder",
    "cat.png.download",
    "Photos Library.photoslibrary",
    "Aperture.aplibrary",
    "iPhoto.migratedphotolibrary",
    "Lightroom Previews.lrdata",
    "Poster.pages",
]

ORDINARY_FOLDERS = [
    "@home",
    "#1",
    "recycled glass",
    "snapshot",
    "tmp",
    "lost and found",
    "found.objects",
    "download",
    "photoslibrary",
    "__render",
    "battle (conflict)",
    "clash of titans",
]

CONFLICT_COPIES = [
    "c.sync-conflict-20240101-120000-ABCDEFG.png",
    "c.sync-conflict-20150101-120000.jpg",
    "cat.png.sync-conflict-20260101-120000-ABCDEFG.yaml",
    "cat (Anna's conflicted copy 2026-01-01).png",
    "cat (Anna (work)'s conflicted copy 2026-01-01).png",
    "cat (2) (Anna\u2019s conflicted copy 2026-01-01 (1)).png",
    "shots (Anna's conflicted copy 2026-01-01).csv",
    "cat (Case Conflict).png",
    "cat (Anna's case conflict 1).yaml",
    "cat (Unicode Encoding Conflict).png",
    "cat (white space conflict).png",
    "cat (Annas in Konflikt stehende Kopie 2026-01-01).png",
    "cat (Copie en conflit de Anna 2026-01-01).png",
    "cat (Copie en conflit de Anna (pro) 2026-01-01).png",
    "cat (Copia en conflicto de Anna 2026-01-01).png",
    "cat (C\u00f3pia em conflito de Anna 2026-01-01).png",
    "cat (Anna \u306e\u7af6\u5408\u30b3\u30d4\u30fc 2026-01-01).png",
    "cat (conflicted copy 2026-04-10 093612).png",
    "cat (conflicted copy anna 2026-04-10 093612).png",
    "cat (case clash from anna 2026-05-12 101010).png",
    "cat_conflict-20160101-120000.png",
    "cat (SFConflict anna@example.org 2026-03-07-11-30-28).png",
    "cat_Anna-PC_Jan-03-0901-2026_CaseConflict_1.png",
    "cat.Conflict.png",
    "cat.conflict1.png",
    "cat [conflicted].png",
]

FINAL = [
    "a_tmp.exr",
    "tmp.png",
    "a.tmp.png",
    "part.png",
    "lock.png",
    "left@2x.png",
    "a~1.png",
    "a.sb-12.png",
    "door.sb-515b24a2-00Ug5l.png",
    "ps1234.png",
    "a_part.exr",
    "conflict.png",
    "cat_conflict.png",
    "cat.conflict.png",
    "battle (conflict).png",
    "the conflicted copy.png",
    "clash (of titans).png",
    "cat (2026-01-01).png",
    "sync-conflict.png",
    "@cat.png",
    "#cat.png",
    "recycler.png",
]


def test_what_is_none_of_our_business_is_not_even_mentioned(tmp_path: Path) -> None:
    put(tmp_path, *PASSED_OVER, "a.png")
    found = scan(inbox(tmp_path, recursive=True))
    assert set(found.files) == {"a.png"}
    assert found.ignored == {}


@pytest.mark.parametrize("case", [str, str.upper, str.lower])
@pytest.mark.parametrize("above", ["", "photos/2026/"])
def test_folders_of_systems_are_passed_over(
    tmp_path: Path, above: str, case: Callable[[str], str]
) -> None:
    put(tmp_path, *(f"{above}{case(name)}/sub/a.png" for name in SYSTEM_FOLDERS), f"{above}b.png")
    found = scan(inbox(tmp_path, recursive=True))
    assert set(found.files) == {f"{above}b.png"}
    assert found.ignored == {}


def test_folders_with_names_alike_are_read(tmp_path: Path) -> None:
    put(tmp_path, *(f"{name}/a.png" for name in ORDINARY_FOLDERS))
    found = scan(inbox(tmp_path, recursive=True))
    assert set(found.files) == {f"{name}/a.png" for name in ORDINARY_FOLDERS}


@pytest.mark.parametrize("name", ["#recycle", "@eaDir", "a (Case Conflict)", ".hidden"])
def test_an_inbox_may_be_called_anything(tmp_path: Path, name: str) -> None:
    put(tmp_path / name, "sub/a.png")
    assert set(scan(inbox(tmp_path / name, recursive=True)).files) == {"sub/a.png"}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_conflict_copies_are_told_of_and_not_taken(tmp_path: Path, form: str) -> None:
    names = [unicodedata.normalize(form, name) for name in CONFLICT_COPIES]
    put(tmp_path, *names, "photos (Anna's conflicted copy 2026-01-01)/a.png", "cat.png")
    found = scan(inbox(tmp_path, recursive=True, include=("*.png",)))
    assert set(found.files) == {"cat.png"}
    assert set(found.ignored) == {*names, "photos (Anna's conflicted copy 2026-01-01)"}
    assert all(reason.startswith("a conflict copy") for reason in found.ignored.values())


def test_what_a_job_file_names_is_taken_from_anywhere_but_hidden_places(tmp_path: Path) -> None:
    names = ["@eaDir/a.png", "#recycle/b.png", CONFLICT_COPIES[0], ".hidden/c.png", "d.png.part"]
    put(tmp_path, *names)
    found = scan(inbox(tmp_path), names)
    assert set(found.files) == set(names[:3])
    assert CONFLICT_COPIES[0] not in found.ignored


def test_what_may_be_a_final_name_is_taken(tmp_path: Path) -> None:
    put(tmp_path, *FINAL)
    assert set(scan(inbox(tmp_path)).files) == set(FINAL)


def test_what_mantra_still_renders_is_left_and_told(tmp_path: Path) -> None:
    put(tmp_path, "a.exr", "sub/b.exr", "sub/b.exr.mantra_checkpoint", "sub/c.exr")
    named = ["sub/b.exr", "sub/c.exr"]
    found = scan(inbox(tmp_path, recursive=True), named)
    assert set(found.files) == {"a.exr", "sub/c.exr"}
    assert "Houdini is rendering it" in found.ignored["sub/b.exr"]
    (tmp_path / "sub" / "b.exr.mantra_checkpoint").unlink()
    assert "sub/b.exr" in scan(inbox(tmp_path, recursive=True), named).files


@pytest.mark.parametrize(
    ("name", "partial", "size"),
    [
        ("cat.png", "cat.Xa1b2.png.part", 0),
        ("cat.png", "cat.png.part", 0),
        ("CAT.png", "cat.PNG.crdownload", 0),
        ("cat.png", "cat.png.a1b2.partial", 0),
        ("shots.csv", "shots.Xa1b2.csv.part", 0),
        ("cat.png.yaml", "cat.png.Xa1b2.yaml.part", 0),
        ("cat.png", "cat.png.aria2", 5),
    ],
)
@pytest.mark.parametrize("folder", ["", "sub/"])
def test_a_download_under_way_is_known_by_the_file_beside_it(
    tmp_path: Path, name: str, partial: str, size: int, folder: str
) -> None:
    put(tmp_path, folder + partial, folder + "other.png", "dog.jpg.part")
    (tmp_path / folder / name).write_bytes(bytes(size))
    (tmp_path / folder / "empty.png").touch()
    found = scan(inbox(tmp_path, recursive=True))
    assert found.downloading == {folder + name}
    assert folder + name in found.files
    if name.endswith(".png"):
        named = scan(inbox(tmp_path, include=("*.gif",)), [folder + name])
        assert named.downloading == {folder + name}
    (tmp_path / folder / partial).unlink()
    assert scan(inbox(tmp_path, recursive=True)).downloading == set()


def test_what_is_ignored_is_told_with_the_reason(tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"x")
    root = tmp_path / "in"
    put(root, "cat.yaml.txt", "photo.jxl", "sub/deep.png")
    (root / "link.png").symlink_to(outside)
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # a socket's path may be no longer than 108 bytes
        try:
            server.bind("socket.png")
        finally:
            os.chdir(here)
    found = scan(inbox(root))
    assert found.files == {}
    assert found.ignored == {
        "cat.yaml.txt": "a kind of file that is not understood; "
        "a YAML's name ends in .yaml, not in .txt",
        "photo.jxl": "a kind of file that is not understood; save it as PNG or JPEG; if it is one "
        "already, or another image that is read, rename it, so that its name ends so",
        "sub": "a subfolder, and this inbox is not recursive",
        "link.png": "a symbolic link",
        "loop": "a symbolic link",
        "pipe.png": "not a regular file",
        "socket.png": "not a regular file",
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("DSC_1.CR2", "save it as PNG or JPEG"),
        ("x.psd", "if it is one already, or another image that is read, rename it"),
        ("photos.zip", "unpack it"),
        ("IMG_0001", "its name has no ending; an image's ends in .png"),
    ],
)
def test_the_reason_says_what_to_do(tmp_path: Path, name: str, words: str) -> None:
    put(tmp_path, name)
    assert words in scan(inbox(tmp_path)).ignored[name]


def test_recursive_reads_real_subfolders_only(tmp_path: Path) -> None:
    root = tmp_path / "in"
    put(root, "a.png", "x/b.png", "x/y/c.yaml", "x/.hidden/d.png", "x/notes.txt")
    put(tmp_path / "elsewhere", "e.png")
    (root / "x" / "up").symlink_to(root)
    (root / "x" / "out").symlink_to(tmp_path / "elsewhere")
    found = scan(inbox(root, recursive=True))
    assert set(found.files) == {"a.png", "x/b.png", "x/y/c.yaml"}
    assert found.ignored == {
        "x/notes.txt": "a kind of file that is not understood",
        "x/up": "a symbolic link",
        "x/out": "a symbolic link",
    }


def test_a_junction_is_a_link_and_not_entered(tmp_path: Path, monkeypatch) -> None:
    put(tmp_path, "a.png", "there/b.png", "real/c.png")
    pretend(monkeypatch, "there")
    found = scan(inbox(tmp_path, recursive=True), ["there/b.png"])
    assert set(found.files) == {"a.png", "real/c.png"}
    assert "junction" in found.ignored["there"]
    assert set(scan(inbox(tmp_path), ["there/b.png", "real/c.png"]).files) == {
        "a.png",
        "real/c.png",
    }


def test_include_limits_images_and_ignore_limits_everything(tmp_path: Path) -> None:
    put(
        tmp_path, "a.png", "a.jpg", "a.yaml", "draft.png", "old/b.png", "new/c.PNG", "new/old/d.png"
    )
    options = {"include": ("*.png",), "ignore": ("draft*", "old/"), "recursive": True}
    found = scan(inbox(tmp_path, **options))
    assert set(found.files) == {"a.png", "a.yaml", "new/c.PNG"}
    assert found.ignored == {"a.jpg": "not among what this inbox includes"}


@pytest.mark.parametrize("glob", ["**/b.png", "x/*.png", "x", "./x/b.png", "B.PNG"])
def test_globs_fit_path_or_name(tmp_path: Path, glob: str) -> None:
    put(tmp_path, "x/b.png", "y/c.png")
    found = scan(inbox(tmp_path, recursive=True, ignore=(glob,)))
    assert set(found.files) == {"y/c.png"}


def test_globs_fit_names_in_either_unicode_form(tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", "é.png")
    put(tmp_path, unicodedata.normalize("NFD", "é.png"))
    assert scan(inbox(tmp_path, ignore=(composed,))).files == {}


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"xyz")
    (name,) = scan(inbox(tmp_path)).files
    assert os.fsencode(name) == b"caf\xe9.png"
    assert (tmp_path / name).read_bytes() == b"xyz"


def test_the_inbox_may_be_named_by_a_link(tmp_path: Path) -> None:
    put(tmp_path / "real", "a.png")
    (tmp_path / "in").symlink_to(tmp_path / "real")
    assert set(scan(inbox(tmp_path / "in")).files) == {"a.png"}


def test_an_inbox_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan(inbox(tmp_path / "none"))
    put(tmp_path, "file")
    with pytest.raises(NotADirectoryError):
        scan(inbox(tmp_path / "file"))


def test_a_subfolder_that_cannot_be_read_stops_nothing(tmp_path: Path, monkeypatch) -> None:
    put(tmp_path, "a.png", "locked/b.png")
    real = os.scandir

    def scandir(path):
        if str(path).rstrip("/").endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = scan(inbox(tmp_path, recursive=True))
    assert set(found.files) == {"a.png"}
    assert found.ignored == {"locked": "a folder that cannot be read: Permission denied"}


def test_named_images_are_found_in_subfolders_and_beyond_include(tmp_path: Path) -> None:
    put(tmp_path, "sub/a.png", "b.jpg", ".dna/l/d/c.png", "skip.png", "sub/notes.txt")
    put(tmp_path.with_name("far"), "f.png")
    (tmp_path / "link").symlink_to(tmp_path.with_name("far"))
    (tmp_path / "link.png").symlink_to(tmp_path / "b.jpg")
    named = [
        "sub/a.png",
        "b.jpg",
        ".dna/l/d/c.png",
        "skip.png",
        "sub/notes.txt",
        "link/f.png",
        "link.png",
        "none/at/all.png",
        "a\0b.png",
    ]
    found = scan(inbox(tmp_path, include=("*.gif",), ignore=("skip*",)), named)
    assert set(found.files) == {"sub/a.png", "b.jpg"}
    assert "b.jpg" not in found.ignored
    assert set(scan(inbox(tmp_path, include=("*.gif",))).files) == set()


def test_what_stat_tells_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    put(tmp_path, "a.png", "b.png")
    before = FileStat.of(path.lstat())
    time.sleep(0.02)
    path.rename(tmp_path / "c.png")
    moved = FileStat.of((tmp_path / "c.png").lstat())
    assert moved.ctime_ns != before.ctime_ns
    assert moved.same_content(before)
    other = FileStat.of((tmp_path / "b.png").lstat())
    assert not other.same_content(before)
    assert not other.same_file(before)
    with (tmp_path / "c.png").open("ab") as file:
        file.write(b"more")
    grown = FileStat.of((tmp_path / "c.png").lstat())
    assert grown.same_file(before)
    assert not grown.same_content(before)
    os.utime(tmp_path / "c.png", ns=(0, 0))
    assert not FileStat.of((tmp_path / "c.png").lstat()).same_content(grown)


@pytest.mark.slow
def test_many_files_in_one_folder_are_scanned_fast(tmp_path: Path) -> None:
    for number in range(5000):
        os.close(os.open(tmp_path / f"{number}.png", os.O_CREAT))
    began = time.perf_counter()
    found = scan(inbox(tmp_path))
    assert len(found.files) == 5000
    assert time.perf_counter() - began < 1


MOUNTED = """
import os, subprocess, sys
from pathlib import Path
from dna_pipeline.intake.discovery.scan import scan
from dna_pipeline.config.schema import Inbox
root = Path(sys.argv[1])
def look(keeps=False):
    originals = "keep" if keeps else "archive"
    return scan(Inbox("in", root, "p", recursive=True, originals=originals))
subprocess.run(["mount", "-t", "tmpfs", "none", root / "sub"], check=True)
(root / "sub" / "a.png").write_bytes(b"x")
print(look().files, look().ignored, list(look(True).files))
subprocess.run(["mount", "-t", "tmpfs", "none", root], check=True)
print(look().files)
"""


@pytest.mark.slow
def test_mounts_are_noticed(tmp_path: Path, lacking: Callable[[str], None]) -> None:
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], check=False).returncode:
        lacking("no user namespaces here")
    (tmp_path / "sub").mkdir()
    done = subprocess.run(
        [*namespace, sys.executable, "-c", MOUNTED, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        "{} {'sub': 'a folder on another file system than the inbox'} ['sub/a.png']",
        "{}",
    ]
