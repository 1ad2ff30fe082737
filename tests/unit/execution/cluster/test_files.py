"""Files of attempts: where they lie, and that none arrives damaged unnoticed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dna_pipeline.execution.cluster import files
from dna_pipeline.execution.protocol import FileRecord, Order, OrderInput, StageOrder


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def record(name: str, data: bytes) -> FileRecord:
    return FileRecord(name, "image", "image/png", len(data), sha256(data))


def order(folder: Path, *done: FileRecord) -> Order:
    inputs = (
        OrderInput("image", str(folder / "cat.png"), sha256(b"cat")),
        OrderInput("mask", str(folder / "masks/cat.png"), sha256(b"mask"), "masks/cat.png"),
    )
    stages = (
        StageOrder("a", "act", {}, "cat.a", done=done or None),
        StageOrder("b", "act", {}, ""),
    )
    return Order("j", 1, stages, inputs, str(folder / "work/j"))


def test_carried_inputs_keep_their_names_apart_from_one_another(tmp_path: Path):
    placed = files.placed(order(tmp_path), Path("/x"), with_inputs=True)
    assert [file.path for file in placed.inputs] == [
        str(Path("/x/inputs/0/cat.png")), str(Path("/x/inputs/1/cat.png")),
    ]  # fmt: skip
    assert placed.inputs[1].reference == "masks/cat.png"
    assert placed.work_dir == str(Path("/x/work"))


def test_shared_inputs_stay_where_they_are(tmp_path: Path):
    placed = files.placed(order(tmp_path), Path("/x"), with_inputs=False)
    assert placed.inputs == order(tmp_path).inputs


def test_finished_stages_are_linked_and_missing_files_left_out(tmp_path: Path):
    done = tmp_path / "work/j/a/one.png"
    done.parent.mkdir(parents=True)
    done.write_bytes(b"one")
    files.link_finished(
        order(tmp_path, record("one.png", b"one"), record("two.png", b"2")), tmp_path / "x"
    )
    assert [p.name for p in (tmp_path / "x/work/a").iterdir()] == ["one.png"]


def test_received_files_replace_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "CHUNK_BYTES", 3)
    folder = tmp_path / "work/a"
    folder.mkdir(parents=True)
    (folder / "old.png").write_bytes(b"old")
    sent = tmp_path / "sent.png"
    sent.write_bytes(b"0123456789")
    empty = tmp_path / "empty"
    empty.touch()
    read = {"new.png": sent, "none.png": empty}
    files.receive(
        folder, [record("new.png", b"0123456789"), record("none.png", b"")],
        lambda name, offset: files.read_chunk(read[name], offset),
    )  # fmt: skip
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        "new.png": b"0123456789", "none.png": b"",
    }  # fmt: skip


@pytest.mark.parametrize("arrived", [b"abX", b"ab", b"abcd"])
def test_a_file_that_arrives_damaged_is_no_file(tmp_path: Path, arrived: bytes):
    folder = tmp_path / "work/a"
    with pytest.raises(files.Damaged):
        files.receive(folder, [record("a.png", b"abc")], lambda _, offset: arrived[offset:])
    assert list(folder.iterdir()) == []


def test_adopted_files_stay_with_the_attempt_too(tmp_path: Path):
    made = tmp_path / "attempts/1/work/a"
    made.mkdir(parents=True)
    (made / "a.png").write_bytes(b"abc")
    files.adopt(tmp_path / "work/j/a", [record("a.png", b"abc")], made)
    assert (tmp_path / "work/j/a/a.png").read_bytes() == b"abc"
    assert (made / "a.png").exists()
    with pytest.raises(files.Damaged):
        files.adopt(tmp_path / "work/j/a", [record("a.png", b"abd")], made)


def test_pieces_make_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "CHUNK_BYTES", 4)
    source, target = tmp_path / "source", tmp_path / "x/target"
    source.write_bytes(b"0123456789")
    for _ in range(2):  # the second time anew
        for number, piece in enumerate(files.chunks(source)):
            files.append(target, piece, is_first=number == 0)
    files.check_arrival(target, sha256(b"0123456789"))
