import tracemalloc
from collections.abc import Callable

import pytest

from dna_pipeline.base.errors import SidecarInvalid
from dna_pipeline.config.batch import Row, combinations, rows_of_job_file, rows_of_table
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


def axes(text: str) -> list[dict[str, float]]:
    """The LoRAs of each combination."""
    documents = combinations(parse_sidecar(text.encode()))
    return [document.value["img2img"]["loras"] for document in documents]


def test_an_axis_adds_its_key_to_the_mapping() -> None:
    text = "img2img: {loras: {fur: 1}}\nmatrix: {img2img.loras.clay: [0.4, 0.8]}\n"
    assert axes(text) == [{"fur": 1, "clay": 0.4}, {"fur": 1, "clay": 0.8}]


@pytest.mark.parametrize("is_first", [True, False])
def test_an_axis_adds_its_key_to_the_mappings_of_another_axis(is_first: bool) -> None:
    lines = ["  img2img.loras.clay: [0.4]\n", "  img2img.loras: [{fur: 1}, {}]\n"]
    text = "matrix:\n" + "".join(lines if is_first else lines[::-1])
    assert axes(text) == [{"fur": 1, "clay": 0.4}, {"clay": 0.4}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "img2img: {loras: {clay: 1}}\nmatrix: {img2img.loras.clay: [0.4]}\n",
            "outside the matrix",
        ),
        (
            "matrix: {img2img.loras: [{clay: 1}], img2img.loras.clay: [0.4]}\n",
            "line 1: matrix.img2img.loras.clay: is told by the axis img2img.loras too; keep one",
        ),
    ],
)
def test_two_weights_of_one_key_are_refused(text: str, message: str) -> None:
    with pytest.raises(SidecarInvalid, match=message):
        axes(text)


def test_an_axis_hides_no_fault_of_what_it_adds_to() -> None:
    text = "img2img: {loras: [fur]}\nmatrix: {img2img.loras.clay: [0.4]}\n"
    assert axes(text) == [["fur"]]
