"""Text that YAML would cut or change without a word, and what stays as valid as it was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dna_pipeline.config.yaml12 import YamlError, dumps, loads

ROOT = Path(__file__).parents[3]


def messages(text: str) -> list[str]:
    with pytest.raises(YamlError) as caught:
        loads(text.encode())
    assert str(caught.value) == "\n".join(caught.value.messages)
    return caught.value.messages


# --- comments within text ---


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a chair #1 in red", '"a chair #1 in red"'),
        ("a chair   #1", '"a chair #1"'),
        ("a chair\t#1", '"a chair #1"'),
        ("sofa #hero", '"sofa #hero"'),
        ("#ff0000 chair", '"#ff0000 chair"'),
        ("#1", '"#1"'),
        ("room # 3 in red", '"room # 3 in red"'),
        ("a chair (model # of the year) in red", '"a chair (model # of the year) in red"'),
        ('a "red" chair #2', "'a \"red\" chair #2'"),
        ("café 猫 🐈 #7", '"café 猫 🐈 #7"'),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_comment_that_cuts_a_text_is_refused(text: str, quoted: str, encoding: str):
    document = f"seed: 1\r\nimg2img:\r\n  prompt: {text}\r\n"
    with pytest.raises(YamlError) as caught:
        loads(document.encode(encoding))
    assert caught.value.line == 3
    assert caught.value.problem.startswith("img2img.prompt: YAML ")
    assert f"put the text in quotes: prompt: {quoted} (before a comment" in caught.value.problem
    assert " ".join(text.split()) == loads(quoted.encode()).value


@pytest.mark.parametrize(
    "text",
    [
        "tags:\n  - #hero\n  - night",
        "tags:\n  - hero #1",
        "img2img: {prompt: a chair #1 in red\n}",
        "img2img: {prompt: a chair #1, steps: 20}",
        "tags: [#hero, #night]",
        "meta:\n  asset: a chair,\n    red #1",
        "a chair #1",
        "prompt: a red chair # my favourite",
        "prompt: a red chair # best quality, 4k",
        "meta: {note: a red chair # two}\n}",
    ],
)
def test_wherever_it_stands(text: str):
    (message,) = messages(text)
    assert "comment; put the text in quotes" in message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("priority: 10   # higher first", {"priority": 10}),
        ("priority: 10 #higher first", {"priority": 10}),
        ("pipeline: mesh   # default: the inbox's", {"pipeline": "mesh"}),
        ("pipeline: mesh # default", {"pipeline": "mesh"}),
        ("prompt: a red chair  # my favourite", {"prompt": "a red chair"}),
        ("prompt: a red chair   # 2 of these", {"prompt": "a red chair"}),
        ("prompt: a (red) chair  # it's mine", {"prompt": "a (red) chair"}),
        ("prompt: a chair  ## mine", {"prompt": "a chair"}),
        ("prompt: a chair  #", {"prompt": "a chair"}),
        ("a: true #yes\nb: null #no\nc: .5 #half", {"a": True, "b": None, "c": 0.5}),
        ("prompt: 'a chair' #1\ntags: [a] #1", {"prompt": "a chair", "tags": ["a"]}),
        ("img2img:   # nothing\nmeta: {a: b} #x", {"img2img": None, "meta": {"a": "b"}}),
        ("img2img:\n  # steps: 5\n  #strength: 0.6\n  seed: 1", {"img2img": {"seed": 1}}),
        ("prompt: a chair\n#seed: 1\n", {"prompt": "a chair"}),
        ("prompt: '#1 chair'", {"prompt": "#1 chair"}),
        ("prompt: C# and a#1", {"prompt": "C# and a#1"}),
        ("url: http://a/#b", {"url": "http://a/#b"}),
        ("prompt: |  # as it stands\n  a chair #1\n", {"prompt": "a chair #1\n"}),
        ("prompt: a chair\n  in red", {"prompt": "a chair in red"}),
    ],
)
def test_what_was_meant_as_a_comment_stays_one(text: str, value: object):
    assert loads(text.encode()).value == value


# --- other signs ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt: &best chair", 'anchor, .*: prompt: "&best chair"'),
        ("prompt: &best", 'anchor, .*: prompt: "&best"'),
        ("tags: [&a b, &a c]", '&a for an anchor, .*"&a b"'),
        ("prompt: ! chair", 'YAML drops the ! .*: prompt: "! chair"'),
        ("prompt: !important chair", r'the tag !important cannot .*"!important chair"'),
        ("prompt: *x y", r"the alias \*x has no anchor before it; put text that begins with \*"),
        ("prompt: “a chair”", 'quotes “ ” are a word processor.*: prompt: "a chair"'),
        ("prompt: „a chair“", 'quotes „ “ are .*: prompt: "a chair"'),
        ("prompt: «a chair»", 'quotes « » are .*: prompt: "a chair"'),
        (r'file: "C:\new\a.png"', r"backslash .*: 'C:\\new\\a.png'"),
        (r'file: "..\test\a.png"', r"backslash .*: '..\\test\\a.png'"),
        ("i:\n\u00a0\u00a0s: 1", r"blank that is none to YAML \(U\+00A0"),
        ("\u3000s: 1", r"blank that is none to YAML \(U\+3000"),
        ("img2img: {prompt: a chair, red}", "at the comma, .*'red' .*: prompt: \"a chair, red\""),
        ("i: {prompt: a, b, c, n: 1}", "at the comma, and takes 'b' .*: prompt: \"a, b, c\""),
        ('i: {prompt: "a", "b"}', "at the comma, and takes 'b' .*: prompt: \"a, b\""),
        ("i: {prompt: “a, b”}", 'all of it in quotes: prompt: "a, b"'),
        ("i: {strength: 0,6}", "i.strength: a comma ends the number; write 0.6"),
        ("i: {a: [1], strength: -1,25, b: 1}", "i.strength: .* write -1.25"),
        ("m: {i.cfg: [7,5, 8,5]}", "m.i.cfg: a comma ends a number, .*; write 7.5, or a blank"),
        ("m: [0,4, 0,6, 0,8]", "m: a comma ends a number, .*; write 0.4, or a blank"),
        ("i: {threshold: 1,000}", "i.threshold: .* write 1000, or 1.000"),
    ],
)
def test_other_signs_that_change_a_text(text: str, message: str):
    assert re.search(message, messages(text)[0])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &x cat\nb: *x", {"a": "cat", "b": "cat"}),
        ("a: &x 5\nb: &y {c: 1}\nd: &z 'e'", {"a": 5, "b": {"c": 1}, "d": "e"}),
        ("mesh: [{remove_background}, {triposr}]",
         {"mesh": [{"remove_background": None}, {"triposr": None}]}),
        ("a: {b: 1, c: , d: [e, f]}", {"a": {"b": 1, "c": None, "d": ["e", "f"]}}),
        ("a: [1,2,3,4]\nb: [7,5]\nc: [1, 2, 3, 4]\nd: [1,2, 3]",
         {"a": [1, 2, 3, 4], "b": [7, 5], "c": [1, 2, 3, 4], "d": [1, 2, 3]}),
        ("a: [1,x, 2,y]\nb: [1,[2], 3,4]", {"a": [1, "x", 2, "y"], "b": [1, [2], 3, 4]}),
        ("a: {b, c}", {"a": {"b": None, "c": None}}),
        ("prompt: “Red” and “blue”", {"prompt": "“Red” and “blue”"}),
        ("prompt: '“a chair”'", {"prompt": "“a chair”"}),
        (r'file: "C:\\new"', {"file": "C:\\new"}),
        (r"file: 'C:\new'", {"file": "C:\\new"}),
        (r"file: C:\new", {"file": "C:\\new"}),
        (r'text: "a\nb"', {"text": "a\nb"}),
        ("prompt: R&B, wow! 50% *", {"prompt": "R&B, wow! 50% *"}),
        ("prompt: \u00a0a chair", {"prompt": "\u00a0a chair"}),
    ],
)  # fmt: skip
def test_what_stays_valid(text: str, value: object):
    assert loads(text.encode()).value == value


def test_all_slips_at_once_with_the_fault_that_ends_the_file():
    text = "p: a #1\nq: {r: a, b}\np: “c”\ns: &t u\nv: @w\n"
    told = messages(text)
    assert [line.split(": ")[0] for line in told] == [f"line {i}" for i in (1, 2, 3, 3, 5)]
    assert told[2] == "line 3: the key 'p' stands here twice, first in line 1; keep one"


def test_what_a_slip_leads_to_is_not_told_too():
    (message,) = messages("img2img: {prompt: a chair #1,\n  steps: 20}\n")
    assert message.startswith("line 1: img2img.prompt: YAML ends the text before #1,")


def test_of_very_many_the_first_are_told():
    told = messages("".join(f"k{i}: a #{i}\n" for i in range(5000)))
    assert len(told) == 21
    assert told[-1] == "and more of the kind"


# --- what the program and its documentation write ---

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT
    | st.from_regex(r"[A-Za-z.]{0,2}[:.]?[\\\n\t\"#&!*“” ,{}a]{0,6}", fullmatch=True),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.mark.slow
@given(_VALUES, st.sampled_from([None, 2]))
@example({"a": "C:\new"}, None)
@example({"C:\n": '"A:\nb', ".": "..\t", "b": 'x\\"C:\n'}, 2)
@settings(max_examples=400)
def test_what_the_program_writes_is_read_back(value: object, indent: int | None):
    assert loads(dumps({"a": value}, indent).encode()).value == {"a": value}


@pytest.mark.parametrize(
    "path", ["pipeline.yaml", "dna_pipeline/interfaces/cli/templates/pipeline.yaml"], ids=str
)
def test_our_own_files_are_read(path: str):
    assert loads((ROOT / path).read_bytes()).value["version"] == 1


@pytest.mark.parametrize("path", ["docs/sidecars.md", "docs/batches.md"])
def test_the_examples_in_the_documentation_are_read(path: str):
    text = (ROOT / path).read_text(encoding="utf-8")
    blocks = re.findall(r"\n\n((?: {4,}\S.*\n)+)", text)
    written = [block for block in blocks if re.match(r" +[a-z_]+:[ \n]", block)]
    assert written
    for block in written:
        assert loads(block.encode()).value
