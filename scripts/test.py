"""Checks everything: style, types, tests. The same here and in CI.

python3 scripts/test.py            all checks
python3 scripts/test.py --fast     without the tests that start the real daemon
python3 scripts/test.py --blender  with the tests in Blender, which is fetched once; always in CI
python3 scripts/test.py -k name    tests alone; other arguments go to pytest

Khronos' glTF validator is fetched once too; it is small.
"""

from __future__ import annotations

import os
import subprocess
import sys

from environment import (
    ROOT,
    SetupError,
    ensure,
    ensure_blender,
    ensure_validator,
    escape_unencodable,
)

CHECKS = {
    "style": ["-m", "ruff", "check"],
    "format": ["-m", "ruff", "format", "--check"],
    "types": ["-m", "pyright"],
}


def main() -> int:
    escape_unencodable()
    arguments = sys.argv[1:]
    fast = "--fast" in arguments
    try:
        python = str(ensure(dev=True))
        ensure_validator()
        if "--blender" in arguments or (os.environ.get("CI") and not fast):
            ensure_blender()
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    chosen = [argument for argument in arguments if argument not in ("--fast", "--blender")]
    failed = [] if chosen else [name for name in CHECKS if not _run(name, [python, *CHECKS[name]])]
    # Most tests wait for processes or the disk, so run several at a time to save time.
    spread = [] if chosen else ["-n", "logical", "--dist", "worksteal"]
    tests = [python, "-m", "pytest", *spread, *(["-m", "not slow"] if fast else []), *chosen]
    if not _run("tests", tests):
        failed.append("tests")
    print(f"failed: {', '.join(failed)}" if failed else "all checks passed", flush=True)
    return 1 if failed else 0


def _run(name: str, command: list[str]) -> bool:
    print(f"--- {name}", flush=True)
    environment = os.environ | {"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
