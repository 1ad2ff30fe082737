"""Lays a mesh out in a square for its texture, with xatlas, in a process of its own.

xatlas holds Python's lock for as long as it computes, so that in this process nothing would
report or be cancelled; and what it may crash on takes only the child along. Arrays go in and out
as one .npz on the pipes, so that no file is left behind by any end.
"""

from __future__ import annotations

import importlib
import io
import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dna_pipeline.media.meshes.mesh import FloatArray, IntArray

Progress = Callable[[int, int], None]

_POLL_S = 0.1
_SECONDS_PER_FACE = 1e-4
"""On two busy cores, for the progress alone."""
_PIECE_FACES = 8000
"""The time that charts take to grow rises faster than the faces: 50,000 of the robot took 8.7
seconds of CPU in one piece and 4.2 in eight, in half as many charts."""
_MEAN_EDGE = 1.0
"""Length of the edges xatlas is given: it leaves out faces with an area below 1e-7."""
_MAX_COST = 4.0
"""Of a chart's roughness while it grows; at xatlas' 2 there is a quarter more of them."""
_PADDING_PARTS = 256
"""Of the texture's side, around each chart; so that four halvings leave them apart."""
_LEAST_PADDING_PX = 1
_FITTING_TRIES = 8
_OFF_CENTRE_PX = 0.25
"""xatlas sets the rims of charts on the centres of texels, where it is up to the driver which of
them they cover."""
_DETAIL_CHARS = 300
_PR_SET_PDEATHSIG = 1


class UnwrapError(RuntimeError):
    """The mesh could not be laid out; the message tells how the child process ended."""


@dataclass(frozen=True)
class Layout:
    """A mesh cut open along its seams.

    vertex: (n,) int32, the vertex of the mesh that each vertex of the layout stands for. faces:
    (m, 3) int32 in the order and winding of the mesh, with vertices of the layout. texcoords:
    (n, 2) float32 in [0, 1], u right and v down; charts are not mirrored and do not overlap.
    gap_px: how far apart they are at least, in texels; below 1 they share some.
    """

    vertex: IntArray
    faces: IntArray
    texcoords: FloatArray
    charts: int
    gap_px: float


def unwrap(
    vertices: FloatArray, faces: IntArray, size_px: int, progress: Progress | None = None
) -> Layout:
    """The layout for a texture of size_px²; the same arrays give the same one.

    progress(done, total) is called about ten times a second, and cancels by raising: the child is
    ended then. On Linux the child also ends when this thread does, in whatever way.
    Raises UnwrapError.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # out of reach of the terminal's Ctrl-C
    )
    sent = _packed(vertices=vertices, faces=faces, size_px=size_px, parent=os.getpid())
    # Not by `communicate`, which does not go on with its input after a timeout.
    assert process.stdin
    inbound, process.stdin = process.stdin, None
    threading.Thread(target=_send, args=(inbound, sent), daemon=True).start()
    since, expected_s = time.monotonic(), _SECONDS_PER_FACE * len(faces)
    with process:
        try:
            while True:
                try:
                    out, said = process.communicate(timeout=_POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    if progress is not None:  # what xatlas has done cannot be asked
                        waited = (time.monotonic() - since) / max(expected_s, _POLL_S)
                        progress(int(100 * -math.expm1(-waited)), 100)
        finally:
            process.kill()
    if process.returncode != 0:
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2][:_DETAIL_CHARS]
        how = _how_it_ended(process.returncode)
        raise UnwrapError(f"the process that lays out the texture ended {how}: {last or 'no word'}")
    arrays = _unpacked(io.BytesIO(out))
    charts, gap_px = int(arrays["charts"]), float(arrays["gap_px"])
    return Layout(arrays["vertex"], arrays["faces"], arrays["texcoords"], charts, gap_px)


def _how_it_ended(code: int) -> str:
    if code < 0 and -code in set(signal.Signals):
        return f"by {signal.Signals(-code).name}"
    return f"with exit status {code}"


def _send(inbound: IO[bytes], data: bytes) -> None:
    with suppress(OSError), inbound:  # a child that has ended reads no more
        inbound.write(data)


def _packed(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _unpacked(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def lay_out(vertices: FloatArray, faces: IntArray, size_px: int) -> Layout:
    """As `unwrap`, in this process."""
    xatlas: Any = importlib.import_module("xatlas")  # it has no types
    atlas = xatlas.Atlas()
    scaled = _scaled(vertices, faces)
    pieces = list(_pieces(vertices[faces].mean(axis=1), np.arange(len(faces))))
    used: list[IntArray] = []
    for piece in pieces:
        vertex, index = np.unique(faces[piece], return_inverse=True)
        atlas.add_mesh(scaled[vertex], index.reshape(-1, 3).astype(np.uint32))
        used.append(vertex.astype(np.int32))
    chart, pack = _options(xatlas, size_px)
    atlas.generate(chart, pack)
    if max(atlas.width, atlas.height) > size_px:
        used = [used[at][original] for at, (original, _, _) in enumerate(_meshes(atlas))]
        atlas = _fitted(xatlas, atlas, pack, size_px)
    if atlas.atlas_count != 1:
        raise ValueError(f"the charts fill {atlas.atlas_count} textures")
    # Each chart has its padding around it, and a texel is left for filtering.
    gap_px = (2 * pack.padding + 1) * size_px / max(atlas.width, atlas.height)
    return _gathered(atlas, pieces, used, len(faces), gap_px)


def _fitted(xatlas: Any, grown: Any, pack: Any, size_px: int) -> Any:
    """The charts packed anew, smaller, so that they fit with their padding.

    xatlas takes a side for a wish: of 2048 it makes 2400, and would by shrinking lose the padding.
    This is halved where the charts do not fit with it however small they are; where they do not
    without any, they come out larger than size_px.
    """
    atlas, scale = grown, grown.texels_per_unit
    unit = np.array([grown.width, grown.height], np.float32) / scale
    # All held while they are added: xatlas takes arrays at one address for one mesh.
    shapes = [((uv * unit).astype(np.float32), corners) for _, corners, uv in _meshes(grown)]
    pack.resolution, pack.rotate_charts_to_axis = 0, False
    for attempt in itertools.count(1):
        scale *= size_px / max(atlas.width, atlas.height)
        pack.texels_per_unit = scale
        atlas = xatlas.Atlas()
        for texcoords, corners in shapes:
            atlas.add_uv_mesh(texcoords, corners)
        atlas.generate(xatlas.ChartOptions(), pack)
        if max(atlas.width, atlas.height) <= size_px:
            break
        if attempt % _FITTING_TRIES == 0:
            if pack.padding == 0:
                break
            pack.padding //= 2
            atlas, scale = grown, grown.texels_per_unit
    return atlas


def _meshes(atlas: Any) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Of each: the vertices that its own stand for, its faces, and coordinates in [0, 1]."""
    for at in range(atlas.mesh_count):
        yield atlas[at]


def _pieces(centres: FloatArray, chosen: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Faces by their indices, halved across the longest side until each piece is small enough."""
    if len(chosen) <= _PIECE_FACES:
        yield np.sort(chosen)
        return
    here = centres[chosen]
    axis = int(np.argmax(np.ptp(here, axis=0)))
    order = chosen[np.argsort(here[:, axis], kind="stable")]
    yield from _pieces(centres, order[: len(order) // 2])
    yield from _pieces(centres, order[len(order) // 2 :])


def _scaled(vertices: FloatArray, faces: IntArray) -> FloatArray:
    edges = vertices[faces] - vertices[np.roll(faces, 1, axis=1)]
    mean = float(np.linalg.norm(edges, axis=2).mean())
    return (vertices * (_MEAN_EDGE / mean)).astype(np.float32)


def _options(xatlas: Any, size_px: int) -> tuple[Any, Any]:
    chart, pack = xatlas.ChartOptions(), xatlas.PackOptions()
    chart.max_cost = _MAX_COST
    chart.fix_winding = True
    pack.resolution = size_px
    pack.padding = max(_LEAST_PADDING_PX, size_px // _PADDING_PARTS)
    pack.rotate_charts = False  # it would swap u and v, which mirrors what is painted on a chart
    return chart, pack


def _gathered(
    atlas: Any,
    pieces: list[NDArray[np.int64]],
    used: list[IntArray],
    faces: int,
    gap_px: float,
) -> Layout:
    """The pieces as one mesh again, its charts in a square without a change of their shape."""
    index = np.empty((faces, 3), np.int32)
    vertex: list[IntArray] = []
    texcoords: list[FloatArray] = []
    side = max(atlas.width, atlas.height)
    scale = np.array([atlas.width / side, atlas.height / side], np.float32)
    off = np.float32(_OFF_CENTRE_PX / side)
    count = 0
    for piece, mine, (original, corners, uv) in zip(pieces, used, _meshes(atlas), strict=True):
        index[piece] = corners.astype(np.int32) + count
        vertex.append(mine[original])
        texcoords.append(np.clip(uv.astype(np.float32) * scale + off, 0, 1))
        count += len(original)
    joined = np.concatenate(vertex), index, np.concatenate(texcoords)
    return Layout(*joined, atlas.chart_count, gap_px)


def _end_with_parent(parent: int) -> None:
    """Have the system kill this process when its parent ends.

    The pipe's end would not do: while xatlas computes no thread of Python's runs to see it.
    Where there is no such call, the child ends when it is done, unheard.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # too late to be told
            os._exit(1)


def main() -> None:
    """Entry point of the child process."""
    inbound, outbound = sys.stdin.buffer, sys.stdout.buffer
    inputs = _unpacked(io.BytesIO(inbound.read()))
    _end_with_parent(int(inputs["parent"]))
    layout = lay_out(inputs["vertices"], inputs["faces"], int(inputs["size_px"]))
    outbound.write(_packed(**vars(layout)))
    outbound.flush()


if __name__ == "__main__":
    main()
