"""Checks everything: style, types, tests. The same here and in CI.

python3 scripts/test.py            all checks
python3 scripts/test.py --fast     without the slow tests, such as those that start the real daemon
python3 scripts/test.py --blender  with the tests in Blender, which is fetched once; always in CI
python3 scripts/test.py -k name    tests alone; other arguments go to pytest

Khronos' glTF validator and axe-core, which looks over the page, are fetched once too; both are
small.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from environment import (
    AXE,
    ROOT,
    VALIDATOR,
    SetupError,
    ensure,
    ensure_blender,
    ensure_node_package,
    escape_unencodable,
)

CHECKS = {
    "style": ["-m", "ruff", "check"],
    "format": ["-m", "ruff", "format", "--check"],
}
TYPES = ["-m", "pyright"]

CORES = os.cpu_count() or 1

ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}
"""Tests start hundreds of processes, each of which would compile the package anew."""


def main() -> int:
    escape_unencodable()
    arguments = sys.argv[1:]
    fast = "--fast" in arguments
    try:
        python = str(ensure(dev=True))
        for package in (VALIDATOR, AXE):
            ensure_node_package(package)
        if "--blender" in arguments or (os.environ.get("CI") and not fast):
            ensure_blender()
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    chosen = [argument for argument in arguments if argument not in ("--fast", "--blender")]
    which = ["-m", "not slow"] if fast else []
    if chosen:
        failed = _test(python, *which, *chosen)
    else:
        # Slow tests wait for processes, clocks and the disk: more workers than there are cores.
        spread = ["-n", str(CORES if fast else CORES + 2), "--dist", "worksteal"]
        failed = _check_all(python, *spread, *which)
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed", flush=True)
    return 1 if failed else 0


def _test(python: str, *arguments: str) -> list[str]:
    """Run the tests; their name if one failed."""
    return [] if _run("tests", [python, "-m", "pytest", *arguments]) else ["tests"]


def _check_all(python: str, *tests: str) -> list[str]:
    """Run all checks, the tests with these arguments; the names of those that failed.

    The types are checked beside the tests, which leave a core idle now and then.
    """
    failed = [name for name, check in CHECKS.items() if not _run(name, [python, *check])]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        environment = ENVIRONMENT | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
        types = subprocess.Popen(
            [python, *TYPES], cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            failed += _test(python, *tests)
            if types.wait() != 0:
                failed.append("types")
        finally:
            types.kill()
        said.seek(0)
        print(f"--- types\n{said.read()}", end="", flush=True)
    return failed


def _run(name: str, command: list[str]) -> bool:
    print(f"--- {name}", flush=True)
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
