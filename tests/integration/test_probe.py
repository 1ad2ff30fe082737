"""The decoder in its own process."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from dna_pipeline import probe
from dna_pipeline.errors import ImageTooSmall, ImageUnreadable
from dna_pipeline.probe import NotReadable, Probed, Prober


@pytest.fixture
def prober():
    prober = Prober()
    yield prober
    prober.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    Image.new("RGB", (64, 48)).save(path)
    return path


def test_answers(prober, image: Path, tmp_path: Path) -> None:
    assert prober.probe(image) == Probed(64, 48)
    first = prober._process.pid
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    assert type(prober.probe(tmp_path / "small.png")) is ImageTooSmall
    (tmp_path / "half.png").write_bytes(image.read_bytes()[:-20])
    assert type(prober.probe(tmp_path / "half.png")) is ImageUnreadable
    (tmp_path / "text.png").write_text("not an image")
    assert type(prober.probe(tmp_path / "text.png")) is ImageUnreadable
    gone = prober.probe(tmp_path / "gone.png")
    assert type(gone) is NotReadable
    assert gone.detail == "cannot be read: No such file or directory"
    assert prober._process.pid == first


def test_renders_are_decoded_in_the_child_too(prober, tmp_path: Path) -> None:
    planes = {name: np.full((48, 64), 0.5, np.float32) for name in "RGB"}
    depth = np.ones((48, 64), np.float32)
    OpenEXR.File({"type": OpenEXR.scanlineimage}, planes).write(str(tmp_path / "a.exr"))
    path = (tmp_path / "a.exr").rename(tmp_path / os.fsdecode(b"caf\xe9.exr"))
    assert prober.probe(path) == Probed(64, 48)
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    answer = prober.probe(path)
    assert isinstance(answer, ImageUnreadable)
    assert "truncated" in answer.detail
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"Z": depth}).write(str(tmp_path / "z.exr"))
    answer = prober.probe(tmp_path / "z.exr")
    assert isinstance(answer, ImageUnreadable)
    assert "beauty" in answer.hint
    path.write_bytes(data)
    assert prober.probe(path) == Probed(64, 48)


def test_a_child_that_dies_is_an_answer_and_is_replaced(prober, image: Path) -> None:
    prober.probe(image)
    os.kill(prober._process.pid, signal.SIGKILL)
    answer = prober.probe(image)
    assert isinstance(answer, ImageUnreadable)
    assert "crashed" in answer.detail
    assert prober.probe(image) == Probed(64, 48)


def test_a_child_that_hangs_is_ended(prober, image: Path, monkeypatch) -> None:
    monkeypatch.setattr(probe, "TIMEOUT_S", 2.0)
    assert prober.probe(image) == Probed(64, 48)
    os.kill(prober._process.pid, signal.SIGSTOP)
    assert isinstance(prober.probe(image), ImageUnreadable)
    assert prober._process is None


def test_a_child_that_nobody_waits_for_is_not_late(prober, image: Path, monkeypatch) -> None:
    monkeypatch.setattr(probe, "TIMEOUT_S", 4.0)
    prober.probe(image)
    (asked,) = prober.ask([image])
    first = prober._process.pid
    os.kill(first, signal.SIGSTOP)
    time.sleep(4.6)
    os.kill(first, signal.SIGCONT)
    assert prober.answer(asked) == Probed(64, 48)
    assert prober._process.pid == first


def test_asked_ahead(prober, image: Path, tmp_path: Path) -> None:
    (tmp_path / "half.png").write_bytes(image.read_bytes()[:-20])
    paths = [image, tmp_path / "half.png", tmp_path / "gone.png", image] * 500
    asked = prober.ask(paths)
    assert prober.probe(image) == Probed(64, 48), "one asked in between waits its turn"
    kinds = [type(prober.answer(question)) for question in asked]
    assert kinds == [Probed, ImageUnreadable, NotReadable, Probed] * 500
    assert prober.answer(asked[0]) == Probed(64, 48), "it stays answered"


def test_only_the_file_that_the_child_died_over_is_to_blame(prober, image: Path) -> None:
    prober.probe(image)
    os.kill(prober._process.pid, signal.SIGSTOP)
    asked = prober.ask([image] * 3)
    os.kill(prober._process.pid, signal.SIGKILL)
    answers = [prober.answer(question) for question in asked]
    assert isinstance(answers[0], ImageUnreadable)
    assert answers[1:] == [Probed(64, 48)] * 2


def test_closing_while_another_thread_waits_condemns_no_file(prober, image: Path) -> None:
    prober.probe(image)
    os.kill(prober._process.pid, signal.SIGSTOP)
    raised: list[Exception] = []

    def ask() -> None:
        try:
            prober.probe(image)
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.2)
    prober.close()
    thread.join(5)
    assert [str(error) for error in raised] == ["the decoder was closed"]
    with pytest.raises(RuntimeError):
        prober.probe(image)
