"""Compilation of a model by torch: minutes at its first use, and less time in each job after it.

torch keeps the results in the folder of `TORCHINDUCTOR_CACHE_DIR`, so that a later process reads
them back.
"""

from __future__ import annotations

import importlib.util
import os
import shutil

from dna_pipeline.base.errors import CompilerMissing

COMPILE_S = 3600.0
"""Seconds by which a stage may last longer when its model is compiled in it. On two CPU cores the
UNet of Stable Diffusion 1.5 takes minutes, and each new size of pictures may take them again."""

_CPU_COMPILERS = ("g++", "clang++", "c++", "cl")


def require(kind: str) -> None:
    """Raise `CompilerMissing` if this machine lacks a tool for the compilation; see `lack`."""
    if (why := lack(kind)) is not None:
        raise CompilerMissing(why)


def lack(kind: str) -> str | None:
    """A clause about the tool that is missing for the compilation; None if nothing is missing.

    Args:
        kind: of the device, as torch names it.
    """
    if kind == "cpu":
        names = [own] if (own := os.environ.get("CXX")) else _CPU_COMPILERS
        if any(shutil.which(name) for name in names):
            return None
        return f"no C++ compiler was found ({', '.join(names)})"
    if kind == "cuda":
        has_triton = importlib.util.find_spec("triton") is not None
        return None if has_triton else "the package triton is not installed"
    return f"torch compiles no models for {kind} here"
