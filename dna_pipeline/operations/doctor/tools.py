"""Checks of libraries and programs that stages use: each was tried in a child process."""

from __future__ import annotations

from collections.abc import Iterator

from dna_pipeline.operations.doctor.facts import Machine
from dna_pipeline.operations.doctor.findings import Finding, State


def onnxruntime(machine: Machine) -> Iterator[Finding]:
    """Say what rembg's networks run on."""
    trial = machine.onnxruntime
    is_used = "rembg" in machine.demand.providers
    if trial.problem:
        hint = "install it again: pip install --force-reinstall onnxruntime"
        state: State = "fault" if is_used else "note"
        yield Finding("onnxruntime", state, trial.problem, hint)
        return
    version, provider = trial.facts["version"], trial.facts["provider"]
    place = str(provider).removesuffix("ExecutionProvider")
    value = f"{version}, rembg runs on {'the CPU' if place == 'CPU' else place}"
    has_cuda = str(machine.self_test.facts.get("name", "")).startswith("cuda")
    if place == "CPU" and has_cuda and is_used:
        hint = "to use the GPU, install onnxruntime-gpu in place of onnxruntime"
        yield Finding("onnxruntime", "note", f"{value}, beside a GPU", hint)
    else:
        yield Finding("onnxruntime", "ok", value)


def opengl(machine: Machine) -> Iterator[Finding]:
    """Say what draws turntables."""
    trial = machine.opengl
    if not trial.problem:
        yield Finding("opengl", "ok", str(trial.facts["text"]))
        return
    value = f"{trial.problem}; turntables are drawn without it, which takes longer"
    if "DNA_OPENGL" in trial.problem:
        yield Finding("opengl", "note", value, "unset DNA_OPENGL to use it")
    elif machine.system != "linux":
        yield Finding(
            "opengl", "note", value, "nothing to do: this system has none without a display"
        )
    else:
        state: State = "warning" if "triposr" in machine.demand.stages else "note"
        hint = (
            "apt-get install libegl1 libgl1-mesa-dri (Debian, Ubuntu), "
            "dnf install mesa-libEGL mesa-dri-drivers (Fedora)"
        )
        yield Finding("opengl", state, value, hint)


def ffmpeg(machine: Machine) -> Iterator[Finding]:
    """Say if a film can be written."""
    trial = machine.ffmpeg
    if not trial.problem:
        yield Finding("ffmpeg", "ok", str(trial.facts["text"]))
        return
    state: State = "fault" if "triposr" in machine.demand.stages else "note"
    hint = (
        "pip install --force-reinstall imageio-ffmpeg; or let IMAGEIO_FFMPEG_EXE name an ffmpeg "
        "with libx264"
    )
    yield Finding(
        "ffmpeg", state, f"{trial.problem.rstrip(': ')}; no turntable can be written", hint
    )


def sqlite(machine: Machine) -> Iterator[Finding]:
    """Say which SQLite keeps the ledger, and if it has all that the ledger needs."""
    trial = machine.sqlite
    if trial.problem:
        hint = "pip install pysqlite3 brings a newer SQLite on Linux; else use a newer Python"
        yield Finding("sqlite", "fault", f"no ledger can be made: {trial.problem}", hint)
    elif trial.facts["is_wal_safe"]:
        yield Finding("sqlite", "ok", str(trial.facts["text"]))
    else:
        value = f"{trial.facts['text']} can lose commits in its faster mode, so that is not used"
        hint = "SQLite 3.51.3 or newer; on Linux pip install pysqlite3 brings one"
        yield Finding("sqlite", "note", value, hint)
