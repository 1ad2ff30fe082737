"""All figures of a queue that keeps its devices busy: six benches, one after another.

Each is a process of its own. Of their reports, the values that docs/figures.md states are shown;
`--json` prints all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benches import options, queue_times
from benches.daemons import ROOT

SHOWN = {
    "overlap": ("sleep.busy", "restyle.all", "mesh.one_at_once.all", "mesh.jobs_an_hour"),
    "models": ("loads", "began_before_urgent"),
    "reuse": ("off_s", "other_resolution_s", "nothing_differs_s"),
    "workers": ("of_bare",),
    "ray": ("of_bare",),
    "ledger": ("many.ms.claim.median", "many.ms.claim_of_eight.median", "many.ms.status.median"),
}
"""Values that are shown of each bench: paths of keys in its report."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    scene = ROOT / "tests" / "golden" / "scenes" / "robot.npz"
    parser.add_argument("--scene", type=Path, default=scene, help="of `reuse` (a golden robot)")
    parser.add_argument(
        "--jobs", type=options.at_least(1000), default=1_000_000, help="of `ledger`"
    )
    parser.add_argument(
        "--beside", type=Path, metavar="FOLDER", action="append", default=[],
        help="a checkout of another version, beside `overlap`; again for more",
    )  # fmt: skip


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the reports by the names of the benches. Raises `ValueError` if one fails."""
    with tempfile.TemporaryDirectory(prefix="dna-bench-") as folder:
        models = str(queue_times.small_models(Path(folder)))
        beside = [word for other in args.beside for word in ("--beside", str(other))]
        words = {
            "overlap": ["--models", models, *beside],
            "models": ["--models", models],
            "reuse": ["--scene", str(args.scene)],
            "workers": ["--models", models],
            "ray": ["--models", models],
            "ledger": ["--jobs", str(args.jobs)],
        }
        reports = {name: _report(name, words[name]) for name in SHOWN}
    if args.json:
        return reports
    return {name: _chosen(name, report) for name, report in reports.items()}


def _report(name: str, words: list[str]) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "scripts" / "bench.py"), name, "--json", *words]
    print(f"{name} …", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ValueError(f"`bench.py {name}` failed; see above")
    return json.loads(done.stdout)


def _chosen(name: str, report: dict[str, Any]) -> dict[str, Any]:
    chosen = {path: _value(report, path) for path in SHOWN[name]}
    if name == "overlap":
        others = [value for key, value in report["mesh"].items() if key.startswith("other")]
        chosen |= {f"mesh.{other['folder']}": other["all"] for other in others}
    return chosen


def _value(report: dict[str, Any], path: str) -> Any:
    value: Any = report
    for key in path.split("."):
        value = value[key]
    return value
