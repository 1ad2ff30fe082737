"""Paths of the server in texts for clients."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dna_pipeline.interfaces.web.texts import PathHider, hide_in


def site(**changes: Any) -> Any:
    inbox = SimpleNamespace(
        name="mesh", path=Path("/srv/studio/in/mesh"), source_roots=(Path("/mnt/library"),)
    )
    facts = {
        "file": Path("/srv/studio/pipeline.yaml"), "inboxes": (inbox,),
        "outbox": Path("/srv/studio/outbox"), "data": Path("/var/lib/dna"),
    }  # fmt: skip
    return SimpleNamespace(**facts | changes)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("/var/lib/dna/ledger.db: there is no ledger", "data/ledger.db: there is no ledger"),
        ("/srv/studio/outbox/mesh/a-1234: gone", "outbox/mesh/a-1234: gone"),
        ("'/srv/studio/outbox'", "'outbox'"),
        ("in /srv/studio/in/mesh/a b.png", "in mesh/a b.png"),
        ("/srv/studio/in/mesh2/a.png", "./in/mesh2/a.png"),
        ("/mnt/library/x.png", "source_roots/x.png"),
        ("/srv/studio/pipeline.yaml:3: x", "./pipeline.yaml:3: x"),
        ("File /usr/lib/python3/site.py, line 3", "File …/site.py, line 3"),
        ("(/opt/models/sd.safetensors)", "(…/sd.safetensors)"),
        ("C:\\Users\\x\\a.txt is gone", "…/a.txt is gone"),
        ("\\\\server\\share\\a.txt", "…/a.txt"),
        ("see file:///etc/dna/secret", "see file://…/secret"),
        ("/var/lib/dna", "data"),
        ("stopped in /var/lib/dna.", "stopped in data."),
    ],
)
def test_paths_are_shortened(text: str, short: str):
    assert PathHider(site())(text) == short


@pytest.mark.parametrize(
    "text",
    [
        "", "no path", "1/2 of it", "and/or", "https://a.example/b/c", "/api/v1/jobs/1",
        "`GET /sdapi/v1/options`", "/data/output/img2img_1.png", "img2img/strength", "~/x", "/",
    ],
)  # fmt: skip
def test_other_texts_stay(text: str):
    assert PathHider(site())(text) == text


def test_texts_of_people_keep_strokes_that_are_no_folder_of_ours():
    hide = PathHider(site())
    prompt = "a chair, /imagine/ red/blue, /var/lib/dna/masks/a.png"
    assert hide.below_folders(prompt) == "a chair, /imagine/ red/blue, data/masks/a.png"


def test_the_innermost_folder_gives_the_name():
    hide = PathHider(site(data=Path("/srv/studio/data"), outbox=Path("/srv/studio/data/out")))
    assert hide("/srv/studio/data/out/x /srv/studio/data/y") == "outbox/x data/y"


def test_a_pipeline_yaml_at_the_root_of_the_disk():
    hide = PathHider(site(file=Path("/pipeline.yaml")))
    assert hide("/pipeline.yaml: x") == "/pipeline.yaml: x"


def test_all_texts_of_a_value():
    value = {"/var/lib/dna/a": ["/var/lib/dna/b", {"c": ("/var/lib/dna/d",)}, 1, None, 2.5, True]}
    assert hide_in(value, PathHider(site())) == {
        "data/a": ["data/b", {"c": ["data/d"]}, 1, None, 2.5, True]
    }
