import tracemalloc
from collections.abc import Callable

import pytest

from dna_pipeline.config.batch import Row, rows_of_job_file, rows_of_table
from dna_pipeline.config.sidecar import parse_sidecar
from dna_pipeline.config.tables import TableRow
from dna_pipeline.config.yaml12 import Document

MANY = 10_000
PER_ROW_BYTES = 3000


def taken(make: Callable[[], list[Row]]) -> int:
    """The most memory in use meanwhile, for each row."""
    tracemalloc.start()
    try:
        rows = make()
        return tracemalloc.get_traced_memory()[1] // len(rows)
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_many_combinations_share_what_they_are_told_alike() -> None:
    text = f"""
meta: {{{", ".join(f"k{n}: [v]" for n in range(200))}}}
matrix:
  img2img.seed: {list(range(MANY // 2))}
  priority:
    - 1
    - 2
"""
    document = parse_sidecar(text.encode())
    assert taken(lambda: rows_of_job_file(document, ["a.png"])) < PER_ROW_BYTES
    _, row, *_ = rows_of_job_file(document, ["a.png"])
    assert row.document.value["meta"] is document.value["meta"]
    assert (row.document.value["img2img"], row.document.value["priority"]) == ({"seed": 0}, 2)
    assert row.document.place(("priority",)) == "line 7"
    assert row.document.place(("img2img", "seed")) == "line 4"
    assert row.document.place(("meta", "k7")) == "line 2"
    assert document.value["matrix"]


@pytest.mark.slow
def test_many_rows_share_what_the_yaml_beside_them_says() -> None:
    common = Document({"meta": {f"k{n}": ["v"] for n in range(200)}, "seed": 1})
    rows = [
        TableRow(n, Document({"image": "a.png", "img2img": {"seed": n}}, {(): n}, "row"))
        for n in range(MANY)
    ]
    assert taken(lambda: rows_of_table(rows, common)) < PER_ROW_BYTES
    told = rows_of_table([TableRow(1, Document({"image": "a.png", "meta": {"k1": 1}}))], common)
    assert told[0].document.value["meta"]["k1"] == 1
    assert common.value["meta"]["k1"] == ["v"]
