"""From a picture in one folder to a mesh in another, with one command.

Makes the environment and, if there are no real weights, small stand-ins for them. Then starts the
daemon on a demo folder, drops a picture and, a moment later, its sidecar, and shows the progress,
what went wrong, and the paths of the results.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from environment import ROOT, SetupError, ensure, escape_unencodable, venv_python

TIMEOUT_S = 900
REAL_MODELS = ROOT / "data" / "models"
SD, TRIPOSR = "sd-v1-5-local", "triposr-base"
STAND_IN_MARK = "LICENSE.txt"
"""File of a model that `make_tiny_models.py` made."""
PICTURE = ROOT / "scripts" / "demo_files" / "rocket.png"
INBOX = "pictures"

CONFIG = """\
# Written by scripts/demo.py.
version: 1
runtime: {{preload: [sd15, triposr]}}
models:
  sd15:    {{provider: diffusers, path: {sd}}}
  triposr: {{provider: triposr, path: {triposr}}}
  matte:   {{provider: border_key}}
pipelines:
  restyle_to_mesh: [{{img2img: {{model: sd15}}}}, {{remove_background: {{model: matte}}}}, {{triposr: {{model: triposr}}}}]
inboxes:
  - {{path: inbox, name: {inbox}, pipeline: restyle_to_mesh, settle_seconds: 0.5}}
"""  # noqa: E501

SIDECAR = """\
# How to treat rocket.png; everything that is not said here comes from pipeline.yaml.
img2img: {prompt: "a glazed clay rocket in golden light", steps: 15, strength: 0.3, seed: 1234}
triposr:
  resolution: 128
  bake_texture: true
  texture_resolution: 1024
  target_faces: 3000
  turntable: true
  turntable_views: 24
meta: {asset: rocket_01}
"""

ROLES = {
    "image": "the restyled picture",
    "matte": "its subject, cut out",
    "preview": "a picture of the mesh",
    "turntable": "a film of the mesh as it turns",
    "marks": "what programs read of how the film was made",
}


class DemoError(Exception):
    """Ends the demo; the text is for people."""


def main() -> int:
    escape_unencodable()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dir", type=Path, default=ROOT / "demo", help="where (%(default)s)")
    folder = parser.parse_args().dir.resolve()
    try:
        ensure(dev=False)
        folder.mkdir(parents=True, exist_ok=True)
        lay_out(folder, models(folder / "models"))
        return show(folder)
    except (SetupError, DemoError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped", file=sys.stderr)
        return 130


def models(stand_ins: Path) -> dict[str, Path]:
    """Find the folder of each model: the real one if it is there, else a stand-in, made if it is
    missing or made by other scripts than today's."""
    real = {name: REAL_MODELS / name for name in (SD, TRIPOSR)}
    existing = {name: path for name, path in real.items() if is_real(path)}
    if len(existing) < len(real):
        make_stand_ins(stand_ins)
    return {name: existing.get(name, stand_ins / name) for name in real}


def is_real(model: Path) -> bool:
    return model.exists() and not (model / STAND_IN_MARK).is_file()


def make_stand_ins(folder: Path) -> None:
    script = ROOT / "scripts" / "make_tiny_models.py"
    sources = [script, *(ROOT / "scripts" / "tiny_models").glob("*.*"), *PICTURE.parent.iterdir()]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()
    stamp = folder / ".made-by"
    is_current = stamp.is_file() and stamp.read_text(encoding="utf-8") == digest
    if is_current and all((folder / name).is_dir() for name in (SD, TRIPOSR)):
        return
    print("Making small models in the real formats (seconds) …", flush=True)
    run_python(str(script), "--demo", "--force", "--out", str(folder))
    stamp.write_text(digest, encoding="utf-8")


def lay_out(folder: Path, models: dict[str, Path]) -> None:
    (folder / "inbox").mkdir(exist_ok=True)
    paths = {"sd": json.dumps(str(models[SD])), "triposr": json.dumps(str(models[TRIPOSR]))}
    (folder / "pipeline.yaml").write_text(CONFIG.format(inbox=INBOX, **paths), encoding="utf-8")


def show(folder: Path) -> int:
    """Start the daemon, drop the picture, wait, and print the result."""
    log = (folder / "watch.log").open("wb")
    begun = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    daemon = subprocess.Popen(
        command(folder, "watch"), stdout=log, stderr=log, env=environment(), cwd=folder
    )
    try:
        print(f"The daemon runs (process {daemon.pid}) and watches {folder / 'inbox'}")
        drop(folder)
        entry = wait(folder, daemon, begun)
        daemon.terminate()  # it ends while the result is shown
        sheet = begin(*command(folder, "sheet", "--inbox", INBOX, "-o", str(folder / "sheet"))[1:])
        tell(folder, entry)
        print("A page with all results of the demo, to open in a browser:")
        print(output_of(sheet).strip())
    finally:
        daemon.terminate()
        daemon.wait(60)
        log.close()
    return 0


def drop(folder: Path) -> None:
    """Write the picture under a temporary name and rename it; likewise the sidecar, a moment
    later."""
    inbox = folder / "inbox"
    shutil.copyfile(PICTURE, inbox / "rocket.png.part")
    (inbox / "rocket.png.part").replace(inbox / "rocket.png")
    print("Dropped rocket.png …", flush=True)
    time.sleep(0.5)
    (inbox / "rocket.yaml.part").write_text(SIDECAR, encoding="utf-8")
    (inbox / "rocket.yaml.part").replace(inbox / "rocket.yaml")
    print("… and its sidecar rocket.yaml:\n")
    print("    " + SIDECAR.replace("\n", "\n    "))


def wait(folder: Path, daemon: subprocess.Popen[bytes], begun: str) -> dict[str, Any]:
    """Show progress until the job has ended and its folder is in place; its entry in the status."""
    deadline = time.monotonic() + TIMEOUT_S
    shown, job = "", ""
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise DemoError(f"the daemon ended by itself; see {folder / 'watch.log'}")
        status = read_status(folder)
        shown = show_progress(status, shown)
        running: dict[str, Any] = status.get("running") or {}
        job = running.get("job", job)
        new = [entry for entry in status.get("recent", []) if entry["finished_at"] >= begun]
        if new := new or published(folder / "outbox", job):
            print(("\r" + " " * len(shown) + "\r") if sys.stdout.isatty() else "", end="")
            return new[0]
        if status.get("daemon") and status.get("holds"):
            raise DemoError(f"the job waits: {status['holds'][0]['reason']}")
        time.sleep(0.2)
    raise DemoError(f"nothing came out within {TIMEOUT_S} s; see {folder / 'watch.log'}")


def published(outbox: Path, job: str) -> list[dict[str, Any]]:
    """The job's result as an entry of the status, which tells of it up to a second later."""
    manifests = outbox.glob(f"{INBOX}/*-{job[:8]}/manifest.json") if job else ()
    return [
        {"folder": path.parent.relative_to(outbox).as_posix(), "status": "completed"}
        for path in manifests
    ]


def read_status(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "outbox" / "status.json").read_bytes())
    except (OSError, ValueError):
        return {}


def show_progress(status: dict[str, Any], shown: str) -> str:
    """Rewrite the line of progress in place; give its new text."""
    running = status.get("running")
    waiting: list[dict[str, Any]] = status.get("waiting") or []
    if running:
        step = f" {running['step']}/{running['steps']}" if running["steps"] else ""
        stage = running["stage"] or "starting"
        line = f"  {running['fraction']:4.0%}  {stage} ({running['phase'] or '…'}){step}"
    elif waiting:
        line = f"        {waiting[0]['file']}: {waiting[0]['reason']}"
    else:
        line = shown
    if line != shown:
        end = "" if sys.stdout.isatty() else "\n"
        print(("\r" if sys.stdout.isatty() else "") + line.ljust(len(shown)), end=end, flush=True)
    return line


def tell(folder: Path, entry: dict[str, Any]) -> None:
    result = folder / "outbox" / entry["folder"]
    if entry["status"] != "completed":
        raise DemoError(f"the job {entry['status']}: see {result / 'ERROR.txt'}")
    manifest = json.loads((result / "manifest.json").read_bytes())
    print(f"\nDone. In {result}:\n")
    for artifact in manifest["artifacts"]:
        print(f"  {artifact['path']:24} {describe(artifact)}")
    print(f"  {'manifest.json':24} how each of them was made, with hashes")
    print(f"  {'source/':24} the picture and its sidecar, as dropped\n")
    for stage in manifest["stages"]:
        for warning in stage["warnings"]:
            print(f"  Warning ({stage['type']}): {warning}")
    run_python(*command(folder, "verify", str(result))[1:])
    print("All files have the hashes that the manifest says.")
    print("The mesh opens in Blender, Windows' 3D viewer or any glTF viewer.")
    if not all(map(is_real, (REAL_MODELS / SD, REAL_MODELS / TRIPOSR))):
        print(f"Small stand-in models made it; put real weights into {REAL_MODELS} for real ones.")


def describe(artifact: dict[str, Any]) -> str:
    role, size = artifact["role"], f"{artifact['bytes'] / 1024:,.0f} KiB"
    if role == "mesh":
        closed = "watertight" if artifact["watertight"] else "open"
        texture = ", textured" if artifact.get("texture") else ""
        return f"the mesh: {artifact['faces']:,} faces, {closed}{texture}, {size}"
    return f"{ROLES.get(role, role)}, {size}"


def command(folder: Path, *arguments: str) -> list[str]:
    """The command line of a command of dna-pipeline."""
    config = folder / "pipeline.yaml"
    return [str(venv_python()), "-m", "dna_pipeline", "--config", str(config), *arguments]


def environment() -> dict[str, str]:
    """Let threads of the small models that wait for one another leave the cores to others."""
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}


def run_python(*arguments: str) -> str:
    return output_of(begin(*arguments))


def begin(*arguments: str) -> subprocess.Popen[str]:
    """Start Python in the environment, with its output in pipes."""
    return subprocess.Popen(
        [str(venv_python()), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip


def output_of(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a process; what it printed."""
    output, error = process.communicate()
    if process.returncode != 0:
        raise DemoError(f"{process.args} failed:\n{error.strip()}")
    return output


if __name__ == "__main__":
    sys.exit(main())
