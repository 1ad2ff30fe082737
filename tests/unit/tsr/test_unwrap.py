"""The layout of a mesh, and the process that makes it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import trimesh

from dna_pipeline.tsr import unwrap as module
from dna_pipeline.tsr.unwrap import UnwrapError, lay_out, unwrap

BALL = trimesh.creation.icosphere(subdivisions=4, radius=0.01)
VERTICES, FACES = np.asarray(BALL.vertices, np.float32), np.asarray(BALL.faces, np.int32)


def areas(texcoords: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Signed areas of faces, in parts of the square; v down."""
    a, b, c = texcoords[faces].astype(float).transpose(1, 0, 2)
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    return (ux * vy - uy * vx) / 2


def test_each_face_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE_FACES", 2000)  # several pieces
    found = lay_out(VERTICES, FACES, 256)
    assert np.array_equal(found.vertex[found.faces], FACES)
    assert found.texcoords.min() >= 0
    assert found.texcoords.max() <= 1
    assert found.charts > 1
    area = areas(found.texcoords, found.faces)
    assert (np.abs(area) > 0).all()  # tiny faces, which xatlas would have left out
    assert (area > 0).all() or (area < 0).all()  # no chart is mirrored
    side = 512
    seen = np.zeros((side, side), int)
    for triangle in found.texcoords[found.faces] * side:
        centre = triangle.mean(axis=0).astype(int)
        seen[centre[1], centre[0]] += 1
    assert 0.4 < np.abs(area).sum() < 1
    assert seen.max() <= 3


def test_the_process_gives_what_would_be_made_here_each_time() -> None:
    reports: list[tuple[int, int]] = []
    found = unwrap(VERTICES, FACES, 128, lambda *at: reports.append(at))
    here = lay_out(VERTICES, FACES, 128)
    for name in ("vertex", "faces", "texcoords"):
        assert np.array_equal(getattr(found, name), getattr(here, name))
    assert found.charts == here.charts
    assert reports == sorted(reports)
    assert {total for _, total in reports} == {100}


def test_a_report_that_raises_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is at: one that would go on for a minute is not waited for."""
    (tmp_path / "endless.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(module, "__name__", "endless")

    def stop(done: int, total: int) -> None:
        raise KeyError("enough")

    since = time.monotonic()
    with pytest.raises(KeyError, match="enough"):
        unwrap(VERTICES, FACES, 128, stop)
    assert time.monotonic() - since < 30
    assert not any("endless" in child.cmdline() for child in psutil.Process().children())


def test_a_crash_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "crashing.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(module, "__name__", "crashing")
    with pytest.raises(UnwrapError, match="lays out the texture ended by SIGABRT"):
        unwrap(VERTICES, FACES, 128)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child so")
def test_the_process_dies_with_its_parent() -> None:
    """While xatlas holds Python's lock; a sleep in C stands for it."""
    code = textwrap.dedent(
        """
        import os, subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", '''
        import ctypes, os
        from dna_pipeline.tsr import unwrap
        unwrap._end_with_parent(os.getppid())
        print("ready", flush=True)
        ctypes.PyDLL(None).sleep(60)
        '''.replace("        ", "")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        child.stdout.readline()
        print(child.pid, flush=True)
        os.kill(os.getpid(), 9)
        """
    )
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    child = int(parent.stdout)
    for _ in range(200):
        if not psutil.pid_exists(child) or (psutil.Process(child).status() == psutil.STATUS_ZOMBIE):
            return
        time.sleep(0.05)
    psutil.Process(child).kill()
    pytest.fail("it lives on")
