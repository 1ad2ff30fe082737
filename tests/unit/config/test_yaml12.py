"""YAML 1.2 from files that nobody vouches for."""

from __future__ import annotations

import contextlib
import json
import math
import random
import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dna_pipeline.config import yaml12
from dna_pipeline.config.yaml12 import YamlError, load, loads, scalar

# --- scalars ---

SCHEMA = [  # §10.3.2, the table as it stands there
    (r"null|Null|NULL|~", lambda t: None),
    (r"", lambda t: None),
    (r"true|True|TRUE", lambda t: True),
    (r"false|False|FALSE", lambda t: False),
    (r"[-+]?[0-9]+", int),
    (r"0o[0-7]+", lambda t: int(t, 8)),
    (r"0x[0-9a-fA-F]+", lambda t: int(t, 16)),
    (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", float),
    (r"[-+]?(\.inf|\.Inf|\.INF)", lambda t: float(t.replace(".", ""))),
    (r"\.nan|\.NaN|\.NAN", lambda t: math.nan),
    (r"(?s).*", str),
]


def by_the_table(text: str):
    return next(read(text) for pattern, read in SCHEMA if re.fullmatch(pattern, text))


def same(a: object, b: object) -> bool:
    return type(a) is type(b) and (a == b or (a != a and b != b))


@pytest.mark.slow
@given(
    st.text("0123456789+-.eExXoO_ :", max_size=8)
    | st.text("nulNULtrueTRUEfalsFALS~.infINFnaNAoyYs", max_size=6)
    | st.sampled_from(["null", "~", "TRUE", ".Inf", "-.inf", "+.INF", ".NaN", "0o17", "0xfF", "1."])
    | st.text(max_size=8)
)
@example("１２")  # digits, but not ASCII ones
@example("1\n")
@settings(max_examples=600)
def test_scalars_follow_the_core_schema(text: str):
    assert same(scalar(text), by_the_table(text))


@pytest.mark.slow
@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none())
@settings(max_examples=200)
def test_what_json_writes_is_read_back(value: object):
    assert same(loads(f"key: {json.dumps(value)}".encode()).value["key"], value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("22:00", "22:00"),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("6e-1", 0.6),
        ("1_000", "1_000"),
        ("0123", 123),
        ("0b11", "0b11"),
        ("2026-12-01", "2026-12-01"),
        ("2026-12-01T22:00:00+01:00", "2026-12-01T22:00:00+01:00"),
        ("=", "="),
        ("1.5.0", "1.5.0"),
        ('"12"', "12"),
        ("'null'", "null"),
        ('! "12"', "12"),
        ("!!str 12", "12"),
        ("!!float 12", 12.0),
        ("!!int 0x10", 16),
        ("!!bool true", True),
        ("!!null ~", None),
        ("!!seq [1]", [1]),
        ("!!map {a: 1}", {"a": 1}),
        ("|\n  12\n", "12\n"),
        ("*x", None),
        ("", None),
    ],
)
def test_values(text: str, value: object):
    assert same(loads(f"first: &x ~\nkey: {text}".encode()).value["key"], value)


def test_long_numbers_are_refused_and_not_read_as_infinity():
    longest = "9" * yaml12.MAX_DIGITS
    assert loads(longest.encode()).value == int(longest)
    for text in (longest + "9", "0x" + "f" * 5000, "0o" + "7" * 5000, "1." + "0" * 5000):
        with pytest.raises(YamlError, match=r"line 2: a number of more than 1,000 digits"):
            loads(f"# a comment\n{text}".encode())
    assert loads(b"!!float 0x" + b"f" * 900).value == math.inf


# --- lines ---


def test_lines_of_block_and_flow():
    document = loads(
        b"""\
# a comment

a: 1
b:
  c:

    - d
    -   e: 2
        f:
          3
g: {h: 1,
  i: [2,
      3], j: {k: {}}}
l: |
  text
  text
m: 4
"""
    )
    assert document.lines == {
        ("a",): 3,
        ("b",): 4,
        ("b", "c"): 5,
        ("b", "c", 0): 7,
        ("b", "c", 1): 8,
        ("b", "c", 1, "e"): 8,
        ("b", "c", 1, "f"): 9,
        ("g",): 11,
        ("g", "h"): 11,
        ("g", "i"): 12,
        ("g", "i", 0): 12,
        ("g", "i", 1): 13,
        ("g", "j"): 13,
        ("g", "j", "k"): 13,
        ("l",): 14,
        ("m",): 17,
    }
    assert document.line(("b", "c", 1, "f")) == 9


def test_a_place_without_a_line_has_that_of_what_is_around_it():
    document = loads(b"\nbase: &x\n  deep: {a: 1}\nuse: *x\n")
    assert document.value["use"] == {"deep": {"a": 1}}
    assert document.line(("use", "deep", "a")) == 4
    assert document.line(("base", "missing", 3)) == 2
    assert document.line(("nowhere",)) == 1
    assert document.line(()) == 1


def test_has():
    document = loads(b"a: [1, {b: null}]\nc: text")
    written = [(), ("a",), ("a", 0), ("a", 1, "b"), ("c",)]
    absent = [("b",), ("a", 2), ("a", "b"), ("a", 0, 0), ("c", "t"), ("a", 1, "b", "c")]
    assert all(document.has(path) for path in written)
    assert not any(document.has(path) for path in absent)


# --- what is refused, and where ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands here twice"),
        ("a: {b: 1,\n b: 2}", "line 2: the key 'b' stands here twice"),
        ("1: a\n'1': b", "line 2: the key '1' stands here twice"),
        ("\na: !!python/object:os.system x", "line 2: a: the tag !!python/object:os.system cannot"),
        ("!!binary aGk=", "line 1: the tag !!binary cannot be used here"),
        ("!mine:map {a: 1}", "line 1: the tag !mine:map cannot"),
        ("!!str {a: 1}", "line 1: the tag !!str cannot"),
        ("!!map [1]", "line 1: the tag !!map cannot"),
        ("!!map 3", "line 1: the tag !!map cannot"),
        ("!!int half", "line 1: the tag !!int cannot"),
        ("!!int 1.5", "line 1: the tag !!int cannot"),
        ("!!bool 1", "line 1: the tag !!bool cannot"),
        ("!!float true", "line 1: the tag !!float cannot"),
        ("!!python/name:os x: 1", "line 1: the tag !!python/name:os cannot"),
        ("a: &b 1\n*b : 2", "line 2: an alias cannot be a key"),
        ("&b a: 1", "line 1: a key cannot have an anchor"),
        ("a: *b", r"line 1: the alias \*b has no anchor before it"),
        ("&a [*a]", r"line 1: the alias \*a has no anchor before it"),
        ("a: &b {c: 1}\nd:\n  <<: *b", r"line 3: merge keys \(<<\) are not known here"),
        ("? [a]\n: b", "line 1: a key must be plain text"),
        ("{{a: 1}: 2}", "line 1: a key must be plain text"),
        ("a: 1\n---\nb: 2", "line 2: only one document is allowed"),
        ("---\n---", "line 2: only one document is allowed"),
        ('a: 1\nb: "x\\0y"', "line 2: text cannot hold a NUL character"),
        ('"\\0": 1', "line 1: text cannot hold a NUL character"),
        ("a:\n\tb: 1", "line 2: .*indent with spaces, not with tabs"),
        ("\ta: 1", "line 1: .*indent with spaces, not with tabs"),
        ("a: 1\n \tb: 2", "line 2: .*indent with spaces, not with tabs"),
        ("a: b: c", "line 1: .*put text with a colon in quotes"),
        ("a: @b", "line 1: .*put such text in quotes"),
        ('a: "b', "line 1: .*a closing quote is missing"),
        ("a: [b", "line 1: .*a closing bracket or a comma is missing"),
        ("- a\nb: 1", "line 2: .*look for a wrong indentation"),
        ('a: "\\ud800"', "line 1: .*invalid Unicode character"),
        ("a: 1\nb: \x07", "line 2: this is not plain text: .*control characters.*; save the file"),
        ("a: \x7f", "line 1: this is not plain text"),
        ("a\0b", "line 1: this is not plain text"),
    ],
)
def test_refused(text: str, message: str):
    with pytest.raises(YamlError, match=f"^{message}") as caught:
        loads(text.encode())
    assert str(caught.value) == f"line {caught.value.line}: {caught.value.problem}"


@pytest.mark.parametrize(
    "text",
    [
        f"? {'k' * 300_000}\n: 1\n? {'k' * 300_000}\n: 1",
        f"a: !<{'x' * 900_000}> 1",
        f"a: *{'x' * 900_000}",
        "a: !<%1b[31m> 1",
        "%" + "x" * 900_000,
        "%TAG ! " + "x" * 900_000,
        'a: "\\x' + "g" * 900_000,
    ],
    ids=lambda text: text[:8],
)
def test_what_is_wrong_is_said_shortly_and_cannot_steer_a_terminal(text: str):
    with pytest.raises(YamlError) as caught:
        loads(text.encode())
    assert len(str(caught.value)) < 350
    assert str(caught.value).isprintable()


def test_a_quoted_merge_key_is_text():
    assert loads(b"'<<': 1").value == {"<<": 1}


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "---\n...\n", "~"])
def test_nothing(text: str):
    assert loads(text.encode()).value is None


# --- encodings ---


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings(encoding: str):
    assert loads("größe: 猫 🐈\nb: 1".encode(encoding)).value == {"größe": "猫 🐈", "b": 1}


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le", "utf-32"])
def test_other_encodings_are_named_as_the_fault(encoding: str):
    with pytest.raises(YamlError, match=r"this is not plain text: .*; save the file as UTF-8"):
        loads("größe: 1".encode(encoding))


def test_line_ends_of_windows():
    document = loads(b"a: 1\r\nb:\r\n  - c\r\n")
    assert document.value == {"a": 1, "b": ["c"]}
    assert document.line(("b", 0)) == 3


# --- bounds ---


def test_depth():
    deepest = b"[" * yaml12.MAX_DEPTH + b"]" * yaml12.MAX_DEPTH
    assert loads(deepest).value
    for text in (b"[" + deepest + b"]", b"[" * 500_000, b"- " * 500_000, b"{a: " * 100_000):
        with pytest.raises(YamlError, match="nested more than 32 levels deep"):
            loads(text)


def test_aliases_add_to_the_depth():
    def nested(base: str, levels: int) -> str:
        return "[" * levels + base + "]" * levels

    assert loads(f"a: &a {nested('1', 20)}\nb: {nested('*a', 11)}".encode()).value
    with pytest.raises(YamlError, match="line 2: nested more than 32"):
        loads(f"a: &a {nested('1', 20)}\nb: {nested('*a', 12)}".encode())
    lines = ["a0: &a0 [1]"]
    lines += [f"a{i}: &a{i} {{x: 1, y: {nested(f'*a{i - 1}', 3)}, z: [2]}}" for i in range(1, 20)]
    with pytest.raises(YamlError, match="line 9: nested more than 32"):
        loads("\n".join(lines).encode())


def test_the_billion_laughs():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for i in range(1, 10):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]")
    with pytest.raises(YamlError, match="more than 50,000 values"):
        loads("\n".join(lines).encode())


def test_one_long_text_used_often():
    with pytest.raises(YamlError, match="characters, aliases written out"):
        loads(b"a: &a " + b"x" * 500_000 + b"\nb: [" + b"*a," * 100 + b"]")
    with pytest.raises(YamlError, match="characters, aliases written out"):
        loads(b"a: &a {" + b"x" * 900 + b": 1}\nb: [" + b"*a," * 9000 + b"]")


def test_size():
    fits = b"a: " + b"x" * (yaml12.MAX_BYTES - 3)
    assert len(loads(fits).value["a"]) == yaml12.MAX_BYTES - 3
    with pytest.raises(YamlError, match=r"^the file is larger than 1024 KiB$"):
        loads(fits + b"x")


def test_an_oversized_file_is_not_read_to_its_end(tmp_path):
    file = tmp_path / "huge.yaml"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(YamlError, match="larger than 1024 KiB"):
        load(file)


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        b"".join(b"key%d: value\n" % i for i in range(60_000)),
        b"- [a, {b: 1}, 'c']\n" * 45_000,
        b'"' + b"\\n" * 500_000 + b'"',
        b"a " * 500_000,
        b"\n" * 1_000_000,
        b"[a: " * 200_000,
        b"&a " * 300_000,
        b"%" * 1_000_000,
        b"#" * 1_000_000,
        b"a: |" + b"\n b" * 300_000,
    ],
    ids=lambda data: repr(data[:8]),
)
def test_a_full_file_is_read_in_about_a_second(data: bytes):
    started = time.process_time()
    with contextlib.suppress(YamlError):
        loads(data[: yaml12.MAX_BYTES])
    assert time.process_time() - started < 5


# --- whatever comes ---


def check_any(data: bytes) -> None:
    try:
        document = loads(data)
    except YamlError as error:
        assert str(error)
        breaks = sum(data.count(b) for b in (b"\n", b"\r", b"\xc2\x85", b"\xe2\x80\xa8"))
        assert error.line <= breaks + 2
    else:
        assert document.value is None or type(document.value) in (dict, list, str, int, float, bool)


@pytest.mark.slow
@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_random_bytes(data: bytes):
    check_any(data)


TOKENS = """a b : - ? [ ] { } , &x *x !!str !!float ! !<tag:x> ' | > # --- ... << 1e5 0x1 ~
\\ ü 🐈 @ 1 null""".split()  # noqa: SIM905
TOKENS += [" ", ": ", "- ", "\n", "\n  ", "\n\t", '"', "%YAML 1.2\n", "\\u0000", "\x85", "\u2028"]


@pytest.mark.slow
@given(st.lists(st.sampled_from(TOKENS), max_size=30))
@settings(max_examples=1000)
def test_random_pieces_of_yaml(parts: list[str]):
    check_any("".join(parts).encode())


def test_a_valid_file_damaged_at_random():
    source = b"version: 1\nmodels: &m\n  sd: {path: 'x', n: [1, 2.5, ~]}\nuse: *m\ntext: |\n  a\n"
    dice = random.Random(7)
    for _ in range(3000):
        data = bytearray(source)
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        check_any(bytes(data))


# --- writing ---


PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
BREAKS = st.sampled_from(["a \x85 b", "\x7f", " \u2028 ", "x\u2029 y", "\ufeff", "\uffff", "🐈"])


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | PLAIN | BREAKS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PLAIN | BREAKS, inner),
        max_leaves=9,
    ),
    st.sampled_from([None, 2]),
)
def test_what_is_written_is_read_as_it_was(value: object, indent: int | None):
    assert loads(yaml12.dumps(value, indent).encode()).value == value


def test_half_a_character_is_no_text():
    with pytest.raises(YamlError, match="invalid Unicode character escape code"):
        loads(yaml12.dumps("\ud83d").encode())
