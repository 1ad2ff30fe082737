"""Gathers the facts about this machine."""

from __future__ import annotations

import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from dna_pipeline.base import programs
from dna_pipeline.operations import torch_build
from dna_pipeline.operations.doctor import ray_cluster, self_test, trials
from dna_pipeline.operations.doctor.facts import Clock, Demand, Machine, NvidiaDriver, Trial, Vendor
from dna_pipeline.operations.lookup import HAS_UTF8_NAMES

if TYPE_CHECKING:
    from dna_pipeline.config.schema import Config

AT_ONCE = 3
"""Number of trials that run at the same time; each has a process or two, with pipes."""

FILES_AT_ONCE = 64
"""Limit of open files from which that many trials may run at once."""

NVIDIA_SMI_LIMIT_S = 30.0

_VENDORS: Mapping[str, Vendor] = {"0x10de": "nvidia", "0x1002": "amd"}
"""Vendors of graphics cards by their numbers on the PCI bus."""

_DISPLAY = "0x03"
"""Start of the class of a PCI device that is a graphics card."""

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Files with a container's limit of memory, and with what it uses."""


def gather(config: Config | None) -> Machine:
    """Gather the facts, without those about folders. Takes seconds; never longer than the limits
    of the trials."""
    demand = Demand.of(config)
    # The self-test takes the longest, so it is started first.
    others = [device for device in dict.fromkeys(demand.other_devices) if device != demand.device]
    results = in_parallel(
        {
            "self_test": partial(self_test.run, demand.device, demand.dtype),
            **{name: partial(self_test.run, name, demand.dtype) for name in others},
            "sqlite": partial(trials.run, "sqlite"),
            "onnxruntime": partial(trials.run, "onnxruntime", device=_onnx_device(demand)),
            "ffmpeg": partial(trials.run, "ffmpeg"),
            "opengl": partial(trials.run, "opengl"),
            "watch": partial(trials.run, "watch"),
            **(
                {} if demand.ray is None else {"ray": partial(ray_cluster.look, demand.ray.address)}
            ),
            "nvidia": nvidia_driver,
        }
    )
    free, total = memory()
    other_self_tests = {name: results.pop(name) for name in others}
    return Machine(
        clock=clock(),
        demand=demand,
        python=sys.version_info[:3],
        bits=64 if sys.maxsize > 1 << 32 else 32,
        platform=f"{platform.system()} {platform.machine()}",
        system=sys.platform,
        torch=torch_build.installed_build(),
        cards=graphics_cards(),
        kfd=_kfd(),
        free_ram_bytes=free,
        ram_bytes=total,
        open_files=open_files(),
        max_user_watches=_inotify("max_user_watches"),
        max_user_instances=_inotify("max_user_instances"),
        user=user_name(),
        is_utf8=HAS_UTF8_NAMES,
        other_self_tests=other_self_tests,
        **results,
    )


def _onnx_device(demand: Demand) -> str:
    return "cuda:0" if demand.device.startswith(("auto", "cuda")) else "cpu"


def in_parallel(tasks: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Run functions on threads, a few at once; give their results by name.

    The threads do not keep the process alive, so that Ctrl-C ends it at once.
    """
    results: dict[str, Any] = {}
    files = open_files()
    room = threading.Semaphore(1 if files is not None and files < FILES_AT_ONCE else AT_ONCE)

    def work(name: str, task: Callable[[], Any]) -> None:
        try:
            results[name] = task()
        except Exception as error:
            results[name] = Trial(f"the trial could not be done: {error}")
        finally:
            room.release()

    threads: list[threading.Thread] = []
    for name, task in tasks.items():
        room.acquire()
        threads.append(threading.Thread(target=work, args=(name, task), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return results


# --- graphics cards ---


def nvidia_driver() -> NvidiaDriver | None:
    """NVIDIA's driver, as the kernel, `nvidia-smi` and the driver's library describe it; None if
    there is none."""
    driver = _from_smi() or _from_kernel()
    library = trials.run("cuda_driver")
    if driver is None and library.problem:
        return None
    driver = driver or NvidiaDriver()
    if number := library.facts.get("number"):
        return replace(driver, cuda=(number // 1000, number % 1000 // 10))
    return driver


def _from_smi() -> NvidiaDriver | None:
    try:
        done = programs.run(["nvidia-smi"], NVIDIA_SMI_LIMIT_S)
    except TimeoutError as error:
        return NvidiaDriver(problem=f"nvidia-smi hangs: {error}")
    except OSError:
        return None
    return read_smi(done.code, done.text + done.errors)


def read_smi(code: int, text: str) -> NvidiaDriver:
    """Read the output of `nvidia-smi`, whose head has the versions of the driver and of CUDA."""
    version = re.search(r"(?:Driver|KMD) Version:\s*([\d.]+)", text)
    cuda = re.search(r"CUDA(?: UMD)? Version:\s*(\d+)\.(\d+)", text)
    problem = ""
    if code != 0:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        problem = lines[0] if lines else f"nvidia-smi ends with {code}"
    return NvidiaDriver(
        version[1] if version else "", (int(cuda[1]), int(cuda[2])) if cuda else None, problem
    )


def _from_kernel() -> NvidiaDriver | None:
    if not torch_build.has_nvidia_driver():
        return None
    text = ""
    with suppress(OSError):
        text = torch_build.DRIVER.read_text("utf-8", "replace")
    version = re.search(r"Kernel Module(?: for \S+)?\s+([\d.]+)", text)
    return NvidiaDriver(version[1] if version else "")


def graphics_cards(root: Path = Path("/sys/bus/pci/devices")) -> frozenset[Vendor]:
    """Vendors of the graphics cards on the PCI bus; empty where the system does not list them."""
    vendors: set[Vendor] = set()
    with suppress(OSError):
        for device in root.iterdir():
            with suppress(OSError):
                vendor = _VENDORS.get((device / "vendor").read_text().strip())
                if vendor and (device / "class").read_text().startswith(_DISPLAY):
                    vendors.add(vendor)
    return frozenset(vendors)


def _kfd() -> Any:
    device = Path("/dev/kfd")
    if not device.exists():
        return "none"
    return "open" if os.access(device, os.R_OK | os.W_OK) else "closed"


# --- the system ---


def memory() -> tuple[int, int]:
    """Bytes of main memory that may still be used, and of all; within the limit of a container."""
    import psutil

    state = psutil.virtual_memory()
    free, total = state.available, state.total
    for limit_file, usage_file in _CGROUPS:
        with suppress(OSError, ValueError):  # ValueError: the limit is `max`
            limit = int(Path(limit_file).read_text())
            usage = int(Path(usage_file).read_text())
            free, total = min(free, max(limit - usage, 0)), min(total, limit)
    return free, total


def open_files() -> int | None:
    """Limit of open files for one process; None if there is none."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def _inotify(name: str) -> int | None:
    try:
        return int(Path("/proc/sys/fs/inotify", name).read_text())
    except (OSError, ValueError):
        return None


def user_name() -> str:
    """Name of the user of this process, else the number."""
    import getpass

    try:
        return getpass.getuser() if sys.platform == "win32" else name_of_user(os.getuid())
    except (OSError, KeyError, ImportError):
        return ""


def name_of_user(number: int) -> str:
    """Name of a user on this machine, else the number as text."""
    if sys.platform == "win32":
        return str(number)
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def clock() -> Clock:
    """The clock and its zones."""
    tz = os.environ.get("TZ", "")
    return Clock(
        now=datetime.now(UTC),
        zone=time.strftime("%Z"),
        tz=tz,
        is_tz_valid=is_tz_valid(tz),
        has_zones=_is_zone("Europe/Berlin"),
    )


def is_tz_valid(tz: str) -> bool:
    """True if a value of $TZ names a zone, or describes one, such as `JST-9`.

    The system takes any other text for UTC, and says nothing.
    """
    name = tz.removeprefix(":")
    if name.startswith("/"):
        return Path(name).is_file()
    return name in ("", "UTC", "GMT") or any(map(str.isdigit, name)) or _is_zone(name)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True
