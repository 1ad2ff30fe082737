"""Checks whether everything is right on a GPU, and measures how fast it is.

check_gpu.py                              all checks, on the device that a worker would choose
check_gpu.py --only correctness           golden numbers, memory that runs out, a device that fails
check_gpu.py --only figures --json        seconds and memory, one JSON object
check_gpu.py --small                      small sizes: a try on any CPU, in seconds
check_gpu.py --pack wheels --python 3.12  packages for a machine without a network, and then there:
check_gpu.py --wheels wheels              with these packages; nothing is installed for good

Needs a Python with torch, NumPy, SciPy and scikit-image; --wheels brings the rest. No weights and
no network are needed. A check that cannot be done on the machine says why and counts as skipped,
never as passed. Ends with 0 if none failed, 1 if one did, 2 if it could not start.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from pathlib import Path

from environment import CONSTRAINTS, ROOT, escape_unencodable
from gpu_checks.report import Check, Result, as_json, run_checks
from gpu_checks.wheels import WheelsError, extend_path, pack, unpack

MODULES = {
    "correctness": ("golden", "restyling", "memory", "faults", "drawing"),
    "figures": ("meshing", "diffusion", "queueing"),
}
LIMIT_S = 200.0
"""Of each kind of checks. A check that has begun may end later: four minutes in all are allowed."""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--only", choices=MODULES, help="one kind of checks (both)")
    result.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N, mps")
    result.add_argument("--small", action="store_true", help="small sizes, for a try on a CPU")
    result.add_argument("--json", action="store_true", help="one JSON object")
    result.add_argument(
        "--limit", type=float, default=LIMIT_S, help="seconds for each kind (%(default)g)"
    )
    result.add_argument("--wheels", type=Path, metavar="DIR", help="packages that --pack fetched")
    result.add_argument("--pack", type=Path, metavar="DIR", help="fetch packages, and end")
    version = ".".join(map(str, sys.version_info[:2]))
    result.add_argument("--python", default=version, help="of the other machine (%(default)s)")
    result.add_argument(
        "--also", nargs="+", default=[], metavar="NAME", help="packages to fetch besides"
    )
    return result


def main() -> int:
    escape_unencodable()
    args = parser().parse_args()
    try:
        if args.pack:
            wheels = pack(args.pack, CONSTRAINTS, args.python, args.also)
            size = sum(path.stat().st_size for path in wheels)
            print(f"{len(wheels)} wheels, {size / 2**20:.1f} MiB, are in {args.pack}")
            return 0
        with tempfile.TemporaryDirectory(prefix="dna-check-gpu-") as folder:
            extend_path(ROOT)
            if args.wheels:
                unpack(args.wheels, Path(folder, "site"))
            return check(args, Path(folder))
    except WheelsError as error:
        return _cannot_start(str(error))


def check(args: argparse.Namespace, folder: Path) -> int:
    """Run the chosen checks; give the exit status."""
    try:
        _log_to_stderr()
        from gpu_checks.setting import machine, setting_of

        from dna_pipeline.base.errors import DeviceUnavailable
    except ModuleNotFoundError as error:
        return _cannot_start(f"{error}; see --pack and --wheels")
    try:
        setting = setting_of(args.device, small=args.small, folder=folder)
    except DeviceUnavailable as error:
        return _cannot_start(str(error))
    results: list[Result] = []
    for kind in [args.only] if args.only else MODULES:
        for result in run_checks(checks_of(kind), setting, args.limit):
            results.append(result)
            if not args.json:
                print(result.line(), flush=True)
    report = as_json(machine(setting), results)
    counts = ", ".join(f"{count} {name}" for name, count in report["counts"].items())
    print(json.dumps(report) if args.json else f"{counts}, on {report['machine']['device']}")
    return 1 if report["counts"]["failed"] else 0


def checks_of(kind: str) -> list[tuple[str, Check]]:
    """The checks of one kind, in their order."""
    modules = [importlib.import_module(f"gpu_checks.{name}") for name in MODULES[kind]]
    return [check for module in modules for check in module.CHECKS]


def _cannot_start(why: str) -> int:
    print(f"check_gpu: {why}", file=sys.stderr)
    return 2


def _log_to_stderr() -> None:
    """Keep the program's log out of the report."""
    import structlog

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


if __name__ == "__main__":
    sys.exit(main())
