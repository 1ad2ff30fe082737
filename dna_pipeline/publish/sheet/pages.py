"""The page of a contact sheet and its data, as texts.

The page opens from a disk, where browsers load no modules and fetch no data. So its data are plain
scripts that call functions of `sheet.js`: one with what is said once, and one for each portion of
entries, which the page adds when it shows them. All texts of people stay data: the page shows them
as text, and its policy lets no other script run.
"""

from __future__ import annotations

import html
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dna_pipeline.base.layout import SHEET
from dna_pipeline.base.times import format_time
from dna_pipeline.publish.sheet.entries import SheetEntry, SheetFile

PAGE_ENTRIES = 60
"""Entries of one portion, and so of one page."""
POLICY = (
    "default-src 'none'; script-src 'self' file: 'wasm-unsafe-eval'; "
    "style-src 'self' file: 'unsafe-inline'; img-src 'self' file: blob: data:; "
    "media-src 'self' file:; connect-src blob: data:; "
    "base-uri 'none'; form-action 'none'"
)
"""Content security policy. Not every browser counts a file on the disk as the page itself, hence
`file:`. The viewer of meshes has styles inline, compiles a decoder to WebAssembly, and reads the
mesh as a blob."""
MESH_TYPE = "model/gltf-binary"

_ROLES = {"video/mp4": "film", MESH_TYPE: "mesh"}


@dataclass(frozen=True, slots=True)
class Sheet:
    """The content of a contact sheet.

    Attributes:
        axes: `name` and `values` of each axis of a matrix, the slowest first; entry n is the n-th
            of their combinations. Empty if it has none.
        left_off: number of results that the sheet has no place for.
        report: name of the batch report that lies beside the page; "" if there is none.
        server: address of the server that ran when the sheet was made; "" if none did. Each result
            gets a plain link to its page there, which nothing follows by itself.
    """

    title: str
    entries: Sequence[SheetEntry]
    made_at: datetime
    axes: Sequence[Mapping[str, Any]] = ()
    left_off: int = 0
    report: str = ""
    inbox: str = ""
    server: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """The place of the page, and the files that are there for it.

    Attributes:
        folder: folder of the page.
        outbox: the folder that the paths of entries are relative to.
        thumbnails: names of the thumbnails in the sheet's folder, by the files' hashes.
        meshes: ids of the jobs whose meshes are in the sheet's folder.
        missing: folders of results that are not in the outbox any more.
    """

    folder: Path
    outbox: Path
    thumbnails: Mapping[str, str] = field(default_factory=dict[str, str])
    meshes: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()

    def link(self, path: str) -> str:
        """The address of a path below the outbox, relative to the page where that is possible."""
        target = self.outbox / path
        try:
            relative = os.path.relpath(target, self.folder)
        except ValueError:  # on another drive
            return target.absolute().as_uri()
        return quote(Path(relative).as_posix(), errors="surrogateescape")


def page_html(sheet: Sheet) -> str:
    """The page itself: it holds no entry, so it is small whatever it shows."""
    title = html.escape(" ".join(sheet.title.split())[:200])
    return _PAGE.format(title=title, policy=html.escape(POLICY, quote=True), folder=SHEET)


def data_scripts(sheet: Sheet, place: Place) -> dict[str, str]:
    """The scripts with the data, by their names in the sheet's folder."""
    common = common_params(sheet.entries)
    portions = [
        sheet.entries[start : start + PAGE_ENTRIES]
        for start in range(0, len(sheet.entries), PAGE_ENTRIES)
    ]
    scripts = {"head.js": f"sheetHead({_json(_head(sheet, common))});\n"}
    for number, portion in enumerate(portions, 1):
        data = [_entry(entry, place, common) for entry in portion]
        scripts[f"page-{number}.js"] = f"sheetPage({number},{_json(data)});\n"
    return scripts


def common_params(entries: Sequence[SheetEntry]) -> dict[str, Any]:
    """The parameters that all entries with any have, with one value; those of a single entry are
    compared with nothing, so they are all common."""
    params = [entry.params for entry in entries if entry.params]
    if not params:
        return {}
    common = dict(params[0])
    for other in params[1:]:
        for key in [key for key, value in common.items() if other.get(key, _NONE) != value]:
            del common[key]
    return common


_NONE = object()


def grid_axes(sheet: Sheet) -> list[dict[str, Any]]:
    """The axes of a grid; none if the entries are not all of their combinations."""
    axes = [{"name": str(axis["name"]), "values": list(axis["values"])} for axis in sheet.axes]
    size = math.prod(len(axis["values"]) for axis in axes)
    numbers = [entry.number for entry in sheet.entries]
    is_whole = size == len(numbers) + sheet.left_off and numbers == list(range(1, len(numbers) + 1))
    return axes if axes and is_whole else []


def _head(sheet: Sheet, common: Mapping[str, Any]) -> dict[str, Any]:
    keys = dict.fromkeys(key for entry in sheet.entries for key in entry.params)
    return {
        "title": sheet.title,
        "inbox": sheet.inbox,
        "made": format_time(sheet.made_at),
        "total": len(sheet.entries),
        "leftOff": sheet.left_off,
        "pageSize": PAGE_ENTRIES,
        "counts": dict(Counter(entry.status for entry in sheet.entries)),
        "failures": [i for i, entry in enumerate(sheet.entries) if entry.is_failure],
        "common": common,
        "varying": [key for key in keys if key not in common],
        "axes": grid_axes(sheet),
        "report": sheet.report,
        "server": sheet.server,
    }


def _entry(entry: SheetEntry, place: Place, common: Mapping[str, Any]) -> dict[str, Any]:
    """An entry as the page reads it; what is empty is left out."""
    is_there = entry.folder is not None and entry.folder not in place.missing
    values: dict[str, Any] = {
        "n": entry.number,
        "job": entry.job[:8],
        "name": entry.name,
        "status": entry.status,
        "gone": entry.folder is not None and not is_there,
        "params": {key: value for key, value in entry.params.items() if key not in common},
        "sidecar": entry.sidecar,
        "tags": entry.tags,
        "meta": entry.meta,
        "seconds": None if entry.seconds is None else round(entry.seconds, 1),
        "warnings": entry.warnings,
    }
    if entry.picture is not None:
        values["thumbnail"] = place.thumbnails.get(entry.picture.sha256)
    if entry.failure is not None:
        values["failure"] = {
            key: text for key, text in entry.failure.to_dict().items() if key != "retryable"
        }
    if is_there and entry.folder is not None:
        values["folder"] = place.link(entry.folder) + "/"
        values["manifest"] = entry.manifest
        values["files"] = [_file(file, place) for file in entry.files]
        values["mesh"] = entry.job[:8] if entry.job in place.meshes else ""
    return {
        key: value for key, value in values.items() if value not in (None, "", [], {}, (), False)
    }


def _file(file: SheetFile, place: Place) -> list[Any]:
    """Name, address, kind and size of a file."""
    kind = "picture" if file.is_picture else _ROLES.get(file.media_type, file.role)
    return [file.path.rpartition("/")[2], place.link(file.path), kind, file.bytes]


def _json(value: Any) -> str:
    """JSON that is a script too, in plain ASCII."""
    return json.dumps(value, separators=(",", ":"), default=str)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<link rel="stylesheet" href="{folder}/sheet.css">
<script src="{folder}/sheet.js" defer></script>
<script src="{folder}/head.js" defer></script>
</head>
<body>
<noscript>This page needs JavaScript. The results are in the folders beside it, too.</noscript>
<header id="head"></header>
<nav id="tools" aria-label="View"></nav>
<main id="main" tabindex="-1"></main>
<nav id="pager" aria-label="Pages"></nav>
<dialog id="large"></dialog>
<p id="said" role="status"></p>
</body>
</html>
"""
