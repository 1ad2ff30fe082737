"""Values of a CSV's cells, as spreadsheets, pandas and R write them.

A cell with one possible meaning is read. A cell that may mean two things, or may have lost digits,
is refused, with the text to write instead.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

from dna_pipeline.config import yaml12
from dna_pipeline.config.advice import NO, YES
from dna_pipeline.config.columns import MAX_EXACT, Column
from dna_pipeline.config.dates import possible_dates
from dna_pipeline.config.dialect import INVISIBLE, Dialect, clean, without_curly_quotes
from dna_pipeline.config.sentences import shown

EMPTY = object()
"""Value of a cell without a value."""

_ABSENT = frozenset({"NA", "N/A", "NaN", "nan", "NULL", "<NA>"})
_ABSENT_OUTSIDE_TEXT = frozenset({"None", "NAN", "n/a", "na"})
_NULLS = frozenset({"null", "Null", "NULL", "~"})
_FAULT = re.compile(
    r"#(?:N/A|NV|N/D|REF!|BEZUG!|VALUE!|WERT!|VALEUR!|VALOR!|DIV/0!|NAME\?|NOM\?|NUM!|ZAHL!|NULL!"
    r"|NUL!|SPILL!|CALC!|FIELD!|ERROR!|GETTING_DATA)|#{3,}|Err:\d{3}"
)
_TEXT_FORMULA = re.compile(r'="([^"]*)"')
_CALL = re.compile(r"=\s*[A-Za-z][A-Za-z0-9._]*\(.*\)", re.DOTALL)
_FORMULA_SIGNS = ("=", "+", "-", "@")

_PERCENT = re.compile(r"([-+]?[0-9]+(?:[.,][0-9]+)?)\s*%")
_DECIMAL_COMMA = re.compile(r"[-+]?[0-9]*,[0-9]+(?:[eE][-+]?[0-9]+)?")
_GROUPED = re.compile(
    r"[-+]?[0-9]{1,3}([ \u00a0\u2009\u202f'\u2019.,_])[0-9]{3}(?:\1[0-9]{3})*([.,][0-9]+)?"
)
_SCIENTIFIC = re.compile(r"[-+]?[0-9]\.([0-9]+)[eE]\+?[0-9]+")
_LOSSY_FROM = 10**11
_LOSSY_DECIMALS = 5
"""Excel writes numbers of more than 11 digits like 1.23457E+12: with five decimals at most."""

_YES = YES | {"x", "1.0", "wahr", "ja", "vrai", "oui", "verdadero", "vero", "sì", "sí"}
_NO = NO | {"0.0", "falsch", "nein", "faux", "non", "falso", "não"}
"""Words for true and false in other languages and programs."""


def cell_value(cell: str, column: Column, dialect: Dialect, *, is_curly: bool) -> Any:
    """The value of a cell, or `EMPTY`.

    Args:
        is_curly: True if the table has curly quotes in place of CSV's straight ones.

    Raises:
        ValueError: the cell cannot be used; the text says what to write.
    """
    text = clean(cell)
    _refuse_leftovers(text)
    if (quoted := _TEXT_FORMULA.fullmatch(text)) is not None:
        cell = text = quoted[1]
    if text[:1] == "'" and text[1:].startswith(_FORMULA_SIGNS):
        cell = text = text[1:]
    if column.is_free_text:
        return _free_text(cell, column, is_curly=is_curly)
    text = clean(without_curly_quotes(text))
    if _is_absent(text, column):
        return EMPTY
    return _plain(text, column, dialect)


def _refuse_leftovers(text: str) -> None:
    if _FAULT.fullmatch(text):
        raise ValueError(f"{text} is a formula that failed; mend it, or empty the cell")
    if _CALL.fullmatch(text):
        raise ValueError(f"{shown(text)} is a formula; write the value that it stands for")


def _free_text(cell: str, column: Column, *, is_curly: bool) -> Any:
    if is_curly and without_curly_quotes(clean(cell)) != clean(cell):
        cell = without_curly_quotes(clean(cell))
    text = cell.strip(INVISIBLE)
    is_absent = clean(text) in _ABSENT and not column.name.startswith("meta.")
    return EMPTY if is_absent or not clean(text) else text


def _is_absent(text: str, column: Column) -> bool:
    if text in _NULLS and "null" in column.kinds:
        return False  # null has a meaning of its own there
    return not text or text in _ABSENT | _ABSENT_OUTSIDE_TEXT | _NULLS


def _plain(text: str, column: Column, dialect: Dialect) -> Any:
    if column.name == "tags":
        return [tag for tag in map(clean, text.replace(";", ",").split(",")) if tag]
    if column.name == "not_before":
        return _time(text)
    if "text" in column.kinds:
        return text
    if column.is_number:
        return number(text, dialect, is_whole="int" in column.kinds)
    if "bool" in column.kinds:
        return _switch(text)
    return yaml12.loads(text.encode()).value if text[0] in "[{" else yaml12.scalar(text)


def _switch(text: str) -> Any:
    value = yaml12.scalar(text)
    if not isinstance(value, bool) and text.casefold() in _YES | _NO:
        word = "true" if text.casefold() in _YES else "false"
        raise ValueError(f"should be true or false, not {shown(text)}; write {word}")
    return value


# --- numbers ---


def is_decimal_comma(cell: str) -> bool:
    """True if a cell is a number with a comma before its decimals."""
    text = clean(cell).replace("\u2212", "-")
    return _DECIMAL_COMMA.fullmatch(text) is not None and _GROUPED.fullmatch(text) is None


def number(text: str, dialect: Dialect, *, is_whole: bool) -> Any:
    """The number in a cell. Other text is returned unchanged: the parameter's check judges it.

    Args:
        is_whole: True if the number must be whole.

    Raises:
        ValueError: the cell is a formula; or the number has a percent sign, thousands separators,
            a comma before its decimals in a table separated by commas, or may have lost digits.
    """
    text = re.sub(r"^'(?=[-+.0-9])", "", text).replace("\u2212", "-")
    if (percent := _PERCENT.fullmatch(text)) is not None:
        share = Decimal(percent[1].replace(",", ".")) / 100
        raise ValueError(f"{shown(text)} is a percentage; write {_written(share)}")
    if text.startswith("="):
        raise ValueError(f"{shown(text)} is a formula; write the value that it stands for")
    _refuse_groups(text, dialect, is_whole=is_whole)
    if _DECIMAL_COMMA.fullmatch(text):
        with_point = text.replace(",", ".")
        if dialect.delimiter == ",":
            raise ValueError(f"{shown(text)} has a comma for its decimals; write {with_point}")
        text = with_point
    value = yaml12.scalar(text)
    return _whole(text, value) if is_whole and isinstance(value, float) else value


def _refuse_groups(text: str, dialect: Dialect, *, is_whole: bool) -> None:
    match = _GROUPED.fullmatch(text)
    if match is None:
        return
    sign, decimals = match[1], match[2]
    is_single = sign in ".," and decimals is None and text.count(sign) == 1
    if is_single and text.lstrip("+-").startswith("0"):
        return  # 0.625: a number with thousands does not begin with 0
    if is_single and not is_whole:
        decimal = dialect.decimal if sign == "." else ("," if dialect.delimiter != "," else "")
        if sign == decimal:
            return
    digits = text.removesuffix(decimals or "").replace(sign, "")
    plain_number = digits + (decimals or "").replace(",", ".")
    if is_single:
        comma = "," if dialect.decimal == "," else "."
        other = text.replace(sign, comma) if not is_whole else text.split(sign)[0]
        raise ValueError(f"{shown(text)} may mean {digits} or {other}; write the one you mean")
    raise ValueError(f"{shown(text)} has thousands separators; write {plain_number}")


def _whole(text: str, value: float) -> Any:
    """`1234.0` as 1234. Raises ValueError if digits may be lost."""
    if not math.isfinite(value) or not value.is_integer():
        return value
    rounded = _SCIENTIFIC.fullmatch(text)
    is_cut = rounded is not None and len(rounded[1]) >= _LOSSY_DECIMALS
    if abs(value) > MAX_EXACT or (is_cut and abs(value) >= _LOSSY_FROM):
        raise ValueError(
            f"{shown(text)} may have lost its last digits; write all of them, without point and "
            "exponent (in a spreadsheet, format the column as text)"
        )
    return int(value)


def _written(value: Decimal) -> str:
    return format(value.normalize(), "f")


# --- times ---


def _time(text: str) -> str:
    """A time, unchanged. Raises ValueError for one in the form of a spreadsheet."""
    dates = possible_dates(text)
    if dates:
        raise ValueError(
            f"{shown(text)} is a date in a spreadsheet's form; write {' or '.join(dates)}"
        )
    return text
