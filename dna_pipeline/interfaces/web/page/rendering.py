"""Renders the page's templates. All values are text: nothing in them is ever taken for HTML."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse

from dna_pipeline import __version__
from dna_pipeline.base.naming import visible
from dna_pipeline.base.quantities import about, duration, size
from dna_pipeline.base.times import format_time

HERE = Path(__file__).parent
ASSETS = HERE / "assets"

CSP = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
CSP_WITH_MESH = (
    "default-src 'self'; img-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""For the page of a mesh: model-viewer has styles of its own, and decoders in WebAssembly."""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    filters, shared = cast("dict[str, Any]", environment.filters), cast("Any", environment.globals)
    filters.update(size=size, about=about, duration=duration, percent=percent, time=time_tag)
    filters.update(shown=shown, sentence=sentence, sentences=sentences, lines=lines)
    shared["version"] = __version__
    return environment


def render(template: str, /, **values: Any) -> str:
    """Render a template, which lies in `templates/`."""
    return _environment().get_template(template).render(**values)


def page(
    template: str, /, *, status: int = 200, has_mesh: bool = False,
    headers: Mapping[str, str] | None = None, **values: Any,
) -> HTMLResponse:  # fmt: skip
    """Answer with a rendered template."""
    policy = CSP_WITH_MESH if has_mesh else CSP
    sent = {"content-security-policy": policy, "cache-control": "no-store", **(headers or {})}
    return HTMLResponse(render(template, **values), status, sent)


def is_part(request: Request) -> bool:
    """True if htmx asks for a part of a page, and False where it restores a whole one."""
    headers = request.headers
    return "hx-request" in headers and "hx-history-restore-request" not in headers


def asset(name: str, path: Path | None = None) -> FileResponse:
    """Answer with a file of the page, which a browser keeps while its version is the same.

    Args:
        path: its place; by default, that among the page's own files.
    """
    media_type = _TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0]
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return FileResponse(path or ASSETS / name, media_type=media_type, headers=headers)


_TYPES = {".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm"}


def shown(value: object) -> str:
    """Text of strangers, with its control characters and direction marks made visible."""
    return "" if value is None else visible(str(value))


def sentence(value: object) -> Markup:
    """As `shown`, for a sentence of the program, whose commands stand between backticks."""
    return Markup(_COMMAND.sub(r"<code>\1</code>", str(escape(shown(value)))))


def sentences(value: object) -> Markup:
    """Sentences of the program, one in a line, each as `sentence`."""
    return Markup("<br>").join(map(sentence, str(value).split("\n")))


_COMMAND = re.compile(r"`([^`<>]+)`")


def lines(text: str) -> str:
    """As `shown`, for a text of several lines."""
    return "\n".join(map(shown, text.split("\n")))


def percent(fraction: float | None) -> int:
    """A share as a whole number of percent, 0 to 100."""
    return round(100 * min(max(fraction or 0.0, 0.0), 1.0))


def time_tag(value: datetime | str | None) -> Markup:
    """A time, which the browser shows in the viewer's own zone; until then it is UTC."""
    if value is None:
        return Markup("–")
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Markup('<time datetime="{}">{}</time>').format(format_time(moment), escape(text))
