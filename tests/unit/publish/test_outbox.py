import hashlib
from pathlib import Path

import pytest

from dna_pipeline.base.files import temporary_name
from dna_pipeline.base.layout import mirrored
from dna_pipeline.publish.outbox import Outbox, Publication


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    (tmp_path / "out").mkdir()
    return Outbox(tmp_path / "out", "ledger")


@pytest.fixture
def publication(tmp_path: Path) -> Publication:
    (tmp_path / "mesh").write_bytes(b"mesh")
    (tmp_path / "cat.png").write_bytes(b"cat")
    files = ((tmp_path / "mesh", "cat.glb"), (tmp_path / "cat.png", "source/cat.png"))
    return Publication("job", "in/cat-1", files, ("manifest.json", b"{}"), (("a.txt", b"a"),))


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("a/b", "a/b"), ("failed", "failed_"), ("FAILED/x", "FAILED_/x"), ("latest", "latest_"),
        ("a/failed", "a/failed"), ("con/a:b", "_con/a_b"), ("caf\\xe9", "caf_xe9"),
    ],
)  # fmt: skip
def test_mirrored_folders(folder: str, name: str) -> None:
    assert mirrored(folder) == name


def test_a_folder_appears_whole(outbox, publication) -> None:
    sha256 = outbox.build(publication)
    assert sha256 == hashlib.sha256(b"{}").hexdigest()
    assert outbox.is_staged("job", "manifest.json", sha256)
    assert not (outbox.root / "in").exists()
    outbox.publish("job", "in/cat-1")
    folder = outbox.folder("in/cat-1")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"cat.glb", "source/cat.png", "manifest.json", "a.txt"}
    assert outbox.holds("in/cat-1", "manifest.json", sha256)
    assert not outbox.holds("in/cat-1", "manifest.json", "0" * 64)
    assert not outbox.is_staged("job", "manifest.json", sha256)


def test_building_again_begins_anew(outbox, publication) -> None:
    outbox.build(publication)
    (outbox.staging("job") / "leftover").write_text("x")
    outbox.build(publication)
    assert not (outbox.staging("job") / "leftover").exists()


def test_a_taken_name_is_never_replaced(outbox, publication) -> None:
    outbox.build(publication)
    outbox.folder("in/cat-1").mkdir(parents=True)
    with pytest.raises(FileExistsError):
        outbox.publish("job", "in/cat-1")
    assert outbox.free_name("in/cat-1") == "in/cat-1-2"
    outbox.folder("in/cat-1-2").symlink_to("nowhere")
    assert outbox.free_name("in/cat-1") == "in/cat-1-3"
    assert outbox.free_name("in/dog-1") == "in/dog-1"


def test_latest_is_swapped(outbox, tmp_path: Path) -> None:
    source = tmp_path / "cat.glb"
    for data in (b"one", b"two"):
        source.write_bytes(data)
        outbox.put(source, outbox.root / "in/latest/sub/dir/cat.glb")
        assert (outbox.root / "in/latest/sub/dir/cat.glb").read_bytes() == data
        source.unlink()
    assert len(list((outbox.root / "in/latest/sub/dir").iterdir())) == 1


def test_who_reads_latest_while_it_is_swapped_reads_the_old_one_to_its_end(
    outbox, tmp_path: Path
) -> None:
    source = tmp_path / "cat.glb"
    source.write_bytes(b"one")
    outbox.put(source, outbox.root / "in/latest/cat.glb")
    target = outbox.root / "in/latest/cat.glb"
    source.write_bytes(b"twenty")
    with target.open("rb") as reader:
        outbox.put(source, outbox.root / "in/latest/cat.glb")
        assert (reader.read(), target.read_bytes()) == (b"one", b"twenty")


def test_latest_that_was_cut_off_is_swapped_all_the_same(outbox, tmp_path: Path) -> None:
    (outbox.root / ".dna/ledger").mkdir(parents=True)
    for name in ("latest.tmp", temporary_name()):
        (outbox.root / ".dna/ledger" / name).write_bytes(b"half")
    (tmp_path / "cat.glb").write_bytes(b"whole")
    outbox.put(tmp_path / "cat.glb", outbox.root / "in/latest/cat.glb")
    assert (outbox.root / "in/latest/cat.glb").read_bytes() == b"whole"
    outbox.remove_temporaries()
    assert list((outbox.root / ".dna/ledger").iterdir()) == []


def test_removing(outbox, publication) -> None:
    outbox.build(publication)
    outbox.publish("job", "in/cat-1")
    outbox.remove("in/cat-1")
    outbox.remove("in/cat-1")
    assert list((outbox.root / "in").iterdir()) == []
    assert list((outbox.root / ".dna/ledger").iterdir()) == []
