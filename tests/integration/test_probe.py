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

from dna_pipeline.base import ipc
from dna_pipeline.base.errors import ImageTooLarge, ImageTooSmall, ImageUnreadable
from dna_pipeline.intake.discovery import probe
from dna_pipeline.intake.discovery.probe import NotReadable, Probed, Prober
from dna_pipeline.media import images
from dna_pipeline.media.formats import exr


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


@pytest.mark.slow
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


SMALLER = """
from dna_pipeline.intake.discovery import probe
from dna_pipeline.media.formats import exr
exr.MAX_DECODED_BYTES, probe.MEMORY_BYTES = LIMITS
probe.main()
"""
MIB = 1 << 20


@pytest.fixture
def render(tmp_path: Path) -> Path:
    """Eight passes that decode to 64 MiB, of primaries that are converted."""
    light = np.zeros((1024, 2048), np.float32)
    planes = dict.fromkeys(("R", "G", "B", "A", "a.X", "b.X", "c.X", "d.X"), light)
    path = tmp_path / "a.exr"
    header = {
        "type": OpenEXR.scanlineimage,
        "compression": OpenEXR.ZIP_COMPRESSION,
        "chromaticities": (0.713, 0.293, 0.165, 0.83, 0.128, 0.044, 0.32168, 0.33767),
    }
    OpenEXR.File(header, planes).write(str(path))
    return path


IN_ONE_PIECE = """
from dna_pipeline.base import ipc
inbound, out = ipc.claim_stdio()
next(ipc.messages(inbound))
good = [ipc.encoded({"width": 64, "height": side}) for side in (16, 17, 18)]
out.write(b"".join([*good[:2], ipc.encoded({"odd": 1}), good[2]]))
"""


def test_answers_in_one_piece_each_belong_to_their_file(
    prober, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in_one_piece.py").write_text(IN_ONE_PIECE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    real = ipc.spawn
    monkeypatch.setattr(ipc, "spawn", lambda _: real("in_one_piece"))
    asked = prober.ask(tmp_path / name for name in ("a.png", "b.png", "c.png", "d.png"))
    first, second, third, fourth = map(prober.answer, asked)
    assert (first, second) == (Probed(64, 16), Probed(64, 17))
    assert isinstance(third, ImageUnreadable)
    assert fourth == Probed(64, 16)  # by the next child: what the first one said after it is gone


def smaller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *limits: int) -> None:
    """Start decoders with these limits: what decodes in all, what memory they may have."""
    (tmp_path / "smaller.py").write_text(SMALLER.replace("LIMITS", repr(limits)))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    real = ipc.spawn
    monkeypatch.setattr(ipc, "spawn", lambda _: real("smaller"))


@pytest.mark.slow
def test_the_largest_render_that_is_let_in_can_be_decoded(
    prober, render: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit on layers and that on memory fit together; threads of numpy's would take 40 MB each
    from the second."""
    beside = probe.MEMORY_BYTES - exr.MAX_DECODED_BYTES
    # 100,000,000 px are the most: as 8 bits of RGBA twice, once as an array and once as a picture.
    assert beside >= 2 * 4 * images.MAX_PIXELS + 200 * MIB
    pixels = 2 * 4 * 1024 * 2048
    smaller(monkeypatch, tmp_path, 64 * MIB, 64 * MIB + pixels + 165 * MIB)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    assert prober.probe(render) == Probed(2048, 1024)


@pytest.mark.slow
def test_a_render_that_is_too_large_is_refused_by_a_limit_that_is_named(
    prober, render: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller(monkeypatch, tmp_path, 64 * MIB - 1, 5 << 30)
    answer = prober.probe(render)
    assert isinstance(answer, ImageTooLarge)
    assert f"at most {64 * MIB - 1} bytes" in answer.detail


@pytest.mark.slow
@pytest.mark.parametrize("spare_mib", [40, 60, 80])
def test_a_render_for_which_memory_is_lacking_is_not_called_damaged(
    prober, render: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare_mib: int
) -> None:
    smaller(monkeypatch, tmp_path, 5 << 30, (64 + spare_mib) * MIB)
    answer = prober.probe(render)
    assert isinstance(answer, ImageTooLarge)
    assert "of memory allowed for it" in answer.detail


@pytest.mark.slow
def test_a_child_that_dies_is_an_answer_and_is_replaced(prober, image: Path) -> None:
    prober.probe(image)
    os.kill(prober._process.pid, signal.SIGKILL)
    answer = prober.probe(image)
    assert isinstance(answer, ImageUnreadable)
    assert "crashed" in answer.detail
    assert prober.probe(image) == Probed(64, 48)


@pytest.mark.slow
def test_a_child_that_hangs_is_ended(prober, image: Path, monkeypatch) -> None:
    monkeypatch.setattr(probe, "TIMEOUT_S", 2.0)
    assert prober.probe(image) == Probed(64, 48)
    os.kill(prober._process.pid, signal.SIGSTOP)
    answer = prober.probe(image)
    assert isinstance(answer, ImageUnreadable)
    assert "took too long" in answer.detail
    assert prober._process is None


@pytest.mark.slow
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


@pytest.mark.slow
def test_asked_ahead(prober, image: Path, tmp_path: Path) -> None:
    (tmp_path / "half.png").write_bytes(image.read_bytes()[:-20])
    paths = [image, tmp_path / "half.png", tmp_path / "gone.png", image] * 500
    asked = prober.ask(paths)
    assert prober.probe(image) == Probed(64, 48), "one asked in between waits its turn"
    kinds = [type(prober.answer(question)) for question in asked]
    assert kinds == [Probed, ImageUnreadable, NotReadable, Probed] * 500
    assert prober.answer(asked[0]) == Probed(64, 48), "it stays answered"


@pytest.mark.slow
def test_only_the_file_that_the_child_died_over_is_to_blame(prober, image: Path) -> None:
    prober.probe(image)
    os.kill(prober._process.pid, signal.SIGSTOP)
    asked = prober.ask([image] * 3)
    os.kill(prober._process.pid, signal.SIGKILL)
    answers = [prober.answer(question) for question in asked]
    assert isinstance(answers[0], ImageUnreadable)
    assert answers[1:] == [Probed(64, 48)] * 2


@pytest.mark.slow
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
