"""Contents of requests: fields of a form of any kind, or of JSON, and the image."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import IO, Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from dna_pipeline.base.naming import safe_name
from dna_pipeline.interfaces.web.old_api.errors import Refusal, field_refusal
from dna_pipeline.interfaces.web.site import Site

Fields = dict[str, Any]
"""Fields by their names: text or `UploadFile` of a form, plain values of JSON."""

MIB = 1 << 20
MOST_FIELDS = 200
MOST_FILES = 4

_DATA_URL = re.compile(r"\s*data:(?P<type>[\w.+/-]*)(?:;[^,;]*)*,", re.ASCII | re.IGNORECASE)
_ENDINGS = {"image/jpeg": ".jpg", "image/jpg": ".jpg", "image/webp": ".webp", "image/gif": ".gif",
            "image/bmp": ".bmp", "image/tiff": ".tif"}  # fmt: skip
_FROM_URL_SAFE = str.maketrans("-_ ", "+/+")
_NAME = "image"


@asynccontextmanager
async def fields_of(request: Request, site: Site) -> AsyncGenerator[Fields]:
    """Read the fields of a request's address and body; those of the body count more.

    Files of a form are closed when the block ends. Of a field that is sent twice, the last counts.

    Raises:
        Refusal: the body cannot be read.
        HTTPException: a form is malformed or has too large a field.
    """
    fields: Fields = dict(request.query_params)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        yield fields | await _json_fields(request, site)
        return
    limit = site.config.serve.max_upload_mib * MIB
    limits: dict[str, Any] = {"max_fields": MOST_FIELDS, "max_files": MOST_FILES}
    async with request.form(**limits, max_part_size=limit) as form:
        yield fields | dict(form.multi_items())


async def _json_fields(request: Request, site: Site) -> Fields:
    body = await request.body()
    if not body.strip():
        return {}
    try:
        value = await site.ask(json.loads, body)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body cannot be read as JSON") from None
    if not isinstance(value, dict):
        raise Refusal(400, "the body should be a JSON object with the fields")
    return value  # pyright: ignore[reportUnknownVariableType]


async def image_of(fields: Mapping[str, Any], site: Site) -> tuple[str, IO[bytes]]:
    """The image of a request, with a name for its copy: a file, or text in base64.

    Raises:
        Refusal: there is none, or the text is no base64.
    """
    value = fields.get("image")
    if isinstance(value, UploadFile):
        return await _uploaded(value, site)
    if isinstance(value, str) and value.strip():
        return await site.ask(from_text, value)
    raise field_refusal("image", "Field required", kind="missing")


async def _uploaded(upload: UploadFile, site: Site) -> tuple[str, IO[bytes]]:
    """The file of a form. A client may have put base64 into it."""
    if not upload.size:
        raise Refusal(400, "the image is empty")
    start = await upload.read(64)
    await upload.seek(0)
    if _DATA_URL.match(start.decode("latin-1")):
        text = (await upload.read()).decode("latin-1")
        return await site.ask(from_text, text)
    return image_name(upload.filename or ""), upload.file


def image_name(name: str) -> str:
    """A safe name for the copy of an image, without the folders of the sender's machine."""
    return safe_name(re.split(r"[/\\]", name)[-1] if name.strip() else f"{_NAME}.png")


def from_text(text: str) -> tuple[str, IO[bytes]]:
    """Decode base64 text or a data URL. Raises `Refusal`."""
    media_type = ""
    if match := _DATA_URL.match(text[:256]):
        media_type, text = match["type"].lower(), text[match.end() :]
    data = decode_base64(text)
    return f"{_NAME}{_ENDINGS.get(media_type, '.png')}", io.BytesIO(data)


def decode_base64(text: str) -> bytes:
    """Decode base64 as clients write it: with breaks of lines, without padding, or with the letters
    for addresses. Forms that are not encoded well have blanks in place of `+`.

    Raises:
        Refusal: it is no base64, or nothing.
    """
    text = re.sub(r"[\r\n\t]|%0[AD]", "", text.strip()).translate(_FROM_URL_SAFE).rstrip("=")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(
            400, "the image is no base64 text and no data URL", "image_unreadable"
        ) from None
    if not data:
        raise Refusal(400, "the image is empty", "image_unreadable")
    return data
