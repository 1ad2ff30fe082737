import pytest

from dna_pipeline.base.errors import SidecarInvalid
from dna_pipeline.config.tables import MAX_COLUMNS, parse_table


def test_what_is_wrong_is_said_shortly_and_cannot_steer_a_terminal() -> None:
    steering = f"\x1b[31m{'x' * 900}"
    with pytest.raises(SidecarInvalid, match="no column is called 'image'") as caught:
        parse_table({}, "t.csv", ",".join(f"{steering}{n}" for n in range(20)).encode())
    texts = [caught.value.detail]
    (row,) = parse_table({}, "t.csv", f"image,{steering},{steering}.a\na.png,1,1\n".encode()).rows
    assert row.error is not None
    texts.append(row.error.detail)
    for text in texts:
        assert len(text) < 2000
        assert text.isprintable()


def test_too_many_columns() -> None:
    columns = [f"meta.{n}" for n in range(MAX_COLUMNS)]
    with pytest.raises(SidecarInvalid, match="row 1: the table has more than 1,000 columns"):
        parse_table({}, "t.csv", ",".join(["image", *columns]).encode() + b"\na.png\n")
    header = ",".join(["image", *columns[1:]]).encode()
    assert len(parse_table({}, "t.csv", header + b"\na.png\n").rows) == 1
