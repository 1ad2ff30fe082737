"""The film: what players need, the pictures as they were, and no half of it."""

import errno
import hashlib
import io
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dna_pipeline.base.errors import Cancelled, VideoFailed
from dna_pipeline.media import video
from dna_pipeline.media.video import try_out, write_mp4


def ffmpeg() -> str:
    from imageio_ffmpeg import get_ffmpeg_exe

    return get_ffmpeg_exe()


def frames(count: int = 7, size_px: int = 64) -> Iterator[np.ndarray]:
    """A dark disc on white that moves to the right, and a patch of each main colour."""
    y, x = np.mgrid[:size_px, :size_px]
    for number in range(count):
        picture = np.full((size_px, size_px, 3), 255, np.uint8)
        picture[(x - 20 - 3 * number) ** 2 + (y - 40) ** 2 < 100] = (30, 60, 90)
        for channel in range(3):
            picture[4:20, 4 + 16 * channel : 20 + 16 * channel] = 0
            picture[4:20, 4 + 16 * channel : 20 + 16 * channel, channel] = 220
        yield picture


def decoded(path: Path, size_px: int = 64) -> np.ndarray:
    command = [ffmpeg(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, size_px, size_px, 3).astype(int)


def told(path: Path) -> str:
    """What ffmpeg says of a film."""
    return subprocess.run([ffmpeg(), "-i", str(path)], capture_output=True, text=True).stderr


def boxes(data: bytes) -> list[str]:
    """The kinds of the outermost boxes (ISO 14496-12), in their order."""
    kinds, place = [], 0
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        kinds.append(kind.decode())
        place += size
    return kinds


def test_players_can_open_it(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_mp4(path, frames(), 64, 12)
    said = told(path)
    assert "h264" in said
    assert "yuv420p(tv, bt709, progressive), 64x64" in said
    assert "12 fps" in said
    kinds = boxes(path.read_bytes())
    assert kinds.index("moov") < kinds.index("mdat")
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_the_pictures_are_those_given(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_mp4(path, frames(), 64, 12)
    found, given = decoded(path), np.stack(list(frames())).astype(int)
    assert found.shape == given.shape
    assert np.abs(found - given).mean() < 2
    inner = (slice(None), slice(8, 16), slice(8, 16))
    assert np.abs(found[inner] - (220, 0, 0)).max() <= 8  # so the matrix is the one that is told
    assert (found[:, 60:, :4] >= 254).all()


def test_the_same_pictures_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_mp4(tmp_path / name, frames(30), 64, 12)
    hashes = {hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.iterdir()}
    assert len(hashes) == 1
    assert b"Lavf" not in (tmp_path / "a").read_bytes()  # its version


def test_an_odd_side_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even, not 63"):
        write_mp4(tmp_path / "film.mp4", frames(1, 63), 63, 12)


# --- failures ------------------------------------------------------------------------------------


def test_what_stops_the_pictures_leaves_no_file(tmp_path: Path) -> None:
    def stopped() -> Iterator[np.ndarray]:
        yield from frames(3)
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        write_mp4(tmp_path / "film.mp4", stopped(), 64, 12)
    assert list(tmp_path.iterdir()) == []


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """An ffmpeg that does what the script says; a folder for the film."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: str(program))
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_what_stops_the_pictures_stops_ffmpeg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped() -> Iterator[np.ndarray]:
        yield from frames(1)
        raise Cancelled("stop")

    folder = stand_in(tmp_path, monkeypatch, "exec sleep 1000")  # beyond the test's own limit
    with pytest.raises(Cancelled):
        write_mp4(folder / "film.mp4", stopped(), 64, 12)
    assert list(folder.iterdir()) == []


def test_an_ffmpeg_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stand_in(tmp_path, monkeypatch, "echo 'Unknown encoder libx264' >&2; exit 8")
    with pytest.raises(VideoFailed, match="ended with 8: Unknown encoder libx264"):
        write_mp4(folder / "film.mp4", frames(200), 64, 12)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EINVAL])
def test_a_process_that_has_ended_takes_no_more(number: int) -> None:
    """On Windows a write to it is an invalid argument; what stops the pictures is told as it is."""

    class Ended(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(number, os.strerror(number))

    pictures = iter(np.zeros((3, 2, 2, 3), np.uint8))
    process = SimpleNamespace(stdin=Ended())
    video._feed(process, pictures)
    assert process.stdin.closed
    assert len(list(pictures)) == 2

    def failing() -> Iterator[np.ndarray]:
        raise OSError(number, "a picture")
        yield

    with pytest.raises(OSError, match="a picture"):
        video._feed(SimpleNamespace(stdin=io.BytesIO()), failing())


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "av_interleaved_write_frame(): No space left on device"
    folder = stand_in(tmp_path, monkeypatch, f"cat > /dev/null; echo '{said}' >&2; exit 228")
    with pytest.raises(OSError, match="No space left") as caught:
        write_mp4(folder / "film.mp4", frames(), 64, 12)
    assert caught.value.errno == errno.ENOSPC
    assert list(folder.iterdir()) == []


def test_no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nowhere"))
    with pytest.raises(VideoFailed, match="nowhere cannot be run: No such file"):
        write_mp4(tmp_path / "film.mp4", frames(), 64, 12)
    assert list(tmp_path.iterdir()) == []

    def none() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", none)
    with pytest.raises(VideoFailed, match="there is no ffmpeg: No ffmpeg exe"):
        write_mp4(tmp_path / "film.mp4", frames(), 64, 12)
    assert list(tmp_path.iterdir()) == []


def test_what_tries_ffmpeg_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.match(r"\S+, .*ffmpeg", try_out(tmp_path / "film.mp4"))
    assert (tmp_path / "film.mp4").stat().st_size > 0
    folder = stand_in(tmp_path, monkeypatch, "echo 'Unknown encoder libx264' >&2; exit 1")
    with pytest.raises(VideoFailed, match="Unknown encoder"):
        try_out(folder / "film.mp4")
