"""Reads from a finished file how it was made: the recipe in its marks, or AUTOMATIC1111's text.

The file may be a stranger's, so whatever cannot be read counts as not there.
"""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast
from xml.etree import ElementTree

from PIL import ExifTags, Image

from dna_pipeline.media.marks.packet import RECIPE_NAMESPACE

MAX_BYTES = 1 << 22
"""Largest description that is read."""
_FORMATS = ("PNG", "JPEG", "WEBP")
_MP4_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_UNICODE, _ASCII = b"UNICODE\0", b"ASCII\0\0\0"
_BESIDE = ".xmp"


@dataclass(frozen=True, slots=True)
class FileRecipe:
    """The making of a file, as it says itself.

    Attributes:
        recipe: `version`, `input` and `stages` of this program; None if it has none.
        parameters: text in AUTOMATIC1111's form; "" if it has none.
    """

    recipe: dict[str, Any] | None = None
    parameters: str = ""


def read_recipe(path: Path) -> FileRecipe:
    """The making of a picture, mesh or film; of a file that holds none, that of the `.xmp` beside
    it. Raises OSError if the file cannot be opened."""
    with path.open("rb") as file:
        head = file.read(12)
        read = _reader_of(head)
        file.seek(0)
        made = FileRecipe()
        if read is not None:
            with suppress(Exception):
                made = read(file)
    beside = path.with_name(path.name + _BESIDE)
    if made == FileRecipe() and beside.is_file():
        with suppress(Exception), beside.open("rb") as file:
            made = _of_packet_file(file)
    return made


def _reader_of(head: bytes) -> Callable[[IO[bytes]], FileRecipe] | None:
    if head[:4] == b"glTF":
        return _of_glb
    if head[4:8] == b"ftyp":
        return _of_mp4
    if head.lstrip(b"\xef\xbb\xbf").startswith((b"<?xpacket", b"<x:xmpmeta")):
        return _of_packet_file
    return _of_picture


def _of_glb(file: IO[bytes]) -> FileRecipe:
    _, _, _, size, _ = struct.unpack("<4sIIII", file.read(20))
    document: dict[str, Any] = json.loads(file.read(min(size, MAX_BYTES)))
    for mesh in document.get("meshes", []):
        recipe = mesh.get("extras", {}).get("dna_pipeline")
        if _is_recipe(recipe):
            return FileRecipe(recipe)
    return FileRecipe()


def _of_mp4(file: IO[bytes]) -> FileRecipe:
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        length = size - 8
        if size == 1:
            length = struct.unpack(">Q", file.read(8))[0] - 16
        if length < 0:
            break
        if kind == b"uuid" and 16 < length <= MAX_BYTES:
            body = file.read(length)
            if body.startswith(_MP4_UUID):
                return FileRecipe(_of_packet(body[16:]))
        else:
            file.seek(length, 1)
    return FileRecipe()


def _of_packet_file(file: IO[bytes]) -> FileRecipe:
    return FileRecipe(_of_packet(file.read(MAX_BYTES)))


def _of_picture(file: IO[bytes]) -> FileRecipe:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(file, formats=_FORMATS)
        info = cast("dict[Any, Any]", image.info)
        packet = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
        recipe = None
        with suppress(ElementTree.ParseError):
            recipe = _of_packet(packet.encode() if isinstance(packet, str) else packet)
        text = info.get("parameters") or _user_comment(image)
    return FileRecipe(recipe, text if isinstance(text, str) else "")


def _user_comment(image: Image.Image) -> str:
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(int(ExifTags.Base.UserComment), b"")
    if isinstance(comment, str):
        return comment
    data = bytes(comment)
    if data.startswith(_UNICODE):
        return data[8:].decode("utf-16-be", "replace")
    return data[8:].decode("ascii", "replace") if data.startswith(_ASCII) else ""


def _of_packet(packet: bytes) -> dict[str, Any] | None:
    start, end = packet.find(b"<x:xmpmeta"), packet.rfind(b"</x:xmpmeta>")
    if start < 0 or end < 0 or b"<!DOCTYPE" in packet or len(packet) > MAX_BYTES:
        return None
    root = ElementTree.fromstring(packet[start : end + len(b"</x:xmpmeta>")])
    for element in root.iter(f"{{{RECIPE_NAMESPACE}}}Recipe"):
        recipe = json.loads(element.text or "null")
        if _is_recipe(recipe):
            return recipe
    return None


def _is_recipe(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    stages = cast("dict[str, Any]", value).get("stages")
    return isinstance(stages, list) and all(map(_is_stage, cast("list[Any]", stages)))


def _is_stage(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    stage = cast("dict[str, Any]", value)
    kinds = [isinstance(stage.get(key), str) for key in ("id", "type")]
    return all(kinds) and isinstance(stage.get("params"), dict)
