"""Pictures → an MP4 that browsers and players show while it still loads.

H.264 with yuv420p, which all of them decode; the index before the pictures. The bytes depend on
the pictures and on the version of ffmpeg alone. ffmpeg comes with the package imageio-ffmpeg;
`$IMAGEIO_FFMPEG_EXE` names another.
"""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dna_pipeline.base.errors import VideoFailed
from dna_pipeline.base.files import write_atomic

MEDIA_TYPE = "video/mp4"

_TAIL = 600
"""Number of last characters of ffmpeg's complaint that an error shows."""


def write_mp4(path: Path, pictures: Iterable[NDArray[np.uint8]], size_px: int, fps: int) -> None:
    """Write a film whole or not at all.

    Args:
        pictures: (size, size, 3), sRGB; taken one by one as ffmpeg takes them.
        size_px: of a side, even.
        fps: pictures a second.

    Raises:
        VideoFailed: there is no ffmpeg that can be run, or it failed.
        OSError: the disk is full.
    """
    if size_px % 2:
        raise ValueError(f"a film's side must be even, not {size_px}")
    program = _ffmpeg()
    write_atomic(
        path, lambda file: _encode([program, *_options(size_px, fps, file.name)], pictures)
    )


def try_out(path: Path) -> str:
    """Write a film of two pictures, to see that it can be done; give ffmpeg's version and path.

    Raises:
        VideoFailed, OSError: as `write_mp4`.
    """
    from imageio_ffmpeg import get_ffmpeg_version

    write_mp4(path, [np.zeros((16, 16, 3), np.uint8)] * 2, 16, 12)
    return f"{get_ffmpeg_version()}, {_ffmpeg()}"


def _ffmpeg() -> str:
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise VideoFailed(f"there is no ffmpeg: {error}") from error


def _options(size_px: int, fps: int, target: str) -> list[str]:
    # BT.709 said and meant: without a word, players take what they like by the picture's height.
    to_video = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int"
    colors = "setparams=color_primaries=bt709:color_trc=bt709"
    repeatable = "-threads 1 -fflags +bitexact -flags:v +bitexact"
    return [
        *("-hide_banner", "-loglevel", "error", "-nostdin", "-y"),
        *f"-f rawvideo -pix_fmt rgb24 -s {size_px}x{size_px} -r {fps} -i pipe:0".split(),
        *("-vf", f"{to_video},format=yuv420p,{colors}"),
        *f"-c:v libx264 -crf 18 {repeatable}".split(),
        *("-movflags", "+faststart", "-f", "mp4", target),
    ]


def _encode(command: list[str], pictures: Iterable[NDArray[np.uint8]]) -> None:
    with tempfile.TemporaryFile() as said:  # a pipe that nobody reads would stop it in the end
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said
            )
        except OSError as error:
            raise VideoFailed(f"{command[0]} cannot be run: {error.strerror}") from error
        try:
            _feed(process, pictures)
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
        if process.returncode != 0:
            raise _failure(process.returncode, said)


def _feed(process: subprocess.Popen[bytes], pictures: Iterable[NDArray[np.uint8]]) -> None:
    assert process.stdin is not None
    try:
        for picture in pictures:
            if not _succeeds(process.stdin.write, np.ascontiguousarray(picture).data):
                return
    finally:
        _succeeds(process.stdin.close)


def _succeeds(act: Callable[..., object], *arguments: Any) -> bool:
    """Call `act`; False if the process has ended, whose exit status then says why."""
    try:
        act(*arguments)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EINVAL):  # the latter is what Windows says
            raise
        return False
    return True


def _failure(code: int, said: IO[bytes]) -> Exception:
    said.seek(0)
    text = said.read().decode("utf-8", "replace").strip()
    if os.strerror(errno.ENOSPC) in text:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return VideoFailed(f"ffmpeg ended with {code}: {text[-_TAIL:]}")
