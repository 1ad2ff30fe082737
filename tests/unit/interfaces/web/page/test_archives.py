"""An archive that is sent: its names, and what becomes of it when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, MutableMapping
from typing import Any

import pytest

from dna_pipeline.interfaces.web.page.archives import ArchiveResponse
from dna_pipeline.operations.serving.result_archive import archive_name
from tests.asgi import call, make_scope


def pieces(ended: list[str], number: int = 1000) -> Generator[bytes, None, None]:
    try:
        for _ in range(number):
            yield b"x"
    finally:
        ended.append("closed")


def test_a_client_that_leaves_has_all_files_closed():
    ended: list[str] = []
    sent: list[Any] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)
        if len(sent) == 3:
            raise OSError("the client is gone")

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def run() -> None:
        await ArchiveResponse("a", pieces(ended))(make_scope(), receive, send)

    with pytest.raises((OSError, ExceptionGroup)):
        asyncio.run(run())
    assert ended == ["closed"]
    assert len(sent) == 3


def test_a_whole_archive_is_sent():
    ended: list[str] = []
    answer = call(ArchiveResponse("a", pieces(ended, 5)))
    assert answer.body == b"xxxxx"
    assert ended == ["closed"]


@pytest.mark.parametrize(
    "name", ["chair.png", "../..\\x.png", 'a"\r\n.png', "\u202egnp.exe", "..."]
)
def test_the_name_of_the_archive_is_safe(name: str):
    made = archive_name(name, "0123456789")
    assert not set(made) & set('"\r\n/\\\u202e')
    assert made.endswith("-01234567")
    answer = call(ArchiveResponse(made, pieces([], 1)))
    assert (answer.header("content-disposition") or "").startswith('attachment; filename="')
