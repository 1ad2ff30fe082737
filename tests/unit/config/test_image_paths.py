import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna_pipeline.base.errors import ParameterInvalid, PathEscapesInbox
from dna_pipeline.config.batch import patterns_of
from dna_pipeline.config.image_paths import matches, may_lead, places
from dna_pipeline.config.schema import Inbox
from dna_pipeline.config.yaml12 import Document


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("a.png", "*.png"),
        ("A.PNG", "a.pn?"),
        ("a.png", "**/*.png"),
        ("x/y/a.png", "**/*.png"),
        ("x/y/a.png", "x/**/a.png"),
        ("x/a.png", "x/**/a.png"),
        ("x/b/c/a.png", "x/**/b/**/a.png"),
        ("a.png", "**.png"),
        ("x/a.png", "x/**"),
        ("chair_1.png", "chair_[0-3].png"),
        ("chair_x.png", "chair_[!0-3].png"),
        ("[z-a].png", "[z-a].png"),
        ("a-b.png", "a[--.]b.png"),
        ("a&b.png", "a[&&~~||[]b.png"),
        ("a\nb.png", "a*.png"),
        ("caf\u00e9.png", "cafe\u0301.*"),
    ],
)
def test_a_glob_fits(path: str, pattern: str) -> None:
    assert matches(path, pattern)


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("x/a.png", "*.png"),
        ("x/a.png", "x?a.png"),
        ("x/a.png", "x[+-9]a.png"),
        ("x/a.png", "x[!b]a.png"),
        ("x/y/a.png", "x/**.png"),
        ("x/y/a.png", "x/**"),
        ("a.jpg", "*.png"),
        ("xa.png", "**/a.png"),
    ],
)
def test_a_glob_does_not_fit(path: str, pattern: str) -> None:
    assert not matches(path, pattern)


def simply(pattern: str) -> str:
    """The expression that a glob is, in the plainest way."""
    made = re.escape(pattern).replace(r"\*\*/", "(?:[^/]+/)*")
    return re.sub(r"(\\\*)+", "[^/]*", made).replace(r"\?", "[^/]")


NAMES = st.text("ab.", min_size=1, max_size=6)
SEGMENTS = st.one_of(st.text("ab.*?", min_size=1, max_size=6), st.just("**"))


@pytest.mark.slow
@given(st.lists(NAMES, min_size=1, max_size=5), st.lists(SEGMENTS, min_size=1, max_size=5))
def test_never_to_go_back_loses_nothing(names: list[str], segments: list[str]) -> None:
    path, pattern = "/".join(names), "/".join(segments)
    if re.search(r"[^/*]\*\*/|\*\*\*", pattern):
        return  # there the plainest way is another
    fits = re.fullmatch(simply(pattern), path) is not None
    assert matches(path, pattern) == fits
    if fits:
        assert all(may_lead("/".join(names[:n]), pattern) for n in range(1, len(names)))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["*a", "?*", "[a]*", "**/*a*/", "**/a/", "a**"])
def test_a_hostile_glob_takes_no_time(part: str) -> None:
    pattern = part * (990 // len(part)) + "b"
    paths = ["a" * 250, "/".join(["a" * 60] * 60), "/".join(["a"] * 1000)]
    start = time.process_time()
    assert not any(matches(path, pattern) for path in paths)
    assert time.process_time() - start < 5  # against ages


def test_a_glob_has_an_end() -> None:
    with pytest.raises(ParameterInvalid, match="line 1: images: a glob of more than 1,000 char"):
        patterns_of(Document({"images": ["a.png", "*" * 1001]}))
    long = "a" * 1001
    assert patterns_of(Document({"images": long})) == (long,)


# --- paths ---


INBOX = Inbox("in", Path("/home/in"), "cut", source_roots=(Path("/lib"), Path("/home/in2")))


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("cat.png", ["sub/cat.png", "/lib/cat.png", "/home/in2/cat.png"]),
        ("a/cat.png", ["sub/a/cat.png", "/lib/a/cat.png", "/home/in2/a/cat.png"]),
        ("./a//./b", ["sub/a/b", "/lib/a/b", "/home/in2/a/b"]),
        ("..cat.png", ["sub/..cat.png", "/lib/..cat.png", "/home/in2/..cat.png"]),
        ("../cat.png", ["cat.png"]),
        ("a/../cat.png", ["sub/cat.png"]),
        ("../../in2/cat.png", ["/home/in2/cat.png"]),
        ("/home/in/cat.png", ["cat.png"]),
        ("/lib/x/../cat.png", ["/lib/cat.png"]),
        ("a\\cat.png", ["sub/a/cat.png", "/lib/a/cat.png", "/home/in2/a/cat.png"]),
        (".\\a/b\\cat.png", ["sub/a/b/cat.png", "/lib/a/b/cat.png", "/home/in2/a/b/cat.png"]),
        ("..\\cat.png", ["cat.png"]),
    ],
)
def test_where_a_path_may_lead(text: str, paths: list[str]) -> None:
    assert [place.path for place in places(INBOX, "sub", text)] == paths


@pytest.mark.parametrize(
    "text",
    ["", " ", ".", "./", "..", "../../cat.png", "a/..", "a/.. /b", "a/.../b", "...",
     "/etc/passwd", "/lib/../etc/passwd", "/home/in", "/lib", "//lib/cat.png", "~", "~/cat.png",
     "~root/cat.png", "..\\..\\cat.png", "C:\\x\\cat.png", "C:/cat.png", "c:cat.png", "a\0b",
     "\\\\host\\share", "a/" * 3000 + "cat.png"],
)  # fmt: skip
def test_paths_that_lead_out(text: str) -> None:
    with pytest.raises(PathEscapesInbox) as caught:
        places(INBOX, "sub", text)
    assert len(caught.value.detail) < 300
    assert caught.value.detail.isprintable()
