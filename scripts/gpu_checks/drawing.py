"""A turntable by OpenGL without a display, beside the one that NumPy draws."""

from __future__ import annotations

from typing import Any

import numpy as np
from psnr import psnr_db

from dna_pipeline.providers.triposr import surface
from dna_pipeline.providers.triposr.field import Field
from gpu_checks.report import Check, Failed, Skipped
from gpu_checks.setting import ROBOT, Setting

VIEWS = 3
SIZE_PX = {True: 96, False: 256}
RESOLUTION = 64
LEAST_PSNR_DB = 30.0
"""Drivers place samples otherwise along outlines; anything upside down or unlit is far below."""


def turntable(setting: Setting) -> dict[str, Any]:
    from dna_pipeline.media.meshes import gl
    from dna_pipeline.media.meshes.turntable import Turntable

    try:
        with gl.context() as context:
            driver = str(context.info["GL_RENDERER"])
    except gl.NoOpenGL as error:
        raise Skipped(f"no OpenGL: {error}") from error
    mesh = surface.extract(Field.from_npz(ROBOT, setting.device), RESOLUTION).mesh
    size = SIZE_PX[setting.small]
    drawn = Turntable(mesh, VIEWS, size)
    pictures = np.stack(list(drawn))
    if drawn.renderer != "gl":
        raise Failed(f"OpenGL is there, and NumPy had to draw: {drawn.fault}")
    ratio = psnr_db(pictures, np.stack(list(Turntable(mesh, VIEWS, size, software=True))))
    if not ratio >= LEAST_PSNR_DB:
        raise Failed(f"{ratio:.1f} dB beside NumPy's pictures, {LEAST_PSNR_DB:g} are expected")
    return {"driver": driver, "psnr_db": ratio}


CHECKS: tuple[tuple[str, Check], ...] = (("egl-turntable", turntable),)
