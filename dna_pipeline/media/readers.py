"""Published files, opened by the readers that other tools use.

A hash tells that the bytes are those that were written; this tells that they can be read. One file
is in memory at a time, of a film one picture.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import which
from typing import Any, cast

from dna_pipeline.base.errors import ConfigError

Facts = dict[str, Any]
Reader = Callable[[Path], Facts]


def can_open(path: Path) -> bool:
    """True if there is a reader for files with this ending."""
    return path.suffix.lower() in _READERS


def damage(path: Path, facts: Mapping[str, Any]) -> str | None:
    """Open a file to its end, and say why it cannot be opened or where it differs; else None.

    Args:
        path: a file that `can_open`.
        facts: of the artifact, from its manifest; those that it lacks are not compared.

    Raises:
        ConfigError: there is no ffmpeg that could open a film.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they are about shows in the facts
            read = _READERS[path.suffix.lower()](path)
    except (ConfigError, ImportError):
        raise
    except Exception as error:  # a reader may raise anything where the bytes are damaged
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return f"cannot be opened: {reason}"
    expected = _plain(facts)
    differing = [
        f"{name} {value}, in the manifest {expected[name]}"
        for name, value in read.items()
        if name in expected and expected[name] != value
    ]
    return "; ".join(differing) or None


def _plain(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the facts with the side of the texture in place of all that is known of it."""
    texture = facts.get("texture")
    if not isinstance(texture, dict):
        return facts
    return {**facts, "texture": cast(Facts, texture).get("size")}


def _picture(path: Path) -> Facts:
    from PIL import Image

    with Image.open(path) as image:
        image.load()
        return {"width": image.width, "height": image.height}


def _mesh(path: Path) -> Facts:
    from dna_pipeline.media.meshes.mesh_reader import read

    return read(path)


def _film(path: Path) -> Facts:
    from imageio import v3

    _require_ffmpeg()
    library = cast(Any, v3)
    # A picture that cannot be decoded is left out, not repeated, so the number tells.
    strict: dict[str, Any] = {
        "input_params": ["-err_detect", "explode"],
        "output_params": ["-fps_mode", "passthrough"],
    }
    place = path.absolute()  # a name that begins with a minus is no option
    fps = library.immeta(place, plugin="FFMPEG")["fps"]
    frames, height, width = 0, 0, 0
    for picture in library.imiter(place, plugin="FFMPEG", **strict):
        frames += 1
        height, width = picture.shape[:2]
    return {"width": width, "height": height, "frames": frames, "fps": fps}


def _require_ffmpeg() -> None:
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        program = get_ffmpeg_exe()
    except RuntimeError as error:
        raise ConfigError(f"films cannot be opened: {error}") from error
    if which(program) is None:
        raise ConfigError(f"films cannot be opened: {program} cannot be run")


_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp")
_MESHES = (".glb", ".obj", ".ply", ".stl")
_READERS: dict[str, Reader] = {
    **dict.fromkeys(_PICTURES, _picture),
    **dict.fromkeys(_MESHES, _mesh),
    ".mp4": _film,
}
"""Readers by the endings of files; a material is read with its mesh."""
