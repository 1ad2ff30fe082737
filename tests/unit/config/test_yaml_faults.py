"""The parser's errors in the words of the person who wrote the file."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dna_pipeline.config.yaml12 import YamlError, loads

FAULTS = [
    ("p: *masterpiece*, x", 1, 'text cannot begin with *; put such text in quotes: p: "*masterp'),
    ("p: @b c", 1, 'text cannot begin with @; put such text in quotes: p: "@b c"'),
    ("p: `b`", 1, 'text cannot begin with `; put such text in quotes: p: "`b`"'),
    ("p: %b", 1, 'text cannot begin with %; put such text in quotes: p: "%b"'),
    ("%b: 1", 1, "text cannot begin with %"),
    ("p: - a", 1, 'text cannot begin with -; put such text in quotes: p: "- a"'),
    ("p: ? a", 1, 'text cannot begin with ?; put such text in quotes: p: "? a"'),
    ("p: }a", 1, "text cannot begin with }"),
    ("p: ,a", 1, 'text cannot begin with ,; put such text in quotes: p: ",a"'),
    ("i: {p: *x*, q: 1}", 1, "text cannot begin with *; put such text in quotes"),
    ("i: {p: - a, q: 1}", 1, "text cannot begin with -"),
    ("p: {a|b} chair", 1, 'text cannot begin with {; put such text in quotes: p: "{a|b} chair"'),
    ("p: [a] chair", 1, 'text cannot begin with [; put such text in quotes: p: "[a] chair"'),
    ("i: {p: {a} chair}", 1, "text goes on after the }; put such text in quotes"),
    ("i: {p: a{b|c} d}", 1, "text with a { in it stands in braces; put such text in quotes"),
    ("i: {p: (a), [b] c}", 1, "a key must be plain text; put text with brackets"),
    ("i: {p: a, , b}", 1, "nothing stands before this comma"),
    ("p: | a b", 1, "| announces a text on the lines below it"),
    ("p: > a", 1, "> announces a text on the lines below it"),
    ("p: |\na text", 2, "the line lacks a colon with a blank after it"),
    ('m: "C:\\Users\\x"', 1, "a backslash in double quotes begins an escape"),
    ('m: "\\\\server\\share"', 1, "a backslash in double quotes begins an escape"),
    ("a: 1\np: 'b\nq: 1\n", 2, "a closing quote is missing for the ' in this line"),
    ("p: 'it's a chair'", 1, "text goes on after its closing '; put all of it in quotes: p: \"it"),
    ('p: "a "red" one"', 1, "text goes on after its closing \"; put all of it in quotes: p: 'a \""),
    ('p: "a" chair', 1, "text goes on after its closing \"; put all of it in quotes: p: '\"a\" ch"),
    ("p: a chair: red", 1, 'put text with a colon in quotes: p: "a chair: red"'),
    ("p: (red:1.4) a: b", 1, "put text with a colon in quotes"),
    ("i: {p: a: b}", 1, "put text with a colon in quotes"),
    ("s:0.6\nq: 1", 1, "a blank is missing after the colon; write `s: 0.6`"),
    ("i:\n  q: 1\n  s:0.6\n", 3, "a blank is missing after the colon; write `s: 0.6`"),
    ("i:\n  s:0.6\n  q: 1\n", 2, "a blank is missing after the colon; write `s: 0.6`"),
    ("s:\u00a05\nq: 1", 1, "a blank is missing after the colon; write `s: 5`"),
    ("i：\n  s: 1", 1, "the colon after 'i' is a full-width one (：); write `i:`"),
    ("q: 1\ns：5", 2, "the colon after 's' is a full-width one (：); write `s: 5`"),
    ("p: [a\nq: 1", 1, "the [ in this line is not closed: a closing bracket"),
    ("i: {a: 1,\n b: 2\nq: 2", 1, "the { in this line is not closed: a closing bracket"),
    ("t: [a,\n  #seed: 1\n  b", 1, "the [ in this line is not closed"),
    ("t: [#a, b]", 1, "YAML takes #a, b] for a comment; put the text in quotes"),
    ("i: {a: 1,\n", 1, "the { or [ in this line is not closed"),
    ("a: x\n  b: y", 2, "the line is indented as if it belonged to the text above it"),
    ("i:\n   p: a\n  q: b", 3, "the line does not go on from those above it; look for a wrong ind"),
    (" a: 1\nb: 2", 2, "the line does not go on from those above it; look for a wrong ind"),
    ("a: b # c\n  d\n", 2, "the comment in the line above ended the text"),
    ("a:\n\tb: 1", 2, "the line begins with a tab; indent with spaces, not with tabs"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "start"), FAULTS)
def test_what_a_person_is_told(text: str, line: int, start: str):
    with pytest.raises(YamlError) as caught:
        loads(text.encode())
    assert caught.value.line == line
    assert caught.value.problem.startswith(start)


LIBYAML = ("expected", "while ", "token", "not allowed in this context", "simple key")


@pytest.mark.parametrize("text", [text for text, _, _ in FAULTS])
def test_the_parsers_own_words_are_not_shown_alone(text: str):
    with pytest.raises(YamlError) as caught:
        loads(text.encode())
    assert not any(word in str(caught.value) for word in LIBYAML)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("größe: 1".encode("latin-1"), r"Latin-1 or Windows-1252 ('ö' is the byte 0xF6)"),
        ("p: “x”".encode("cp1252"), "Latin-1 or Windows-1252 ('“' is the byte 0x93)"),
        ("größe: 猫".encode("utf-16-le"), "it seems to be UTF-16"),
        ("prompt: a chair".encode("utf-16-be"), "it seems to be UTF-16"),
    ],
)
def test_files_of_other_encodings(data: bytes, kind: str):
    with pytest.raises(YamlError) as caught:
        loads(data)
    assert kind in caught.value.problem
    assert caught.value.problem.endswith("save the file as UTF-8")


@pytest.mark.slow
@given(st.text("ab1 \n\t:#&*!%@`-?|>,[]{}'\"\\“”：\u00a0.0", max_size=24))
@settings(max_examples=1500)
def test_no_text_is_worse_than_a_yaml_error(text: str):
    try:
        loads(text.encode())
    except YamlError as error:
        assert all(len(message) < 350 and message.isprintable() for message in error.messages)
        assert all(re.match("line [1-9]", m) for m in error.messages if m.startswith("line "))
