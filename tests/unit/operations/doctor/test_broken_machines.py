"""Machines with a fault each, and one that is well: the checks name the fault, and no other."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dna_pipeline.operations.doctor.examine import judge
from dna_pipeline.operations.doctor.facts import (
    Clock,
    Demand,
    Folder,
    LedgerFacts,
    Machine,
    ModelFiles,
    NvidiaDriver,
    Trial,
)
from dna_pipeline.operations.doctor.findings import Finding, has_fault
from dna_pipeline.operations.torch_build import TorchBuild

GIB = 1 << 30
NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
GPU = {"name": "cuda:0", "gpu": "RTX 4090", "dtype": "float16", "free_bytes": 23 * GIB,
       "total_bytes": 24 * GIB}  # fmt: skip
ON_CPU = {"name": "cpu", "dtype": "float32"}
CPU_BUILD = TorchBuild("2.13.0+cpu", {})
CUDA_BUILD = TorchBuild("2.13.0+cu130", {"cuda": "13.0"})
ROCM_BUILD = TorchBuild("2.13.0+rocm7.2", {"hip": "7.2.1", "rocm": "7.2.1"})
DATA = Folder("data", "/s/data", "write", free_bytes=90 * GIB, free_files=1_000_000)
OUTBOX = replace(DATA, role="outbox", path="/s/outbox")
INBOX = replace(DATA, role="inbox a", path="/s/inbox", use="move", watch="auto")
SD15 = ModelFiles("sd15", "/s/sd15", "diffusers", file_bytes=2 * GIB, elements=GIB)
LEDGER = LedgerFacts("/s/data/ledger.db", size_bytes=5000, last_event=NOW - timedelta(1))

SOUND = Machine(
    clock=Clock(NOW),
    torch=CUDA_BUILD,
    nvidia=NvidiaDriver("580.65", (13, 0)),
    cards=frozenset({"nvidia"}),
    self_test=Trial("", GPU),
    onnxruntime=Trial("", {"version": "1.32.0", "provider": "CUDAExecutionProvider"}),
    opengl=Trial("", {"text": "RTX 4090, OpenGL 4.6"}),
    ffmpeg=Trial("", {"text": "7.0, /bin/ffmpeg"}),
    sqlite=Trial("", {"text": "3.53.4", "is_wal_safe": True}),
    watch=Trial("", {"text": "native"}),
    free_ram_bytes=30 * GIB,
    ram_bytes=32 * GIB,
    open_files=1024,
    max_user_watches=65536,
    max_user_instances=128,
    user="ann",
    file="/s/pipeline.yaml",
    folders=(DATA, OUTBOX, INBOX),
    models=(SD15,),
    ledger=LEDGER,
)


def not_ok(**changes: Any) -> list[Finding]:
    """Findings of a machine that differs from the sound one, without those that are well."""
    return [finding for finding in judge(replace(SOUND, **changes)) if finding.state != "ok"]


def test_each_device_is_reported():
    trial = Trial("", GPU | {"name": "cuda:1"})
    found = [f.value for f in judge(replace(SOUND, other_self_tests={"cuda:1": trial}))
             if f.check == "device"]  # fmt: skip
    assert len(found) == 2
    assert found[1].startswith("cuda:1, ")


def test_a_sound_machine():
    findings = judge(SOUND)
    assert not_ok() == []
    assert not has_fault(findings)
    assert {finding.check for finding in findings} == {
        "config", "python", "torch", "device", "memory", "weights", "onnxruntime", "opengl",
        "ffmpeg", "sqlite", "ledger", "folder", "watches", "open files", "clock", "locale",
        "daemon",
    }  # fmt: skip


CUDA_ONLY = Demand(device="cuda")
NO_GPU: dict[str, Any] = {"nvidia": None, "cards": frozenset(), "self_test": Trial("", ON_CPU)}
NO_MODELS = Demand(needs_device=False, providers=frozenset(), stages=frozenset())


# Each: changes, then check, subject, state, part of the value, part of the hint.
BROKEN: dict[str, tuple[dict[str, Any], str, str, str, str, str]] = {
    "no torch": ({"torch": None}, "torch", "", "fault", "not installed", "scripts/demo.py"),
    "a driver that does not answer": (
        {"nvidia": NvidiaDriver(problem="Driver/library version mismatch")},
        "torch", "", "warning", "version mismatch", "restart the machine"),
    "a driver that is too old": (
        {"nvidia": NvidiaDriver("470.10", (11, 4)), "demand": CUDA_ONLY},
        "torch", "", "fault", "driver 470.10 knows CUDA up to 11.4 and is too old", "update"),
    "a device that crashes": (
        {"self_test": Trial("the worker ended by SIGSEGV")},
        "device", "", "fault", "SIGSEGV", "install it again"),
    "a second device that is missing": (
        {"other_self_tests": {"cuda:1": Trial("torch sees no such device")}},
        "device", "", "fault", "cuda:1: torch sees no such device", "the other devices go on"),
    "two workers that share the main memory": (
        {"self_test": Trial("", ON_CPU), "demand": Demand("cpu", other_devices=("cpu",)),
         "torch": CPU_BUILD, "nvidia": None, "cards": frozenset(), "free_ram_bytes": 6 * GIB},
        "memory", "", "warning", "all models take 4 GiB for each of 2 workers", "end other"),
    "a small GPU": (
        {"self_test": Trial("", GPU | {"free_bytes": GIB, "total_bytes": 2 * GIB})},
        "memory", "", "fault", "sd15 alone takes about 2 GiB", "smaller model"),
    "a GPU that others use": (
        {"self_test": Trial("", GPU | {"free_bytes": GIB})},
        "memory", "", "warning", "1 GiB of 24 GiB free in the GPU", "nvidia-smi lists them"),
    "a GPU that holds one of two models": (
        {"models": tuple(replace(SD15, name=name, elements=6 * GIB) for name in "ab")},
        "memory", "", "note", "all models take 24 GiB", "unloaded"),
    "many checkpoints of which one is loaded at a time": (
        {"models": tuple(replace(SD15, name=n, shares_memory=True, elements=GIB) for n in "abcdef"),
         "self_test": Trial("", GPU | {"free_bytes": 2 * GIB})},
        "memory", "", "warning", "all models take 2 GiB, with one checkpoint", "nvidia-smi"),
    "a file that is no weights": (
        {"models": (replace(SD15, mismatch="/s/sd15 is a web page; move it away"),)},
        "weights", "sd15", "fault", "/s/sd15 is a web page", "move it away"),
    "no weights": (
        {"models": (replace(SD15, missing="/s/sd15 is not there; download it"),)},
        "weights", "sd15", "fault", "/s/sd15 is not there", "dna-pipeline models pull"),
    "no onnxruntime": (
        {"onnxruntime": Trial("No module named 'onnxruntime'")},
        "onnxruntime", "", "fault", "No module", "pip install"),
    "an onnxruntime for the CPU": (
        {"onnxruntime": Trial("", {"version": "1", "provider": "CPUExecutionProvider"})},
        "onnxruntime", "", "note", "rembg runs on the CPU, beside a GPU", "onnxruntime-gpu"),
    "no OpenGL": (
        {"opengl": Trial("libEGL.so.1: cannot open")},
        "opengl", "", "warning", "libEGL.so.1", "apt-get install libegl1 libgl1-mesa-dri"),
    "OpenGL switched off": (
        {"opengl": Trial("DNA_OPENGL is off")}, "opengl", "", "note", "is off", "unset"),
    "no ffmpeg": (
        {"ffmpeg": Trial("ffmpeg cannot be run: Permission denied")},
        "ffmpeg", "", "fault", "Permission denied", "IMAGEIO_FFMPEG_EXE"),
    "an old SQLite": (
        {"sqlite": Trial('near "RETURNING": syntax error')},
        "sqlite", "", "fault", "RETURNING", "pysqlite3"),
    "an SQLite without a safe log": (
        {"sqlite": Trial("", {"text": "3.45.0", "is_wal_safe": False})},
        "sqlite", "", "note", "3.45.0", "3.51.3"),
    "a ledger of somebody else": (
        {"ledger": replace(LEDGER, unwritable=("ledger.db",), owner="root")},
        "ledger", "", "fault", "ann may not change in the data folder: ledger.db", "run as root"),
    "root on somebody's ledger": (
        {"ledger": replace(LEDGER, owner="ann"), "user": "root"},
        "ledger", "", "warning", "belongs to ann", "run as ann"),
    "a damaged ledger": (
        {"ledger": replace(LEDGER, problem="the ledger is damaged")},
        "ledger", "", "fault", "damaged", "status"),
    "a full disk": (
        {"folders": (replace(DATA, free_bytes=1 << 20), OUTBOX, INBOX)},
        "folder", "data", "fault", "1 MiB free, and a job may need", "make room"),
    "a disk that is nearly full": (
        {"folders": (replace(DATA, free_bytes=GIB), OUTBOX, INBOX)},
        "folder", "data", "warning", "1 GiB free", "make room"),
    "a disk without inodes": (
        {"folders": (DATA, replace(OUTBOX, free_files=3), INBOX)},
        "folder", "outbox", "fault", "room for 3 more files", "df -i"),
    "a dead mount": (
        {"folders": (DATA, replace(OUTBOX, state="silent", why="does not answer"), INBOX)},
        "folder", "outbox", "fault", "/s/outbox does not answer", "umount -l"),
    "a data folder on a share": (
        {"folders": (replace(DATA, kind="nfs4", is_network=True), OUTBOX, INBOX)},
        "folder", "data", "fault", "nfs4", "disk of this machine"),
    "an inbox on a share": (
        {"folders": (DATA, OUTBOX, replace(INBOX, kind="cifs", is_network=True))},
        "folder", "inbox a", "note", "cifs", "it is polled"),
    "an inbox on a share, watched natively": (
        {"folders": (DATA, OUTBOX,
                     replace(INBOX, kind="cifs", is_network=True, watch="native"))},
        "folder", "inbox a", "warning", "no events", "watch: auto or poll"),
    "an outbox in memory": (
        {"folders": (DATA, replace(OUTBOX, kind="tmpfs"), INBOX)},
        "folder", "outbox", "warning", "tmpfs", "gone after a restart"),
    "an outbox that may not be written": (
        {"folders": (DATA, replace(OUTBOX, refusal="Permission denied"), INBOX)},
        "folder", "outbox", "fault", "cannot be written: Permission denied", "give ann the right"),
    "a file in the place of the outbox": (
        {"folders": (DATA, replace(OUTBOX, state="missing", refusal="is no folder"), INBOX)},
        "folder", "outbox", "fault", "/s/outbox cannot be made: a file", "move the file away"),
    "a file above the outbox": (
        {"folders": (DATA, replace(OUTBOX, state="missing", refusal="Not a directory"), INBOX)},
        "folder", "outbox", "fault", "on the way to it", "move the file away"),
    "a disk mounted read-only": (
        {"folders": (DATA, replace(OUTBOX, refusal="Read-only file system"), INBOX)},
        "folder", "outbox", "fault", "Read-only", "remount,rw"),
    "an inbox that is missing": (
        {"folders": (DATA, OUTBOX, replace(INBOX, problem="the folder is gone; make it"))},
        "folder", "inbox a", "fault", "the folder is gone", "make it"),
    "more folders than watches": (
        {"folders": (DATA, OUTBOX, replace(INBOX, subfolders=70_000))},
        "watches", "", "warning", "70,000", "fs.inotify.max_user_watches=262144"),
    "no inotify instance left": (
        {"watch": Trial("inotify instance limit reached")},
        "watches", "", "warning", "limit reached", "fs.inotify.max_user_instances=256"),
    "few files": ({"open_files": 20}, "open files", "", "fault", "20 at once", "ulimit -n 1024"),
    "a clock of 1970": (
        {"clock": Clock(datetime(1970, 1, 1, tzinfo=UTC))},
        "clock", "", "warning", "before this program was written", "timedatectl"),
    "a clock behind the ledger": (
        {"clock": Clock(NOW - timedelta(9))},
        "clock", "", "warning", "before the ledger's last event", "set the clock"),
    "an unknown zone": (
        {"clock": Clock(NOW, tz="Europe/Berln", is_tz_valid=False)},
        "clock", "", "warning", "TZ=Europe/Berln names no zone", "Europe/Berlin"),
    "no zones": (
        {"clock": Clock(NOW, has_zones=False)}, "clock", "", "warning", "no list", "tzdata"),
    "a locale of ASCII": (
        {"is_utf8": False}, "locale", "", "fault", "plain ASCII", "PYTHONUTF8=1"),
    "a terminal of Windows": (
        {"encoding": "cp1252"}, "locale", "", "note", "cp1252", "PYTHONUTF8"),
    "an old Python": ({"python": (3, 9, 2)}, "python", "", "fault", "3.9.2", "3.11"),
    "a Python of 32 bits": ({"bits": 32}, "python", "", "fault", "32 bits", "64 bits"),
    "another daemon": (
        {"daemons": ("a daemon works on /s/data; another would not start",)},
        "daemon", "", "note", "works on /s/data", "would not start"),
    "a receiver that is away": (
        {"receivers": (("phone", "lacks 3 messages after 2 attempts: no answer"), ("chat", ""))},
        "notify", "phone", "warning", "lacks 3 messages", "notify test"),
    "no folder for metrics": (
        {"metrics_problem": "the folder /m is missing; make it, else no metrics are written"},
        "metrics", "", "warning", "/m is missing", "make it"),
    "a broken pipeline.yaml": (
        {"file_problem": "/s/pipeline.yaml: line 3: no"},
        "config", "", "fault", "line 3", "mend"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_machine_is_named_for_its_fault(name: str):
    changes, check, subject, state, value, hint = BROKEN[name]
    (finding,) = not_ok(**changes)
    assert (finding.check, finding.subject, finding.state) == (check, subject, state)
    assert value in finding.value
    assert hint in finding.hint


@pytest.mark.parametrize("name", [name for name, case in BROKEN.items() if case[3] == "fault"])
def test_a_fault_says_that_a_job_could_not_run(name: str):
    assert has_fault(judge(replace(SOUND, **BROKEN[name][0])))


@pytest.mark.parametrize(
    ("demand", "state"), [(Demand(), "warning"), (CUDA_ONLY, "fault"), (Demand("cpu"), None)]
)
def test_torch_for_the_cpu_beside_an_nvidia_driver(demand: Demand, state: str | None):
    findings = not_ok(torch=CPU_BUILD, self_test=Trial("", ON_CPU), demand=demand)
    torch = [finding for finding in findings if finding.check == "torch"]
    assert [finding.state for finding in torch] == ([state] if state else [])
    assert all("DNA_TORCH_INDEX_URL" in finding.hint for finding in torch)
    assert all("CUDA 13.0 or older (pytorch.org/get-started" in f.hint for f in torch)


def test_windows_says_what_its_wheels_are_for():
    (torch, device) = not_ok(torch=CPU_BUILD, self_test=Trial("", ON_CPU), system="win32")
    assert torch.hint.startswith("on Windows pip takes the CPU's wheels by itself: set DNA_TORCH")
    assert device.state == "warning"
    assert device.hint.startswith("see the line of torch")


@pytest.mark.parametrize("cards", [frozenset(), frozenset({"amd"})])
def test_no_gpu_is_a_note(cards: frozenset[str]):
    (finding,) = not_ok(torch=CPU_BUILD, **NO_GPU | {"cards": cards})
    assert (finding.check, finding.state) == ("device", "note")
    assert "no GPU: jobs run on the CPU" in finding.value


@pytest.mark.parametrize(("demand", "state"), [(Demand(), "note"), (CUDA_ONLY, "fault")])
def test_torch_for_cuda_without_a_driver(demand: Demand, state: str):
    torch, *_ = not_ok(**NO_GPU, demand=demand)
    assert (torch.check, torch.state) == ("torch", state)
    assert "there is no NVIDIA driver" in torch.value


@pytest.mark.parametrize(
    ("driver", "state", "value"),
    [
        ((12, 8), "warning", "too old"),
        ((11, 8), "warning", "too old"),
        ((13, 0), None, ""),
        ((13, 2), None, ""),
        (None, None, ""),
    ],
)
def test_drivers_and_the_cuda_of_torch(
    driver: tuple[int, int] | None, state: str | None, value: str
):
    findings = not_ok(nvidia=NvidiaDriver("1", driver))
    assert [finding.state for finding in findings] == ([state] if state else [])
    assert all(value in finding.value for finding in findings)


def test_a_driver_of_an_older_minor_version_runs_most():
    build = TorchBuild("2.13.0+cu128", {"cuda": "12.8"})
    (torch,) = not_ok(torch=build, nvidia=NvidiaDriver("550.54.14", (12, 4)))
    assert torch.state == "note"
    assert "driver 550.54.14 knows CUDA up to 12.4, which runs most of it" in torch.value


@pytest.mark.parametrize(
    ("kfd", "state", "hint"),
    [("open", None, ""), ("closed", "warning", "groups render"), ("none", "warning", "amdgpu")],
)
def test_torch_for_rocm(kfd: str, state: str | None, hint: str):
    findings = not_ok(torch=ROCM_BUILD, nvidia=None, cards=frozenset({"amd"}), kfd=kfd)
    assert [finding.state for finding in findings] == ([state] if state else [])
    assert all(hint in finding.hint for finding in findings)


def test_what_no_model_needs_is_no_fault():
    findings = not_ok(
        torch=None,
        onnxruntime=Trial("gone"),
        opengl=Trial("gone"),
        ffmpeg=Trial("gone"),
        demand=NO_MODELS,
        models=(),
    )
    assert {finding.check: finding.state for finding in findings} == {
        "torch": "note", "onnxruntime": "note", "opengl": "note", "ffmpeg": "note",
    }  # fmt: skip


def test_without_a_configuration_the_machine_alone_is_checked():
    findings = judge(replace(SOUND, file="", folders=(), models=(), ledger=None))
    assert findings[0].state == "note"
    assert "dna-pipeline init" in findings[0].hint
    assert {finding.check for finding in findings}.isdisjoint({"weights", "ledger", "daemon"})


def test_every_finding_that_is_not_well_says_what_to_do():
    for changes, *_ in BROKEN.values():
        assert all(finding.hint for finding in not_ok(**changes))


def test_all_sentences_are_plain_ascii():
    for changes, *_ in BROKEN.values():
        for finding in judge(replace(SOUND, **changes)):
            assert f"{finding.check}{finding.value}{finding.hint}".isascii()
