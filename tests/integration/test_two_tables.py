"""Two tables that name one image of an inbox whose originals are moved."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.conftest import Site
from tests.integration.test_batches import run_all


@pytest.mark.slow
def test_the_second_table_names_the_first(make_site: Callable[..., Site]) -> None:
    site = make_site(originals="archive")
    site.put("t1.csv", "image\nshared.png\n")
    site.put("t2.csv", "image,pipeline\nshared.png,other\n")
    site.put("shared.png")
    site.settle()
    run_all(site)
    site.accounts().write()
    reports = {
        path.parent.name.partition("-")[0]: path.read_text("utf-8-sig")
        for path in site.outbox.rglob("batch.csv")
    }
    assert "completed" in reports["t1"]
    assert "'shared.png' goes to t1.csv, which names it too" in reports["t2"]
    assert "before this file came" not in reports["t2"]
