"""Texts of `dna-pipeline models` for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dna_pipeline.base.quantities import number_of, size
from dna_pipeline.interfaces.cli.output import aligned, clean

Record = dict[str, Any]


def print_models(entries: Sequence[Record], data: Path) -> None:
    """Print the models of pipeline.yaml, each with its place, and how to get what is missing."""
    rows = [
        (entry["name"], entry["provider"] or entry["kind"], *_state(entry)) for entry in entries
    ]
    for line, entry in zip(aligned(rows), entries, strict=True):
        print(line)
        if entry["path"] is not None or entry["pipelines"]:
            print(f"  {clean(_place(entry, data))}")
        if entry["missing"]:
            print(f"  {clean(entry['missing'])}")
        if entry["mismatch"]:
            print(f"  wrong: {clean(entry['mismatch'])}")
        if entry["small"]:
            print("  small: it stands in for real weights, and what it makes means nothing")
        if entry["fits"] and not entry["mismatch"]:
            print(f"  for {clean(entry['fits'])}")
        if entry["trigger_words"]:
            print(f"  trigger words: {clean(', '.join(entry['trigger_words']))}")


def _state(entry: Record) -> tuple[str, str, str]:
    if not entry["present"]:
        return "missing", "", ""
    if entry["mismatch"]:
        return "wrong", size(entry["bytes"]), entry["license"] or ""
    if entry["path"] is None:
        return "present", "", "needs no weights"
    return "present", size(entry["bytes"]), entry["license"] or ""


def _place(entry: Record, data: Path) -> str:
    parts: list[str] = []
    if entry["path"] is not None:
        path = Path(entry["path"])
        inside = path.is_relative_to(data)
        parts.append((path.relative_to(data) if inside else path).as_posix())
    if entry["pipelines"]:
        parts.append(f"used by {', '.join(entry['pipelines'])}")
    if entry["staged_bytes"]:
        parts.append(f"{size(entry['staged_bytes'])} of it came already")
    return "; ".join(parts)


def print_published(published: Sequence[Record]) -> None:
    """Print the models that can be pulled."""
    rows = [(one["name"], size(one["bytes"]), one["license"] or "") for one in published]
    for line, one in zip(aligned(rows), published, strict=True):
        print(line)
        note = f"; {one['note']}" if one["note"] else ""
        print(f"  {clean(one['title'] + note)}")


def print_plan(planned: Sequence[Record]) -> None:
    """Print what a pull would fetch: addresses, sizes and hashes."""
    for one in planned:
        came = f", {size(one['staged_bytes'])} of it came already" if one["staged_bytes"] else ""
        notes = "; ".join(filter(None, (one["license"], one["note"])))
        print(clean(f"{one['name']}: {one['title']} ({notes})"))
        print(clean(f"  to {one['target']}, {size(one['bytes'])}{came}"))
        for file in one["files"]:
            print(clean(f"  {file['url']}"))
            print(clean(f"    {file['bytes']:,} bytes, SHA-256 {file['sha256']}"))


def pulled_line(one: Record) -> str:
    """Write one line about a model that appeared."""
    notes = "; ".join(filter(None, (one["license"], one["note"])))
    return f"{one['name']}: {one['path']}, {size(one['bytes'])} ({notes})"


def print_verified(results: Sequence[Record]) -> None:
    """Print what each model is, and which of its files differ."""
    for result in results:
        print(clean(f"{result['name']}: {_verdict(result)}"))
        for file in result["differs"]:
            print(clean(f"  {file['path']}"))
            if file["expected"]:
                print(clean(f"    expected SHA-256 {file['expected']}"))
                print(clean(f"    received SHA-256 {file['received']}"))
            else:
                print("    is no part of it")


def _verdict(result: Record) -> str:
    if result["state"] == "missing":
        return result["problem"] or "has no weights"
    words = {
        "published": f"matches the published {result['published']}",
        "differs": f"differs from the published {result['published']}",
        "unpublished": "not a published model",
    }
    parts = [words[result["state"]]]
    if same := result["results"]["same"]:
        parts.append(f"as in the manifests of {number_of(same, 'result')}")
    if result["mismatch"]:
        parts.append(f"wrong: {result['mismatch']}")
    if result["changed_since"]:
        parts.append(f"changed since the result of {result['changed_since']}")
    return "; ".join(parts)
