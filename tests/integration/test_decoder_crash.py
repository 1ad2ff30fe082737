"""What is said of a file over which the decoder crashed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from dna_pipeline.base.errors import ImageUnreadable
from dna_pipeline.intake.discovery.probe import Prober


@pytest.fixture
def prober() -> Iterator[Prober]:
    prober = Prober()
    yield prober
    prober.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGSEGV, "so it is damaged or made to do harm: export it again from the program it "
         "came from (ended by SIGSEGV)"),
        (signal.SIGABRT, "came from (ended by SIGABRT)"),
        (signal.SIGKILL, "(often the sign of too little memory); it may use "),
    ],
)  # fmt: skip
def test_a_crash_in_plain_words(
    prober: Prober, tmp_path: Path, number: signal.Signals, said: str
) -> None:
    Image.new("RGB", (64, 64)).save(path := tmp_path / "cat.png")
    prober.probe(path)
    process = prober._process  # pyright: ignore[reportPrivateUsage]
    assert process is not None
    os.kill(process.pid, number)
    answer = prober.probe(path)
    assert isinstance(answer, ImageUnreadable)
    assert answer.detail.startswith("the decoder crashed over this file")
    assert said in answer.detail
