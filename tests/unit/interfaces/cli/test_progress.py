"""The bar and the plain lines of transfers."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from dna_pipeline.interfaces.cli.progress import Rate, TransferProgress, transfer_progress

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_rate_is_that_of_the_last_seconds(clock: Clock):
    rate = Rate(clock)
    assert rate.bytes_per_s is None
    for _ in range(60):
        clock.now += 1
        rate.add(MIB)
    assert rate.bytes_per_s == MIB
    for _ in range(30):
        clock.now += 1
        rate.add(3 * MIB)
    assert rate.bytes_per_s == 3 * MIB


def test_plain_lines_come_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]):
    shown = TransferProgress(None, clock)
    shown.begin(100 * MIB)
    shown.resume(40 * MIB)
    shown.show_file("sd15 絵\x1b[2J")
    for _ in range(25):
        clock.now += 1
        shown.advance(MIB)
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert first == "sd15 絵\\x1b[2J: 50 MiB of 100 MiB, 1 MiB/s, 50 s left"
    assert second == "sd15 絵\\x1b[2J: 60 MiB of 100 MiB, 1 MiB/s, 40 s left"


def test_a_pipe_gets_lines_and_no_bar(capsys: pytest.CaptureFixture[str]):
    with transfer_progress() as shown:
        shown.begin(10)
        shown.show_file("x")
        shown.advance(5)
        shown.remark("the server answers 503")
    assert capsys.readouterr().err == "the server answers 503\n"


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-8", "sd15 モデル/diffusio.."),
        ("cp1252", "sd15 \\u30e2\\u30c7"),
        ("ascii", "sd15 \\u30e2\\u30c7"),
    ],
)
def test_the_bar_can_be_shown_in_any_encoding(
    monkeypatch: pytest.MonkeyPatch, encoding: str, name: str
):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal(io.BytesIO(), encoding, errors="backslashreplace")
    monkeypatch.setattr(sys, "stderr", terminal)
    with transfer_progress() as shown:
        shown.begin(100 * MIB)
        shown.show_file("sd15 モデル/diffusion_pytorch_model.safetensors")
        shown.advance(50 * MIB)
        shown.remark("絵: the connection ended early")
    terminal.flush()
    text = terminal.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert "50 MiB of 100 MiB" in text
    assert name in text


def test_the_line_of_the_bar_fits_into_80_columns(clock: Clock):
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(None),
        TextColumn("{task.fields[facts]}"),
    )
    with Progress(*columns, console=console, expand=True, auto_refresh=False) as bar:
        shown = TransferProgress(bar, clock)
        shown.begin(3_900 * MIB)
        shown.show_file("sd15 unet/diffusion_pytorch_model.fp16.safetensors")
        clock.now += 10
        shown.advance(1_200 * MIB)
        bar.refresh()
    line = max(stream.getvalue().split("\r"), key=len).split("\n")[0]
    assert line.startswith("\x1b[2Ksd15 unet/diffusion_.. ")
    assert line.endswith(" 1.2 GiB of 3.8 GiB, 120 MiB/s, 22 s left")
    assert len(line) == 80 + len("\x1b[2K")
