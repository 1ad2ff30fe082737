"""The film that the `triposr` stage makes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe

from dna_pipeline.base.errors import (
    Cancelled,
    VideoFailed,
)
from tests.triposr_stage import TINY, Make, names, stage

pytestmark = pytest.mark.usefixtures("one_thread")


def film_of(path: Path, size_px: int) -> np.ndarray:
    command = [get_ffmpeg_exe(), "-v", "error", "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, np.uint8).reshape(-1, size_px, size_px, 3).astype(int)


@pytest.mark.slow
def test_a_turntable_of_the_mesh(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNA_OPENGL", "off")  # so that this runs everywhere
    ctx = make()
    seen: list[int] = []
    ctx.on_step = lambda step, steps: seen.append(step)
    size = {"turntable_views": 5, "turntable_size": 64, "turntable_fps": 10}
    _, film = stage(turntable=True, preview=False, chunk_size=24**3 // 4, **size).run(ctx)
    assert names(ctx) == ["robot.glb", "robot.turntable.mp4"]
    assert (film.path, film.role, film.media_type) == (
        ctx.work_dir / "robot.turntable.mp4",
        "turntable",
        "video/mp4",
    )
    assert film.facts == {
        "width": 64, "height": 64, "frames": 5, "fps": 10, "renderer": "software",
    }  # fmt: skip
    assert seen == sorted(seen)
    assert len(set(seen)) > 5
    assert seen[-1] == 100
    assert not any("OpenGL" in warning for warning in ctx.warnings)
    pictures = film_of(film.path, 64)
    assert len(pictures) == 5
    assert (pictures[:, 0] > 225).all()
    assert 0.1 < (pictures < 240).any(axis=-1).mean() < 0.95


@pytest.mark.slow
def test_a_turntable_of_the_field(make: Make) -> None:
    """As the original renders it: the golden views, where their size and number are asked for."""
    with np.load(TINY / "expected.npz") as arrays:
        views = arrays["views"]
    ctx = make()
    steps: list[int] = []
    ctx.on_step = lambda step, steps_: steps.append(step)
    size = {"turntable_views": len(views), "turntable_size": views.shape[1]}
    _, film = stage(turntable="nerf", preview=False, **size).run(ctx)
    assert film.facts["renderer"] == "volume"
    found = film_of(film.path, views.shape[1])
    assert len(found) == len(views)
    apart = np.abs(found[:, None] - 255 * views[None]).mean(axis=(2, 3, 4))
    assert apart.argmin(axis=1).tolist() == [0, 1, 2, 3]
    assert apart.diagonal().max() < 12  # noise, of which a film's coarser colours lose much
    assert steps == sorted(steps)
    assert steps[-1] == 100
    assert len(set(steps)) >= 4


def test_cancelling_a_turntable_leaves_no_film(make: Make) -> None:
    ctx = make()

    def stop(step: int, steps: int) -> None:
        if step > 60:  # of the mesh, 58 are the last
            raise Cancelled(f"at {step} of {steps}")

    ctx.on_step = stop
    with pytest.raises(Cancelled, match=r"at (6|7|8)\d of 100"):
        stage(turntable="mesh", preview=False, turntable_views=5, turntable_size=64).run(ctx)
    assert names(ctx) == ["robot.glb"]


def test_no_ffmpeg_is_a_failure_of_its_own(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    with pytest.raises(VideoFailed, match="/nowhere/ffmpeg cannot be run") as caught:
        stage(turntable="mesh", preview=False, turntable_views=1, turntable_size=32).run(make())
    assert caught.value.code == "video_failed"
