"""Tables as spreadsheets, pandas, R and people write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dna_pipeline.base.errors import JobError, SidecarInvalid
from dna_pipeline.config.dialect import Dialect
from dna_pipeline.config.tables import Table, parse_table

Read = Callable[..., Table]


@pytest.fixture
def table(read: Callable[..., Any], example: str) -> Read:
    """Reads a table for the pipelines of the example."""
    pipelines = read(example).pipelines

    def parse(data: str | bytes, name: str = "t.csv") -> Table:
        return parse_table(pipelines, name, data.encode() if isinstance(data, str) else data)

    return parse


def values(read: Table) -> list[Any]:
    assert [row.error for row in read.rows] == [None] * len(read.rows)
    return [row.document.value for row in read.rows]


def fault(read: Table) -> JobError:
    """What is wrong with the only row."""
    (row,) = read.rows
    assert row.error is not None
    return row.error


# --- the form as a whole ---

CHAIR = {"image": "a.png", "img2img": {"prompt": "a, b; c", "strength": 0.6}}


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        (
            'image;img2img.prompt;img2img.strength\ra.png;"a, b; c";0,6\r',
            Dialect(";", "\r", decimal=","),
        ),
        (
            'sep=;\r\nimage;img2img.prompt;img2img.strength\r\na.png;"a, b; c";0,6\r\n',
            Dialect(";", "\r\n", has_sep=True, decimal=","),
        ),
        (
            'sep=\t\nimage\timg2img.prompt\timg2img.strength\na.png\ta, b; c\t0.6\n',
            Dialect("\t", "\n", has_sep=True),
        ),
        (
            '"sep=,"\nimage,img2img.prompt,img2img.strength\na.png,"a, b; c",0.6\n',
            Dialect(",", "\n", has_sep=True),
        ),
        (
            '\ufeffimage|img2img.prompt|img2img.strength\n a.png | a, b; c|.6\n',
            Dialect("|", "\n", has_mark=True),
        ),
        (
            'image,img2img.prompt,img2img.strength\r\na.png, "a, b; c",6e-1\r\r\n',
            Dialect(",", "\r\n"),
        ),
        (
            '\n,,\nimage,img2img.prompt,img2img.strength,,\na.png,"a, b; c",0.6,,\n,,,,\n\n',
            Dialect(",", "\n"),
        ),
        (
            '"img2img.prompt";"img2img.strength";"image"\n"a, b; c";"+0,6";"a.png"',
            Dialect(";", "\n", decimal=","),
        ),
    ],
)  # fmt: skip
def test_separator_line_ends_and_decimals_are_found_out(
    table: Read, text: str, dialect: Dialect
) -> None:
    read = table(text)
    assert values(read) == [CHAIR]
    assert read.dialect == dialect


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings(table: Read, encoding: str) -> None:
    read = table("image;img2img.prompt\r\na.png;grün 猫\r\n".encode(encoding))
    assert values(read) == [{"image": "a.png", "img2img": {"prompt": "grün 猫"}}]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("image\nb.png\nä.png\n".encode("cp1252"), "line 3: .*'ä'.*save it as CSV UTF-8"),
        ("image\rb.png\rgrün.png\r".encode("latin-1"), "line 3: .*'ü'"),
        (b"PK\x03\x04\x14\x00\x06\x00", "an Excel, LibreOffice or Numbers file.*save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel file"),
        (b"\x1f\x8b\x08", "compressed"),
        ("image\na.png\n".encode("utf-16")[:-1], "broken UTF-16"),
        (b"image:pipeline\na.png:cut\n", "no column is called 'image'.*comma, semicolon, tab, |"),
        (b"sep=:\nimage:x\na.png:1\n", "sep=: asks for a separator that is not read"),
        (b'image,meta.x\na.png,1\nb.png,"2" inches\n', 'row 3: .*inside quoted text twice: ""'),
        (b'image,meta.x\n\na.png,1\nb.png,"2\nc.png,3\n', "row 4: a quote is opened"),
        (b"Image,image\na.png,b.png\n", "two columns are called 'image'"),
        (b"image\n\n,\n", "no rows"),
    ],
)
def test_what_is_no_table_is_refused_with_the_mend(table: Read, data: bytes, words: str) -> None:
    with pytest.raises(SidecarInvalid, match=words) as caught:
        table(data)
    assert caught.value.detail.isprintable()


def test_rows_are_counted_as_a_spreadsheet_shows_them(table: Read) -> None:
    text = 'sep=;\nimage;meta.x\na.png;"two\nlines"\n\nb.png;1\n;;\nc.png;2\n'
    assert [row.number for row in table(text).rows] == [2, 4, 6]


# --- columns ---


@pytest.mark.parametrize("name", ["Image", "IMAGE", " image ", "\u00a0image\ufeff", "“image”"])
def test_names_of_columns_in_other_spellings(table: Read, name: str) -> None:
    read = table(f"{name},IMG2IMG.Prompt,img2img . CFG,Meta.Asset,SEED\na.png,x,5,y,7\n")
    assert values(read) == [
        {
            "image": "a.png", "img2img": {"prompt": "x", "cfg": 5}, "meta": {"Asset": "y"},
            "seed": 7,
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("prompt", "`img2img.prompt`"),
        ("Strength", "`img2img.strength`"),
        ("promt", "`img2img.prompt`"),
        ("denoise", "`img2img.denoise`"),
        ("resolution", "`triposr.resolution`"),
        ("pipline", "`pipeline`"),
        ("notes", "`meta.notes`"),
        ("comment", "`meta.comment`"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_column_without_a_stage(table: Read, name: str, column: str, meant: str) -> None:
    text = f"image,{column}\na.png,x\nb.png,\n"
    if name == "t.jsonl":
        text = f'{{"image": "a.png", "{column}": "x"}}\n{{"image": "b.png"}}\n'
    wrong, right = table(text, name).rows
    assert right.error is None
    assert wrong.error is not None
    assert (wrong.error.code, wrong.error.where) == ("sidecar_invalid", column)
    assert f": {column}: there is no such column; did you mean {meant}" in wrong.error.detail


def test_the_counting_column_of_pandas_and_r_is_passed_over(table: Read) -> None:
    for head in ("", '""', "Unnamed: 0"):
        read = table(f"{head},image,seed\n0,a.png,1.0\n1,b.png,\n")
        assert values(read) == [{"image": "a.png", "seed": 1}, {"image": "b.png"}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,meta.x\na.png,one, two\n", "it has 3 cells where row 1 names 2 columns"),
        ("image,meta.x\na.png,one,,,,five,,\n", "it has 6 cells where row 1 names 2 columns"),
        ("image;meta.x\na.png;one;two\n", "holds a separator \\(semicolon\\) in double quotes"),
        ("image,meta.x\na.png,“one, two”\n", "straight quotes"),
        ("image,,meta.x\na.png,astray,y\n", "'astray' stands in column 2, which has no name"),
    ],
)
def test_cells_without_a_column(table: Read, text: str, words: str) -> None:
    import re

    error = fault(table(text))
    assert (error.code, error.where) == ("sidecar_invalid", "")
    assert re.match(f"row 2: .*{words}", error.detail)


def test_cells_that_lack_at_the_end_are_empty(table: Read) -> None:
    assert values(table("image,seed,meta.x\na.png\nb.png,1\n")) == [
        {"image": "a.png"},
        {"image": "b.png", "seed": 1},
    ]


def test_every_wrong_cell_of_a_row_is_named(table: Read) -> None:
    error = fault(table("image,img2img.strength,img2img.steps,priority\na.png,60%,#N/A,2\n"))
    assert error.detail.splitlines() == [
        "row 2: img2img.strength: '60%' is a percentage; write 0.6",
        "row 2: img2img.steps: #N/A is a formula that failed; mend it, or empty the cell",
    ]
    assert error.where == "img2img.strength"


# --- numbers ---


def one(table: Read, column: str, cell: str, delimiter: str = ",") -> Any:
    """The value of a cell; None where it says nothing, and the error where it is wrong."""
    (row,) = table(f'image{delimiter}{column}\na.png{delimiter}"{cell}"\n').rows
    if row.error is not None:
        return row.error.detail
    value: Any = row.document.value
    for key in column.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [
        ("seed", "1234.0", 1234),
        ("seed", "1.234E+05", 123400),
        ("seed", "-1.0", -1),
        ("seed", "\u22121", -1),
        ("seed", "9007199254740992.0", 2**53),
        ("seed", "12345678901234567890", 12345678901234567890),
        ("seed", "1234.5", 1234.5),
        ("seed", "from_content", "from_content"),
        ("priority", "10.00", 10),
        ("img2img.steps", "20.0", 20),
        ("img2img.steps", "2e1", 20),
        ("img2img.steps", "\u00a020\u00a0", 20),
        ("img2img.steps", "'20", 20),
        ("img2img.steps", '=""20""', 20),
        ("img2img.strength", "1", 1),
        ("img2img.strength", "1.0", 1.0),
        ("img2img.strength", "0.625", 0.625),
        ("triposr.threshold", "12.125", 12.125),
        ("img2img.prompt", "20.0", "20.0"),
        ("meta.n", "1,5", "1,5"),
    ],
)
def test_numbers_in_a_comma_table(table: Read, column: str, cell: str, value: Any) -> None:
    read = one(table, column, cell)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize(
    ("column", "cell", "value"),
    [
        ("img2img.strength", "0,6", 0.6),
        ("img2img.strength", ",6", 0.6),
        ("img2img.strength", "0.6", 0.6),
        ("img2img.strength", "6,0E-01", 0.6),
        ("img2img.guidance_scale", "7,125", 7.125),
        ("img2img.guidance_scale", "7.125", 7.125),
        ("img2img.steps", "20,0", 20),
        ("img2img.steps", "20.0", 20),
        ("seed", "1,234E+05", 123400),
        ("img2img.prompt", "0,6", "0,6"),
    ],
)
def test_numbers_with_a_comma(
    table: Read, delimiter: str, column: str, cell: str, value: Any
) -> None:
    read = one(table, column, cell, delimiter)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("column", "cell", "delimiter", "words"),
    [
        ("img2img.strength", "0,6", ",", "'0,6' has a comma for its decimals; write 0.6"),
        ("img2img.strength", "60%", ",", "'60%' is a percentage; write 0.6"),
        ("img2img.strength", "62,5 %", ";", "'62,5 %' is a percentage; write 0.625"),
        ("triposr.threshold", "1.234,5", ";", "has thousands separators; write 1234.5"),
        ("triposr.threshold", "1,234.5", ",", "has thousands separators; write 1234.5"),
        ("triposr.threshold", "1,234", ",", "'1,234' may mean 1234 or 1.234"),
        ("img2img.steps", "1.000", ";", "'1.000' may mean 1000 or 1;"),
        ("img2img.steps", "1,000", ",", "'1,000' may mean 1000 or 1;"),
        ("seed", "1'234'567", ",", "has thousands separators; write 1234567"),
        ("seed", "1 234", ",", "has thousands separators; write 1234"),
        ("seed", "1\u202f234", ";", "has thousands separators; write 1234"),
        ("seed", "1.234.567", ";", "has thousands separators; write 1234567"),
        ("seed", "1.23457E+12", ",", "may have lost its last digits"),
        ("seed", "1.2345678901234567e+18", ",", "may have lost its last digits"),
        ("img2img.strength", "=0.3*2", ",", "is a formula; write the value"),
    ],
)
def test_numbers_that_are_refused_say_what_to_write(
    table: Read, column: str, cell: str, delimiter: str, words: str
) -> None:
    read = one(table, column, cell, delimiter)
    assert isinstance(read, str)
    assert read.startswith(f"row 2: {column}: ")
    assert words in read
    (row,) = table(f'image{delimiter}{column}\na.png{delimiter}"{cell}"\n').rows
    assert row.error is not None
    assert (row.error.code, row.error.where) == ("parameter_invalid", column)


def test_a_point_between_thousands_is_refused_where_others_have_a_comma(table: Read) -> None:
    text = "image;triposr.threshold;img2img.cfg\na.png;7,5;1.5\nb.png;1.234;\nc.png;0.234;\n"
    right, wrong, small = table(text).rows
    assert right.error is None
    assert small.document.value["triposr"] == {"threshold": 0.234}
    assert wrong.error is not None
    assert "'1.234' may mean 1234 or 1,234" in wrong.error.detail


# --- true, false, nothing ---


@pytest.mark.parametrize("column", ["remove_background.force", "triposr.turntable"])
@pytest.mark.parametrize(
    ("cell", "value"),
    [("TRUE", True), ("True", True), ("true", True), ("FALSE", False), (" false ", False)],
)
def test_true_and_false(table: Read, column: str, cell: str, value: bool) -> None:
    assert one(table, column, cell) is value


@pytest.mark.parametrize(
    ("cell", "word"),
    [("WAHR", "true"), ("FALSCH", "false"), ("VRAI", "true"), ("yes", "true"), ("1", "true"),
     ("0.0", "false"), ("x", "true"), ("Nein", "false")],
)  # fmt: skip
def test_words_for_true_and_false_that_are_not_read(table: Read, cell: str, word: str) -> None:
    read = one(table, "remove_background.force", cell)
    assert read == (
        f"row 2: remove_background.force: should be true or false, not '{cell}'; write {word}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["", " ", "\u00a0", "NA", "N/A", "NaN", "nan", "NULL", "<NA>"])
@pytest.mark.parametrize(
    "column",
    ["seed", "priority", "pipeline", "not_before", "img2img.steps", "img2img.prompt",
     "remove_background.force", "img2img.sampler"],
)  # fmt: skip
def test_words_for_nothing(table: Read, column: str, cell: str) -> None:
    assert one(table, column, cell) is None
    (row,) = table(f'image,{column}\na.png,"{cell}"\n').rows
    assert row.document.value == {"image": "a.png"}


def test_text_for_people_is_left_as_it_is(table: Read) -> None:
    for cell in ("NA", "null", "None", "no", "12", "1,5", "60%", "'x'", " x ", "“x”"):
        assert one(table, "meta.note", cell) == cell
    for cell in ("null", "None", "no", "12", "“x”", "=x", "-x"):
        assert one(table, "img2img.prompt", cell) == cell


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["#N/A", "#REF!", "#DIV/0!", "#NAME?", "#NV", "#WERT!", "####"])
@pytest.mark.parametrize("column", ["seed", "img2img.prompt", "meta.note", "pipeline"])
def test_a_formula_that_failed_is_a_wrong_row(table: Read, column: str, cell: str) -> None:
    read = one(table, column, cell)
    assert read == f"row 2: {column}: {cell} is a formula that failed; mend it, or empty the cell"


def test_formulas_and_what_guards_against_them(table: Read) -> None:
    error = fault(table('image\n"=HYPERLINK(""https://x/a.png"",""a.png"")"\n'))
    assert "is a formula; write the value that it stands for" in error.detail
    assert error.where == "image"
    assert values(table("image,img2img.prompt\n'=a.png,'-x\n")) == [
        {"image": "=a.png", "img2img": {"prompt": "-x"}}
    ]
    assert values(table("image\n=1+1.png\n")) == [{"image": "=1+1.png"}]


def test_curly_quotes(table: Read) -> None:
    assert values(table("image,seed\n“a.png”,„7“\n")) == [{"image": "a.png", "seed": 7}]
    read = table("“image”,“img2img.prompt”\n“a.png”,“a chair”\n")
    assert values(read) == [{"image": "a.png", "img2img": {"prompt": "a chair"}}]


@pytest.mark.parametrize(
    ("cell", "meant"),
    [
        ("01.12.2026 22:00", "write 2026-12-01T22:00"),
        ("1.2.2026", "write 2026-02-01"),
        ("12/1/2026 22:00", "write 2026-12-01T22:00 or 2026-01-12T22:00"),
        ("12/31/2026 9:05", "write 2026-12-31T09:05"),
        ("2026/12/01 22:00:30", "write 2026-12-01T22:00:30"),
    ],
)
def test_dates_of_spreadsheets(table: Read, cell: str, meant: str) -> None:
    read = one(table, "not_before", cell)
    assert read.startswith(f"row 2: not_before: '{cell}' is a date in a spreadsheet's form; ")
    assert read.endswith(meant)


# --- JSON Lines ---


def test_whole_numbers_in_json_lines(table: Read) -> None:
    lines = [
        '{"image": "a.png", "seed": 1234.0, "img2img": {"steps": 20.0, "strength": 1.0}}',
        '\ufeff{"image": "b.png", "img2img.steps": 2e1, "priority": 5.0, "meta": {"n": 1.0}}\r',
        '{"image": "c.png", "img2img.steps": 20.5, "seed": NaN}',
    ]
    read = table("\n".join([*lines[:1], lines[1].lstrip("\ufeff"), *lines[2:]]), "t.jsonl")
    a, b, c = values(read)
    assert a == {"image": "a.png", "seed": 1234, "img2img": {"steps": 20, "strength": 1.0}}
    assert (type(a["seed"]), type(a["img2img"]["steps"])) == (int, int)
    assert (type(b["img2img"]["steps"]), type(b["priority"])) == (int, int)
    assert (b["meta"], type(b["meta"]["n"])) == ({"n": 1.0}, float)
    assert c == {"image": "c.png", "img2img": {"steps": 20.5}}
    assert values(table(f"\ufeff{lines[0]}\r{lines[2]}\r\n", "t.jsonl"))[0] == a


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"image": "a.png"}]', "one JSON array; a .jsonl has one object a line"),
        ('\n[\n{"image": "a.png"}\n]\n', "one JSON array"),
        ('{\n  "image": "a.png"\n}\n', "runs over several lines"),
    ],
)
def test_json_that_is_no_json_lines(table: Read, text: str, words: str) -> None:
    with pytest.raises(SidecarInvalid, match=words):
        table(text, "t.jsonl")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"image": "a.png"},', "a comma follows the object"),
        ('{"image": "a.png",}', "a comma stands before a closing bracket"),
        ('{"image": "a.png", "tags": ["x",]}', "a comma stands before a closing bracket"),
        ("{'image': 'a.png'}", "double quotes only"),
        ('{"image": "a.png", "seed": None}', "JSON has no None; write null"),
        ('{"image": "a.png", "remove_background.force": True}', "JSON has no True; write true"),
        ("{“image”: “a.png”}", "the quotes are curly"),
        ('{"image": "a.png"', "this is no JSON: .* at character 18"),
        ('{"image": "a.png", "seed": Infinity}', "Infinity is no number of JSON"),
        ('{"image": "a.png", "meta": {"a": 1e999}}', "1e999 is too large for a number"),
        ('{"image": "a.png", "meta": [{"a": -1e999}]}', "-1e999 is too large for a number"),
        ('{"image": "a.png", "seed": ' + "9" * 5000 + "}", "a number of more than 1,000 digits"),
        ('"a.png"', "should be an object, not 'a.png'"),
    ],
)
def test_lines_that_are_no_json_say_what_to_write(table: Read, line: str, words: str) -> None:
    import re

    error = fault(table(line, "t.jsonl"))
    assert re.match(f"row 1: .*{words}", error.detail)
