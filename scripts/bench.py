"""Measures the figures that the README states.

bench.py mesh --scene robot.npz --resolution 256            as the pipeline does it
bench.py mesh --scene robot.npz --resolution 256 --dense    as the original does it, on every point
bench.py mesh --scene robot.npz --resolution 256 --compare  both, in one run
bench.py bake --scene robot.npz                             … and a mesh with a texture
bench.py turntable --mode mesh --scene robot.npz --size 512 a film of the mesh as it turns
bench.py turntable --mode nerf --scene robot.npz            30 views, beside every sample of two
bench.py forward                                            TripoSR's network, full size
bench.py img2img                                            Stable Diffusion 1.5, full size
bench.py loras                                              to read LoRAs, and what they cost
bench.py ledger --jobs 1000000 --future 100000              of claiming, of `status` and `jobs`, …
bench.py convert                                            a checkpoint of full size to a folder
bench.py idle --seconds 60                                  the CPU that ten quiet inboxes take
bench.py intake --files 100000 --originals archive          a full inbox, taken in by the daemon
bench.py pictures                           PNG, border_key, cut-outs and the preview of a mesh
bench.py sheet --results 1000        a contact sheet, written and opened in Chromium
bench.py estimate --jobs 50          jobs of mixed sizes through the real daemon
bench.py serve --jobs 1000000        the server: its answers, streams, uploads, the daemon's rate
bench.py page --results 50000        the page in Chromium, with many people, beside the daemon
bench.py reuse --scene robot.npz     a job whose results are kept, beside one that computes them
bench.py overlap                     how busy the device is; jobs that overlap, beside others
bench.py models                      loads of two models that take turns; a job of high priority
bench.py workers                     two workers of one thread, beside two bare loops
bench.py simulate --workers 1000     a thousand simulated workers under the real dispatcher
bench.py ray                         two Ray nodes of one core, beside bare actors on the same
bench.py queue       overlap, models, reuse, workers, ray and ledger, in one run
bench.py notify --jobs 10000         jobs through the ledger, beside a receiver and a broken one

Run it with the interpreter of .venv. `--json` prints one object; a mesh's `points` are the
densities that were computed, `inside` those above the threshold, `peak_mib` the memory beyond that
of the model and of the process before. A turntable's `reference` is scaled up from a few views. An
intake's seconds count from the start of the daemon and include its waits (seven seconds before a
lone image may be claimed).
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
    "img2img": "Stable Diffusion 1.5 of full size, in float32 and in the dtype that auto chooses",
    "loras": "to read a LoRA, to change between two, and what a job without any pays",
    "turntable": "from a scene code to pictures all around",
    "ledger": "a ledger of a million jobs: the daemon's questions and the commands that look",
    "pictures": "encoding, keying, cutting out and previews, beside the models",
    "convert": "from a checkpoint in one file, of full size, to a Diffusers folder",
    "sheet": "a contact sheet: to write it, its size, and to open it in Chromium",
    "idle": "what the daemon costs while nothing is to be done",
    "serve": "the server: time of its answers, memory of streams and uploads, the daemon's rate",
    "page": "the page: a gallery of many results, its bytes, many people, the daemon's rate",
    "reuse": "a job that takes kept results, or goes on from a kept scene",
    "overlap": "how busy the device is while jobs wait, and what overlapping jobs gain",
    "models": "how often models are loaded where one fits at a time; a job of high priority",
    "workers": "jobs a second of several workers on the CPU, beside bare loops of the same work",
    "simulate": "the real dispatcher and ledger under many simulated workers, on a virtual clock",
    "ray": "jobs a second of workers on Ray nodes, beside bare actors of the same work",
    "queue": "all figures of a queue that keeps its devices busy, in one run",
    "notify": "what receivers of notifications cost the queue, a broken one too",
}


def as_text(report: dict[str, Any]) -> str:
    """Write a report for people, a line for each value."""
    lines: list[str] = []
    for key, value in report.items():
        if isinstance(value, dict):
            nested = as_text(cast(dict[str, Any], value))
            lines += [f"{key}:", *(f"  {line}" for line in nested.splitlines())]
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else f"{value}"
            lines.append(f"{key:<11} {shown}")
    return "\n".join(lines)


def parser(name_in_use: str | None) -> argparse.ArgumentParser:
    """Build the parser. Only the named bench is imported, since some measure a program without
    torch."""
    result = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = result.add_subparsers(required=True, metavar="WHAT")
    for name, about in BENCHES.items():
        command = commands.add_parser(name, help=about)
        command.add_argument("--json", action="store_true", help="one JSON object")
        if name == name_in_use:
            module = importlib.import_module(f"benches.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return result


def main() -> None:
    escape_unencodable()
    arguments = parser(next((word for word in sys.argv[1:] if word in BENCHES), None))
    args = arguments.parse_args()
    try:
        report = args.run(args)
    except (OSError, ValueError) as error:
        arguments.error(str(error))
    print(json.dumps(report) if args.json else as_text(report))


if __name__ == "__main__":
    main()
