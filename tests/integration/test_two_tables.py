"""Two tables that name one image of an inbox whose originals are moved."""

from __future__ import annotations

from tests.integration.conftest import Site
from tests.integration.test_batches import report, run_all


def test_the_second_table_names_the_first(site: Site) -> None:
    site.put("t1.csv", "image\nshared.png\n")
    site.put("t2.csv", "image\nshared.png\n")
    site.put("shared.png")
    site.settle()
    run_all(site)
    details = [row["detail"] for row in report(site, 0) + report(site, 1) if row["detail"]]
    assert details == [
        "row 2: image: 'shared.png' goes to t1.csv, which names it too; put both into one table"
    ]
