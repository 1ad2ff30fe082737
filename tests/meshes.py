"""Meshes whose up, front and right can be told, for the tests of files and of importers."""

from __future__ import annotations

import numpy as np
import trimesh

from dna_pipeline.media.meshes.mesh import Mesh, TexturedMesh, vertex_normals


def signpost() -> Mesh:
    """A tall box with a nose at TripoSR's front (+x) and an arm at the picture's right (+y)."""
    parts = [
        ((0.2, 0.2, 1.0), (0, 0, 0), (0.5, 0.5, 0.5)),
        ((0.3, 0.1, 0.1), (0.25, 0, 0.3), (1, 0, 0)),
        ((0.1, 0.4, 0.1), (0, 0.3, 0.1), (0, 0.25, 0)),
    ]
    boxes = [trimesh.creation.box(size) for size, _, _ in parts]
    vertices = [box.vertices + np.array(at) for box, (_, at, _) in zip(boxes, parts, strict=True)]
    return Mesh(
        np.concatenate(vertices).astype(np.float32),
        np.concatenate([box.faces + 8 * i for i, box in enumerate(boxes)]).astype(np.int32),
        np.repeat(np.array([color for _, _, color in parts], np.float32), 8, axis=0),
    )


def textured() -> TexturedMesh:
    """The same with each face's vertices its own, and a picture of three columns for the parts.

    The lower half of the picture, which no face uses, is magenta.
    """
    mesh = signpost()
    corners = mesh.faces.ravel()
    column = (corners // 8 * 2 + 1) / 6
    row = np.tile([0.1, 0.25, 0.4], len(mesh.faces))
    picture = np.empty((12, 12, 3), np.uint8)
    picture[:6] = np.repeat(np.rint(mesh.colors[[0, 8, 16]] * 255).astype(np.uint8), 4, axis=0)
    picture[6:] = (255, 0, 255)
    return TexturedMesh(
        vertices=mesh.vertices[corners],
        faces=np.arange(len(corners), dtype=np.int32).reshape(-1, 3),
        normals=vertex_normals(mesh.vertices, mesh.faces)[corners],
        texcoords=np.stack([column, row], axis=1).astype(np.float32),
        texture=picture,
    )
