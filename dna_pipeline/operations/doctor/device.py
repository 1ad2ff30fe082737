"""Checks of torch, the device that it computes on, and the memory for models."""

from __future__ import annotations

from collections.abc import Iterator

from dna_pipeline.base.quantities import size
from dna_pipeline.operations.doctor.facts import Machine, ModelFiles, NvidiaDriver
from dna_pipeline.operations.doctor.findings import Finding, State
from dna_pipeline.operations.torch_build import TorchBuild

INSTALL_PAGE = "pytorch.org/get-started"

RESERVE_BYTES = 512 << 20
"""Least memory that a job needs beside the weights of its model."""

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}

_DRIVER_HINT = "install NVIDIA's driver for this system (nvidia.com/drivers), and restart"


def torch(machine: Machine) -> Iterator[Finding]:
    """Compare torch's build with the graphics card and its driver."""
    build = machine.torch
    if build is None:
        state: State = "fault" if machine.demand.needs_device else "note"
        hint = "run scripts/demo.py, which installs all packages; or pip install torch"
        yield Finding("torch", state, "torch is not installed", hint)
        return
    value = f"{build.version}, for {_target(build)}"
    mismatch = None
    if machine.demand.needs_device and machine.demand.device.startswith(("auto", "cuda")):
        mismatch = _mismatch(machine, build)
    if mismatch is None:
        yield Finding("torch", "ok", value)
        return
    state, why, hint = mismatch
    yield Finding("torch", state, f"{value}; {why}", hint)


def _target(build: TorchBuild) -> str:
    if build.is_for_cpu:
        return "the CPU"
    backends = build.backends or {}
    names = {"cuda": "CUDA", "hip": "ROCm", "rocm": "ROCm", "xpu": "Intel's GPUs"}
    name = next((name for name in names if name in backends), None)
    return "a device that it does not name" if name is None else f"{names[name]} {backends[name]}"


_Mismatch = tuple[State, str, str]


def _mismatch(machine: Machine, build: TorchBuild) -> _Mismatch | None:
    """State, reason and hint if the build does not fit the machine's GPU or its driver."""
    backends = build.backends or {}
    if (driver := machine.nvidia) is not None:
        if driver.problem:
            hint = "restart the machine; if that does not help, install NVIDIA's driver again"
            return _severity(machine), f"NVIDIA's driver says: {driver.problem}", hint
        if "cuda" in backends:
            return _driver_age(machine, driver, backends["cuda"])
        if build.backends is None and not build.is_for_cpu:
            return None
        return _severity(machine), "this machine has an NVIDIA driver", _other_build(machine)
    if "nvidia" in machine.cards:
        return _severity(machine), "this machine has an NVIDIA card, but no driver", _DRIVER_HINT
    if "hip" in backends or "rocm" in backends:
        return _rocm(machine)
    if "cuda" in backends:
        is_required = machine.demand.device != "auto"
        hint = _DRIVER_HINT if is_required else "nothing to do, unless a driver should be here"
        return "fault" if is_required else "note", "there is no NVIDIA driver", hint
    if machine.kfd != "none" and build.is_for_cpu:
        hint = f"PyTorch's build for ROCm would use it: see {INSTALL_PAGE}"
        return "note", "this machine has an AMD GPU", hint
    return None


def _severity(machine: Machine) -> State:
    """State for a GPU that cannot be used: jobs that may run on the CPU run, only slowly."""
    return "warning" if machine.demand.device == "auto" else "fault"


def _driver_age(machine: Machine, driver: NvidiaDriver, cuda: str) -> _Mismatch | None:
    """Compare the CUDA of torch with the newest one that the driver knows.

    A driver runs programs for each CUDA of its own major version and for older ones. For a newer
    minor version, what is compiled when it runs may fail.
    """
    if driver.cuda is None:
        return None
    major, minor = (int(part) for part in f"{cuda}.0".split(".")[:2])
    if driver.cuda >= (major, minor):
        return None
    newest = f"{driver.cuda[0]}.{driver.cuda[1]}"
    name = f"driver {driver.version}" if driver.version else "the driver"
    why = f"{name} knows CUDA up to {newest}"
    hint = f"update NVIDIA's driver; or {_other_build(machine)}"
    if driver.cuda[0] == major:
        return "note", f"{why}, which runs most of it", hint
    return _severity(machine), f"{why} and is too old", hint


def _other_build(machine: Machine) -> str:
    """The way to a build of torch for this machine's driver."""
    driver = machine.nvidia
    newest = f" {driver.cuda[0]}.{driver.cuda[1]} or older" if driver and driver.cuda else ""
    windows = "on Windows pip takes the CPU's wheels by itself: "
    return (
        f"{windows if machine.system == 'win32' else ''}set DNA_TORCH_INDEX_URL to PyTorch's index "
        f"for CUDA{newest} ({INSTALL_PAGE} shows its address), and run scripts/demo.py again"
    )


def _rocm(machine: Machine) -> _Mismatch | None:
    if machine.kfd == "open":
        return None
    if machine.kfd == "closed":
        hint = "add the user to the groups render and video, and log in again"
        return _severity(machine), "this user may not use /dev/kfd", hint
    hint = "install AMD's driver (amdgpu); in a container, pass /dev/kfd and /dev/dri on"
    return _severity(machine), "there is no /dev/kfd, AMD's device for computing", hint


def device(machine: Machine) -> Iterator[Finding]:
    """Report the self-test of the first device, which a child process has done."""
    if machine.torch is None:
        return
    trial = machine.self_test
    if trial.problem:
        state: State = "fault" if machine.demand.needs_device else "note"
        hint = "see the line of torch; if that is well, run scripts/demo.py to install it again"
        if machine.demand.device not in ("auto", "cpu"):
            hint += "; runtime.device: cpu in pipeline.yaml does without the GPU"
        yield Finding("device", state, trial.problem, hint)
        return
    name, gpu = str(trial.facts["name"]), trial.facts.get("gpu")
    value = ", ".join(filter(None, [name, gpu, trial.facts["dtype"], "self-test passed"]))
    if name != "cpu" or machine.demand.device == "cpu":
        yield Finding("device", "ok", value)
    elif machine.nvidia is not None or "nvidia" in machine.cards:
        value += "; there is a GPU, but jobs run on the CPU"
        hint = "see the line of torch; if that is well, CUDA_VISIBLE_DEVICES may hide the GPU"
        yield Finding("device", "warning", value, hint)
    else:
        hint = "nothing to do; runtime.device: cpu in pipeline.yaml says that it is meant so"
        yield Finding("device", "note", f"{value}; no GPU: jobs run on the CPU", hint)


def other_devices(machine: Machine) -> Iterator[Finding]:
    """Report the self-tests of further devices that `runtime.device` lists."""
    for device, trial in machine.other_self_tests.items():
        if trial.problem:
            hint = "take it out of runtime.device, or mend it; the other devices go on without it"
            yield Finding("device", "fault", f"{device}: {trial.problem}", hint)
            continue
        parts = [device, trial.facts.get("gpu"), trial.facts["dtype"], "self-test passed"]
        yield Finding("device", "ok", ", ".join(filter(None, parts)))


def memory(machine: Machine) -> Iterator[Finding]:
    """Compare the memory of the device with the weights of the configured models."""
    facts = machine.self_test.facts
    is_gpu = "free_bytes" in facts
    free = facts["free_bytes"] if is_gpu else machine.free_ram_bytes
    total = facts["total_bytes"] if is_gpu else machine.ram_bytes
    if free is None or total is None:
        return
    dtype = str(facts.get("dtype", "float32"))
    place = "the GPU" if is_gpu else "main memory"
    value = f"{size(free)} of {size(total)} free in {place}"
    models = [model for model in machine.models if model.needs_device or not is_gpu]
    needs = {model.name: bytes_of(model, dtype) for model in models}
    if not any(needs.values()):
        yield Finding("memory", "ok", value)
        return
    largest = max(needs, key=lambda name: needs[name])
    shared = [needs[model.name] for model in models if model.shares_memory]
    together = sum(needs.values()) - sum(shared) + max(shared, default=0)
    value += f"; all models take {size(together)}"
    copies = 1 if is_gpu else machine.demand.workers_on_cpu
    if copies > 1:
        value += f" for each of {copies} workers"
    if len(shared) > 1:
        value += ", with one checkpoint of the folder at a time"
    alone = f"; {largest} alone takes about {size(needs[largest])}"
    least = copies * (needs[largest] + RESERVE_BYTES)
    if total < least:
        hint = "choose a smaller model, a dtype of 16 bits, or a device with more memory"
        yield Finding("memory", "fault", value + alone, hint)
    elif free < least:
        yield Finding("memory", "warning", value + alone, _who_holds(machine, is_gpu=is_gpu))
    elif total < copies * (together + RESERVE_BYTES):
        hint = "nothing to do: when memory runs out, models are unloaded and loaded again"
        yield Finding("memory", "note", value, hint)
    else:
        yield Finding("memory", "ok", value)


def _who_holds(machine: Machine, *, is_gpu: bool) -> str:
    what = "end other programs that hold it" + (" (nvidia-smi lists them)" if is_gpu else "")
    return f"the running daemon may hold it; else {what}" if machine.daemons else what


def bytes_of(model: ModelFiles, dtype: str) -> int:
    """Estimated bytes of a model's weights in memory; 0 if its files are missing."""
    if model.elements is None:
        return model.file_bytes
    own = model.dtype if model.dtype in _BYTES else dtype
    return model.elements * _BYTES.get(own, 4)
