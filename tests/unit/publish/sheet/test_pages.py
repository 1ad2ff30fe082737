"""The page of a contact sheet and its data."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import EmptyMesh
from dna_pipeline.publish.sheet import pages
from dna_pipeline.publish.sheet.entries import SheetEntry, SheetFile
from dna_pipeline.publish.sheet.pages import Place, Sheet

AT = datetime(2026, 12, 1, 22, tzinfo=UTC)
HOSTILE = "</script><script>alert(1)</script>\u2028<img src=x onerror=alert(2)>"


def entry(number: int, **values: Any) -> SheetEntry:
    job = f"{number:08x}" * 4
    return SheetEntry(
        number, job, f"{number}.png", "completed", f"in/b/{number}-{job[:8]}", **values
    )


def sheet(*entries: SheetEntry, **values: Any) -> Sheet:
    return Sheet("all.yaml", entries, AT, **values)


def place(**values: Any) -> Place:
    return Place(Path("/out/in/b"), Path("/out"), **values)


def data(sheet: Sheet, place: Place) -> dict[str, Any]:
    """What each script hands to the page, by the script's name."""
    parsed: dict[str, Any] = {}
    for name, text in pages.data_scripts(sheet, place).items():
        start = text.index("(" if name == "head.js" else ",") + 1
        parsed[name] = json.loads(text[start:-3])
    return parsed


def test_links_are_relative_and_escaped() -> None:
    file = SheetFile("in/b/1-00000001/a #1?.png", "image", "image/png", 5, "0" * 64)
    (shown,) = data(sheet(entry(1, files=(file,))), place())["page-1.js"]
    assert shown["folder"] == "1-00000001/"
    assert shown["manifest"] == "manifest.json"
    assert shown["files"] == [["a #1?.png", "1-00000001/a%20%231%3F.png", "picture", 5]]


def test_a_page_elsewhere_finds_the_outbox() -> None:
    (shown,) = data(sheet(entry(1)), Place(Path("/home/me/sheet"), Path("/out")))["page-1.js"]
    assert shown["folder"] == "../../../out/in/b/1-00000001/"


def test_what_is_gone_has_no_links() -> None:
    missing = frozenset({"in/b/1-00000001"})
    (shown,) = data(sheet(entry(1)), place(missing=missing))["page-1.js"]
    assert shown["gone"] is True
    assert "folder" not in shown


def test_equal_parameters_are_said_once() -> None:
    entries = [
        entry(n, params={"a.steps": 20, "a.seed": n, "a.loras": {"clay": 1}}) for n in (1, 2)
    ]
    scripts = data(sheet(*entries), place())
    assert scripts["head.js"]["common"] == {"a.steps": 20, "a.loras": {"clay": 1}}
    assert scripts["head.js"]["varying"] == ["a.seed"]
    assert [shown["params"] for shown in scripts["page-1.js"]] == [{"a.seed": 1}, {"a.seed": 2}]


def test_the_parameters_of_a_single_result_are_folded_away() -> None:
    scripts = data(sheet(entry(1, params={"a.steps": 20})), place())
    assert scripts["head.js"]["common"] == {"a.steps": 20}
    assert "params" not in scripts["page-1.js"][0]


def test_rows_without_parameters_do_not_count() -> None:
    entries = [
        entry(1, params={"a": 1}),
        SheetEntry(2, "", "b.png", "wrong"),
        entry(3, params={"a": 1}),
    ]
    assert pages.common_params(entries) == {"a": 1}


def test_failures_say_why_and_what_helps() -> None:
    failed = entry(2, failure=EmptyMesh("no faces", hint="Lower threshold.").failure())
    scripts = data(sheet(entry(1), failed), place())
    assert scripts["head.js"]["failures"] == [1]
    shown = scripts["page-1.js"][1]
    assert shown["manifest"] == "error.json"
    assert shown["failure"]["detail"] == "no faces"
    assert shown["failure"]["hint"] == "Lower threshold."


def test_entries_are_in_portions() -> None:
    scripts = data(sheet(*(entry(n) for n in range(1, pages.PAGE_ENTRIES + 2))), place())
    assert [*scripts] == ["head.js", "page-1.js", "page-2.js"]
    assert len(scripts["page-1.js"]) == pages.PAGE_ENTRIES
    assert [shown["n"] for shown in scripts["page-2.js"]] == [pages.PAGE_ENTRIES + 1]


@pytest.mark.parametrize(
    ("numbers", "left_off", "has_grid"),
    [([1, 2, 3, 4], 0, True), ([1, 2, 3], 0, False), ([1, 2, 4, 5], 0, False), ([1, 2], 2, True)],
)
def test_a_grid_needs_all_combinations(numbers: list[int], left_off: int, has_grid: bool) -> None:
    axes = [{"name": "a", "values": [1, 2]}, {"name": "b", "values": ["x", None]}]
    made = sheet(*map(entry, numbers), axes=axes, left_off=left_off)
    assert pages.grid_axes(made) == (axes if has_grid else [])


def test_texts_of_strangers_stay_data() -> None:
    hostile = entry(1, params={"a.prompt": HOSTILE}, meta={HOSTILE: HOSTILE}, tags=(HOSTILE,))
    made = Sheet(HOSTILE, [hostile], AT)
    for text in pages.data_scripts(made, place()).values():
        assert text.isascii()
    html = pages.page_html(made)
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "script-src &#x27;self&#x27; file: &#x27;wasm-unsafe-eval&#x27;;" in html


def test_the_page_of_a_thousand_is_small() -> None:
    entries = [
        entry(n, params={"a.prompt": "a clay figurine " * 20, "a.seed": n}, sidecar="a: 1\n" * 100)
        for n in range(1, 1001)
    ]
    made = sheet(*entries)
    scripts = pages.data_scripts(made, place())
    assert len(pages.page_html(made)) < 10_000
    assert sum(map(len, scripts.values())) + len(pages.page_html(made)) < 3_000_000
