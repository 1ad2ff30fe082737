"""Measures what the README states in figures.

bench.py mesh --scene robot.npz --resolution 256            as the pipeline does it
bench.py mesh --scene robot.npz --resolution 256 --dense    as the original does it, on every point
bench.py mesh --scene robot.npz --resolution 256 --compare  both, in one run
bench.py bake --scene robot.npz                             … and a mesh with a texture
bench.py turntable --mode mesh --scene robot.npz --size 512 a film of the mesh as it turns
bench.py turntable --mode nerf --scene robot.npz            30 views, beside every sample of two
bench.py forward                                            TripoSR's network, full size
bench.py ledger --jobs 1000000 --future 100000              of claiming, of `status` and `jobs`, …
bench.py idle --seconds 60                                  the CPU that ten quiet inboxes take
bench.py intake --files 100000 --originals archive          a full inbox, taken in by the daemon
bench.py estimate --jobs 50          jobs of mixed sizes through the real daemon

Run it with the interpreter of .venv. `--json` prints one object; a mesh's `points` are the
densities asked for, `inside` those above the threshold, `peak_mib` the memory it took beside the
model and what the process held already. A turntable's `reference` is scaled up
from a few views. An intake's seconds count from the start
of the daemon, whose waits (seven seconds before a lone image may be taken in) are in them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from typing import Any, cast

from environment import escape_unencodable

BENCHES = {
    "intake": "from a full inbox to jobs in the ledger, by the real daemon",
    "estimate": "the time that the daemon says is left, beside what it then took",
    "mesh": "from a scene code to a mesh with vertex colours",
    "bake": "from a scene code to a mesh with a texture, and how it looks beside its field",
    "forward": "from a picture to scene codes, in float32 and in bfloat16",
    "turntable": "from a scene code to pictures all around",
    "ledger": "a ledger of a million jobs: the daemon's questions and the commands that look",
    "idle": "what the daemon costs while nothing is to be done",
}


def as_text(facts: dict[str, Any]) -> str:
    """The facts for people, a line each."""
    lines: list[str] = []
    for key, value in facts.items():
        if isinstance(value, dict):
            nested = as_text(cast(dict[str, Any], value))
            lines += [f"{key}:", *(f"  {line}" for line in nested.splitlines())]
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else f"{value}"
            lines.append(f"{key:<11} {shown}")
    return "\n".join(lines)


def parser(chosen: str | None) -> argparse.ArgumentParser:
    """Only the bench that was `chosen` is imported: some measure a program without torch."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = made.add_subparsers(required=True, metavar="WHAT")
    for name, about in BENCHES.items():
        command = commands.add_parser(name, help=about)
        command.add_argument("--json", action="store_true", help="one JSON object")
        if name == chosen:
            module = importlib.import_module(f"benches.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return made


def main() -> None:
    escape_unencodable()
    made = parser(next((word for word in sys.argv[1:] if word in BENCHES), None))
    args = made.parse_args()
    try:
        facts = args.run(args)
    except (OSError, ValueError) as error:
        made.error(str(error))
    print(json.dumps(facts) if args.json else as_text(facts))


if __name__ == "__main__":
    main()
