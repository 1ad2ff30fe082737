"""Form of a table as text: encoding, separator, line ends, and the sign before decimals.

Spreadsheets write CSV by the conventions of their language and system. The form is detected from
the table itself, so that nobody has to declare it, and `batch.csv` has the same form.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from dna_pipeline.base.errors import SidecarInvalid
from dna_pipeline.config.yaml12 import one_line

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}
MAX_CELL_CHARS = 1 << 20

INVISIBLE = "\u00a0\u2007\u202f\u200b\u200e\u200f\u2060\ufeff"
"""Non-breaking blanks and marks without width, which web pages leave around copied text."""

_SEP_LINE = re.compile(r'[ ]*"?sep=(\\t|[^\r\n"])"?[,;|\t ]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\r|\n")
_OPEN_QUOTE, _CLOSE_QUOTE = "\u201c\u201d\u201e\u201f\u00ab\u00bb", "\u201d\u201c\u201f\u00bb\u00ab"
_WHOLE_FILES = (
    (b"PK\x03\x04", "an Excel, LibreOffice or Numbers file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls)"),
    (b"\x1f\x8b", "compressed (gzip)"),
    (b"%PDF", "a PDF"),
)
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32", "UTF-32"),
    (b"\xff\xfe", "utf-16", "UTF-16"),
    (b"\xfe\xff", "utf-16", "UTF-16"),
    (b"\xef\xbb\xbf", "utf-8-sig", "UTF-8"),
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """Form of a table.

    Attributes:
        delimiter: separator of the cells.
        newline: end of a line.
        has_mark: the file begins with a byte order mark, by which Excel recognises UTF-8.
        has_sep: the first line is `sep=;`, by which Excel recognises the separator.
        decimal: sign before the decimals of a number.
    """

    delimiter: str = ","
    newline: str = "\r\n"
    has_mark: bool = False
    has_sep: bool = False
    decimal: str = "."

    def to_json(self) -> str | None:
        """The dialect as text for the ledger; None for a plain comma table."""
        return None if self == Dialect() else json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | None) -> Dialect:
        """The dialect from the ledger's text; for None, that of a plain comma table."""
        return cls() if text is None else cls(**json.loads(text))

    @property
    def start(self) -> str:
        """Text before the names of the columns."""
        sep = f"sep={self.delimiter}{self.newline}" if self.has_sep else ""
        return ("\ufeff" if self.has_mark else "") + sep

    def lines(self, rows: Iterable[Iterable[str]]) -> str:
        """Rows as text; a cell has quotes only if it needs them."""
        file = io.StringIO(newline="")
        csv.writer(file, delimiter=self.delimiter, lineterminator=self.newline).writerows(rows)
        return file.getvalue()


def decode(data: bytes) -> tuple[str, bool]:
    """The text of a table's bytes, and True if they begin with a byte order mark.

    Raises:
        SidecarInvalid: the bytes are no text, or text in an unknown encoding.
    """
    for start, what in _WHOLE_FILES:
        if data.startswith(start):
            raise SidecarInvalid(
                f"the file is {what} with the name of a table; open it in the program that it "
                "belongs to and save it as CSV (UTF-8)"
            )
    encoding, name, has_mark = _encoding(data)
    try:
        return data.decode(encoding), has_mark
    except UnicodeDecodeError as error:
        if name != "UTF-8":
            text = f"the table is broken {name}; save it again, as CSV UTF-8"
            raise SidecarInvalid(text) from None
        raise SidecarInvalid(_not_utf8(data, error.start)) from None


def _encoding(data: bytes) -> tuple[str, str, bool]:
    for mark, encoding, name in _MARKS:
        if data.startswith(mark):
            return encoding, name, True
    # Names of columns are mostly ASCII; in UTF-16 every other byte of ASCII text is zero.
    start = [byte == 0 for byte in data[:4]]
    if start == [False, True, False, True]:
        return "utf-16-le", "UTF-16", False
    if start == [True, False, True, False]:
        return "utf-16-be", "UTF-16", False
    return "utf-8", "UTF-8", False


def _not_utf8(data: bytes, at: int) -> str:
    line = len(_LINE_END.findall(data[:at].decode("latin-1"))) + 1
    letter = data[at : at + 1].decode("cp1252", "replace")
    guess = f", perhaps {letter!r} in an encoding of Windows" if letter.isprintable() else ""
    byte = f"byte 0x{data[at]:02X}{guess}"
    return f"line {line}: the table is not UTF-8 ({byte}); save it as CSV UTF-8"


def clean(cell: str) -> str:
    """A cell without the blanks around it, including invisible ones."""
    return cell.strip().strip(INVISIBLE).strip()


def without_curly_quotes(cell: str) -> str:
    """A cell without a pair of curly quotes around it. Text programs turn straight quotes into
    curly ones."""
    is_quoted = len(cell) > 1 and cell[0] in _OPEN_QUOTE and cell[-1] in _CLOSE_QUOTE
    return cell[1:-1] if is_quoted else cell


def has_curly_quotes(text: str) -> bool:
    """True if the text has curly double quotes."""
    return any(sign in text for sign in _OPEN_QUOTE)


def column_name(cell: str) -> str:
    """The name of a column from its cell in the first row."""
    name = clean(without_curly_quotes(clean(cell)))
    # pandas gives this name to a column that had none when it was read.
    return "" if re.fullmatch(r"Unnamed: \d+", name) else name


@dataclass(frozen=True, slots=True)
class Sheet:
    """A CSV as rows of cells.

    Attributes:
        header: number of the row with the names of the columns, as a spreadsheet counts.
        columns: these names without blanks and quotes around them; "" for a column without one.
        is_curly: some of these names stand in curly quotes.
    """

    text: str
    dialect: Dialect
    header: int
    columns: list[str]
    is_curly: bool

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows below the header that are not empty, each with its number.

        Raises:
            SidecarInvalid: the quotes of a row are wrong, so the rows after it cannot be separated.
        """
        for number, cells in _rows(self.text, self.dialect.delimiter):
            if number > self.header:
                yield number, cells


def read_sheet(text: str, *, has_mark: bool) -> Sheet:
    """Detect the form of a CSV and the names of its columns.

    Raises:
        SidecarInvalid: `sep=` asks for a separator that is not supported.
    """
    sep = _SEP_LINE.match(text)
    if sep is not None:
        text = text[sep.end() :]
        candidates = [_declared(sep[1])]
    else:
        candidates = list(SEPARATORS)
    headers = [(_header(text, delimiter), delimiter) for delimiter in candidates]
    with_image = [(head, d) for head, d in headers if "image" in map(str.casefold, _names(head[1]))]
    # `max` takes the first of equals, so the comma wins if the columns do not decide.
    (number, cells), delimiter = max(with_image or headers, key=lambda item: len(item[0][1]))
    end = _LINE_END.search(text) if sep is None else _LINE_END.search(sep[0])
    newline = end[0] if end else "\r\n"
    dialect = Dialect(delimiter, newline, has_mark, sep is not None)
    is_curly = any(clean(cell) != without_curly_quotes(clean(cell)) for cell in cells)
    return Sheet(text, dialect, number, _names(cells), is_curly)


def _declared(sep: str) -> str:
    delimiter = "\t" if sep == "\\t" else sep
    if delimiter not in SEPARATORS:
        raise SidecarInvalid(
            f"line 1: sep={one_line(sep, 5)} asks for a separator that is not read; "
            f"read are {', '.join(SEPARATORS.values())}"
        )
    return delimiter


def _header(text: str, delimiter: str) -> tuple[int, list[str]]:
    """Number and cells of the first row that is not empty; a row without cells if there is none,
    or if the text is no CSV with this separator."""
    try:
        return next(_rows(text, delimiter), (1, list[str]()))
    except SidecarInvalid:
        return 1, []


def _names(cells: list[str]) -> list[str]:
    names = [column_name(cell) for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(MAX_CELL_CHARS)
    # People put a blank after a separator; a quote after that blank must still open quoted text.
    reader: Any = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    number = 0
    try:
        for number, cells in enumerate(reader, 1):
            if any(map(clean, cells)):
                yield number, cells
    except csv.Error as error:
        raise SidecarInvalid(f"row {number + 1}: {_csv_words(str(error))}") from None


def _csv_words(problem: str) -> str:
    if "unexpected end of data" in problem:
        return 'a quote is opened and not closed; put a closing " at the end of the text'
    if "expected after" in problem:
        return 'text follows a closing quote; write a " inside quoted text twice: ""'
    if "field larger" in problem:
        return f"a cell has more than {MAX_CELL_CHARS:,} characters; is a quote not closed?"
    return f"this is no CSV: {problem}"
