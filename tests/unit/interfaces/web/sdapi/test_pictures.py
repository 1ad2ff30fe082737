"""Pictures in base64, as programs write them."""

from __future__ import annotations

import base64

import pytest

from dna_pipeline.interfaces.web.sdapi.errors import Refusal
from dna_pipeline.interfaces.web.sdapi.pictures import decoded, encoded, ending_of

DATA = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) + b"\xff\xfe\xfd"
TEXT = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"data:image/png;base64,{TEXT}",
        f"data:image/png;base64, {TEXT}",
        f"data:;base64,{TEXT}",
        f"DATA:IMAGE/PNG;charset=utf-8;BASE64,{TEXT}",
        TEXT.rstrip("="),
        "\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)) + "\n",
        base64.urlsafe_b64encode(DATA).decode(),
    ],
)
def test_the_ways_to_write_it(text: str):
    assert decoded(text, "mask") == DATA


@pytest.mark.parametrize(
    "text", ["", "   ", "a", "data:image/png;base64,", "no base64!", "ääää", "<svg>", "aa=aa", "\0",
             "data:image/png,abcd", "aaaaa", "aaaa"],
)  # fmt: skip
def test_what_is_none(text: str):
    with pytest.raises(Refusal, match=r"^init_images\[2\]: ") as caught:
        decoded(text, "init_images[2]")
    assert caught.value.status == 422


@pytest.mark.parametrize("text", ["http://localhost/a.png", " HTTPS://example.org", "http://"])
def test_addresses_are_not_fetched(text: str):
    with pytest.raises(Refusal, match="addresses are not fetched"):
        decoded(text, "mask")


def test_encoded():
    assert base64.b64decode(encoded(DATA)) == DATA


@pytest.mark.parametrize(
    ("start", "ending"),
    [
        (b"\x89PNG\r\n", ".png"), (b"\xff\xd8\xff\xe0", ".jpg"), (b"RIFF1234WEBP", ".webp"),
        (b"GIF89a", ".gif"), (b"\0\0\0\x20ftypavif", ".avif"), (b"\0\0\0\x20ftypheic", ".heic"),
        (b"?", ".png"), (b"", ".png"),
    ],
)  # fmt: skip
def test_endings(start: bytes, ending: str):
    assert ending_of(start) == ending
