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
from scipy import sparse, spatial

from dna_pipeline.media.meshes import unwrap as module
from dna_pipeline.media.meshes.unwrap import Layout, UnwrapError, lay_out, unwrap

BALL = trimesh.creation.icosphere(subdivisions=3, radius=0.005)
VERTICES, FACES = np.asarray(BALL.vertices, np.float32), np.asarray(BALL.faces, np.int32)


def areas(texcoords: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Signed areas of faces, in parts of the square; v down."""
    a, b, c = texcoords[faces].astype(float).transpose(1, 0, 2)
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    return (ux * vy - uy * vx) / 2


def owners(found: Layout, side: int) -> np.ndarray:
    """The one face, by its number, that each texel's centre lies strictly inside; -1 for none.

    Fails where there are two: each face is looked at alone, with all texels of its rectangle.
    """
    seen = np.full((side, side), -1)
    corners = found.texcoords[found.faces].astype(float) * side - 0.5
    for face, (a, b, c) in enumerate(corners):
        low = np.ceil(np.min([a, b, c], axis=0)).astype(int)
        high = np.floor(np.max([a, b, c], axis=0)).astype(int)
        x, y = np.meshgrid(*map(np.arange, low, high + 1))
        sides = np.array([
            (q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0])
            for p, q in ((a, b), (b, c), (c, a))
        ])  # fmt: skip
        inside = (sides > 1e-3).all(axis=0) | (sides < -1e-3).all(axis=0)
        assert (seen[y[inside], x[inside]] == -1).all()
        seen[y[inside], x[inside]] = face
    return seen


def chart_of(found: Layout) -> np.ndarray:
    """Each face's chart: charts share no vertices."""
    a, b, c = found.faces.T
    ends = np.r_[a, b], np.r_[b, c]
    graph = sparse.coo_matrix((np.ones(len(ends[0])), ends), (len(found.vertex),) * 2)
    return sparse.csgraph.connected_components(graph, directed=False)[1][a]


def least_gap(found: Layout) -> float:
    """Between any two charts, in parts of the square, from points along the faces' edges."""
    charts = chart_of(found)
    assert len(np.unique(charts)) == found.charts
    ends = found.texcoords[found.faces].astype(float)
    part = np.linspace(0, 1, 9)[:, None, None, None]
    points = (ends * part + np.roll(ends, 1, axis=1) * (1 - part)).swapaxes(0, 1)
    gaps: list[float] = []
    for chart in np.unique(charts):
        own, others = (points[at].reshape(-1, 2) for at in (charts == chart, charts != chart))
        gaps.append(spatial.cKDTree(others).query(own)[0].min())
    return min(gaps)


@pytest.mark.slow
def test_each_face_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PIECE_FACES", 500)  # several pieces
    found = lay_out(VERTICES, FACES, 256)
    assert np.array_equal(found.vertex[found.faces], FACES)
    assert found.texcoords.min() >= 0
    assert found.texcoords.max() <= 1
    assert found.charts > 1
    area = areas(found.texcoords, found.faces)
    assert (np.abs(area) > 0).all()  # tiny faces, which xatlas would have left out
    assert (area > 0).all() or (area < 0).all()  # no chart is mirrored
    assert 0.4 < np.abs(area).sum() < 1
    assert (owners(found, 1024) >= 0).mean() == pytest.approx(np.abs(area).sum(), abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("size_px", "gap_px"), [(1024, 9), (256, 3), (64, 3), (16, 1)])
def test_charts_stand_apart_in_the_texture_they_are_for(
    size_px: int, gap_px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What xatlas packs too large is not just shrunk, and the room between charts with it."""
    monkeypatch.setattr(module, "_PIECE_FACES", 50)  # many charts
    found = lay_out(VERTICES, FACES, size_px)
    assert gap_px <= found.gap_px < 1.5 * gap_px
    assert least_gap(found) * size_px >= 0.99 * gap_px
    assert found.texcoords.max() > 0.9


@pytest.mark.slow
def test_too_many_charts_for_a_texture_are_told() -> None:
    """Of 2 texels a side, so that not even one lies between them."""
    found = lay_out(VERTICES, FACES, 2)
    assert 0 < found.gap_px < 1
    assert found.texcoords.max() <= 1


@pytest.mark.slow
def test_the_process_gives_what_would_be_made_here_each_time() -> None:
    reports: list[tuple[int, int]] = []
    found = unwrap(VERTICES, FACES, 128, lambda *at: reports.append(at))
    here = lay_out(VERTICES, FACES, 128)
    for name in ("vertex", "faces", "texcoords"):
        assert np.array_equal(getattr(found, name), getattr(here, name))
    assert (found.charts, found.gap_px) == (here.charts, here.gap_px)
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
        from dna_pipeline.media.meshes import unwrap
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
