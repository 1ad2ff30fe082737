"""Trials and the self-test in real child processes, and how their ends become problems."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.operations.doctor import self_test, trials

ROOT = Path(__file__).parents[4]


def put_library(folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have child processes import this code in place of a library."""
    (folder / f"{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{ROOT}")


@pytest.mark.slow
def test_a_ledger_is_made_and_a_folder_is_watched():
    sqlite = trials.run("sqlite")
    assert sqlite.problem == ""
    assert sqlite.facts["is_wal_safe"] in (True, False)
    assert sqlite.facts["text"][0] == "3"
    assert trials.run("watch").facts == {"text": "native"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raise ImportError('libEGL is odd')", "libEGL is odd"),
        ("import os; os.kill(os.getpid(), 11)", "the trial ended by SIGSEGV"),
        ("import os; os._exit(3)", "the trial ended with exit status 3"),
        ("raise ValueError('\\n' + 'x' * 900)", "x" * 300 + " ..."),
    ],
)
def test_a_library_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, problem: str
):
    put_library(tmp_path, "onnxruntime", code, monkeypatch)
    assert trials.run("onnxruntime", device="cpu").problem == problem


@pytest.mark.slow
def test_a_library_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put_library(tmp_path, "onnxruntime", "import time; time.sleep(600)", monkeypatch)
    trial = trials.run("onnxruntime", 4, device="cpu")
    assert trial.problem == "the trial could not be done: it did not end within 4 s"


@pytest.mark.slow
def test_what_a_library_prints_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put_library(tmp_path, "onnxruntime", "print('{}'); raise ImportError('gone')", monkeypatch)
    assert trials.run("onnxruntime", device="cpu").problem == "gone"


@pytest.mark.slow
def test_the_self_test_of_the_cpu():
    trial = self_test.run("cpu", "float32")
    assert trial.problem == ""
    assert (trial.facts["name"], trial.facts["dtype"]) == ("cpu", "float32")


@pytest.mark.slow
def test_a_device_that_is_not_there():
    trial = self_test.run("cuda:99", "auto")
    assert trial.problem == "cuda:99 was asked for, but torch sees no such device"


@pytest.mark.slow
def test_a_worker_that_crashes_or_is_late():
    crashed = self_test.run("cpu", "auto", module="no_such_module_anywhere")
    assert "No module named no_such_module_anywhere" in crashed.problem
    assert self_test.run("cpu", "auto", 0.0).problem == "the device did not answer within 0 s"


TORCH_OF_A_GPU = """
class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 1)
    get_device_name = staticmethod(lambda name: "a card")
    set_device = staticmethod(lambda number: None)

class backends:
    class mps:
        is_available = staticmethod(lambda: False)

def Generator(device):
    raise RuntimeError("no kernel image is available")
"""


@pytest.mark.slow
def test_the_gpu_is_tested_although_no_model_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    put_library(tmp_path, "torch", TORCH_OF_A_GPU, monkeypatch)
    trial = self_test.run("auto", "auto")
    assert trial.problem == "cuda:0 failed its self-test: no kernel image is available"
