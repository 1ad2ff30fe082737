"""A worker, or a decoder, that a stranger's file has taken over: it may say anything."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base import ipc
from dna_pipeline.base.errors import ImageTooLarge, ImageUnreadable
from dna_pipeline.base.quantities import size
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.local_executor import LocalExecutor
from dna_pipeline.execution.worker_child import WorkerSettings
from dna_pipeline.intake.discovery import probe
from dna_pipeline.intake.discovery.probe import Prober

TALKER = """
import json, os, sys
order = None
for line in sys.stdin.buffer:
    if b'"order"' in line:
        order = json.loads(line)["order"]
        break
job, stage = order["job"], order["stages"][0]["id"]
def say(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
def tell(**message):
    say(json.dumps(message).encode() + b"\\n")
"""

READY = "tell(event='ready', device='cpu', dtype='float32', environment={})"
TALK = {
    "garbage": r"say(os.urandom(500) + b'\n')",
    "no object": r"say(b'[1, 2]\n')",
    "deep": r"say(b'[' * 200_000 + b'\n')",
    "an endless line": "while True: say(b'x' * 65536)",
    "no event": "tell(hello='world')",
    "a field too few": "tell(event='progress', job=job, stage=stage)",
    "a limit that is no number": "tell(event='phase', job=job, stage=stage, phase='', limit_s='x')",
    "another job": "tell(event='job_done', job='f' * 32)",
    "another stage": "tell(event='phase', job=job, stage='../x', phase='x', limit_s=5)",
    "a file elsewhere": (
        "tell(event='stage_done', job=job, stage=stage, type='t', provider=None, model=None,"
        " params={}, device='cpu', dtype='x', batch_size=1, seconds=1.0, warnings=[],"
        " environment={}, artifacts=[dict(path='../../../secret', role='image',"
        " media_type='image/png', bytes=1, sha256='0' * 64, facts={})], stage_key='0' * 64)"
    ),
    "another device in the middle of a job": (
        "tell(event='ready', device='cuda:0', dtype='float16', environment={})"
    ),
    "an end of its own": "tell(event='worker_ended', job=job, reason='closed', detail='')",
}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made: list[LocalExecutor] = []

    def make(talk: str) -> LocalExecutor:
        (tmp_path / "talker.py").write_text(f"{TALKER}\n{talk}\nimport time; time.sleep(60)\n")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
        settings = WorkerSettings("cpu", "auto", str(tmp_path), {}, 60, 0)
        made.append(LocalExecutor(settings, module="talker"))
        return made[-1]

    yield make
    for executor in made:
        executor.close(0)


@pytest.mark.slow
@pytest.mark.parametrize("talk", TALK.values(), ids=TALK.keys())
def test_whatever_a_worker_says_is_at_most_its_own_crash(site: Any, start: Any, talk: str):
    site.put("a.png")
    site.settle()
    executor = start(f"{READY}\n{talk}")
    dispatcher = Dispatcher(site.config, site.ledger, executor)
    dispatcher.dispatch()
    deadline = time.monotonic() + 60
    while dispatcher.running:
        assert time.monotonic() < deadline, "the daemon waits for ever"
        dispatcher.listen()
        executor.enforce_timeouts()
        time.sleep(0.01)
    job = site.job()
    assert (job.status, job.crashes) == ("queued", 1)
    assert len(job.hold_detail) < 300


ANSWERS = {
    "garbage": "say(b'garbage\\n')",
    "no answer": "tell(hello=1)",
    "no size": "tell(width='x', height=None)",
    "no picture": "tell(width=0, height=-5)",
    "an error of another kind": "tell(error='KeyboardInterrupt', detail='')",
}


@pytest.mark.slow
@pytest.mark.parametrize("talk", ANSWERS.values(), ids=ANSWERS.keys())
def test_whatever_a_decoder_says_is_about_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, talk: str
):
    head = TALKER.partition("order = None")[0] + TALKER[TALKER.index("def say") :]
    code = f"{head}\nfor line in sys.stdin: {talk}\n"
    (tmp_path / "talker.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    real = ipc.spawn
    monkeypatch.setattr(ipc, "spawn", lambda module: real("talker"))
    prober = Prober()
    try:
        for _ in range(2):
            assert isinstance(prober.probe(tmp_path / "a.png"), ImageUnreadable)
    finally:
        prober.close()


GLUTTON = """
import os
from dna_pipeline.intake.discovery import probe
from dna_pipeline.media import images

def swallow(path):
    bytearray(probe.MEMORY_BYTES)
    return images.ImageFacts("PNG", 64, 64)

def abort(path):
    os.abort()  # as a library in C does that is given no memory

images.probe = {"swallow": swallow, "abort": abort}[os.environ["GLUTTON"]]
probe.main()
"""


@pytest.fixture
def ask_glutton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Asks a decoder that does so with each file."""
    (tmp_path / "glutton.py").write_text(GLUTTON)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    real = ipc.spawn
    monkeypatch.setattr(ipc, "spawn", lambda module: real("glutton"))
    prober = Prober()

    def ask(how: str) -> object:
        monkeypatch.setenv("GLUTTON", how)
        return prober.probe(tmp_path / "a.png")

    yield ask
    prober.close()


@pytest.mark.slow
def test_a_decoder_does_not_swallow_the_machine_s_memory(ask_glutton: Any):
    answer = ask_glutton("swallow")
    assert isinstance(answer, ImageTooLarge)
    limit = probe.memory_limit()
    assert f"{size(limit)} of memory" in answer.detail
    assert limit <= probe.MEMORY_BYTES <= 5 << 30
    assert isinstance(ask_glutton("swallow"), ImageTooLarge), "it goes on with the next file"


@pytest.mark.slow
def test_a_decoder_that_dies_says_how(ask_glutton: Any):
    answer = ask_glutton("abort")
    assert isinstance(answer, ImageUnreadable)
    assert "the decoder crashed over this file" in answer.detail
    assert "SIGABRT" in answer.detail
