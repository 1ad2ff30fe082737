"""From a photograph in one folder to a mesh in another, with one command.

Makes the environment and, if there are no real weights, small stand-ins for them. Then starts the
daemon on a demo folder, drops a photograph and, a moment later, its sidecar, and shows the progress
and the paths of the results.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from environment import ROOT, SetupError, ensure, escape_unencodable, venv_python

TIMEOUT_S = 900
MODELS = ROOT / "data" / "models"

CONFIG = """\
# Written by scripts/demo.py.
version: 1
models:
  sd15:    {{provider: diffusers, path: {models}/sd-v1-5-local}}
  triposr: {{provider: triposr, path: {models}/triposr-base}}
  matte:   {{provider: border_key}}
pipelines:
  restyle_to_mesh: [{{img2img: {{model: sd15}}}}, {{remove_background: {{model: matte}}}}, {{triposr: {{model: triposr}}}}]
inboxes:
  - {{path: inbox, name: photos, pipeline: restyle_to_mesh}}
"""  # noqa: E501

SIDECAR = """\
# How to treat rocket.png; everything that is not said here comes from pipeline.yaml.
img2img: {prompt: "a clay rocket", steps: 20, strength: 0.3, seed: 1234}
triposr: {resolution: 192}
meta: {asset: rocket_01}
"""

# A Falcon 9 before launch (SpaceX, CC0), cut out of the photograph that scikit-image ships.
PHOTOGRAPH = """
import sys
from PIL import Image
from skimage import data
photograph = Image.fromarray(data.rocket()).crop((220, 110, 420, 310))
photograph.resize((512, 512), Image.Resampling.LANCZOS).save(sys.argv[1], format="PNG")
"""


class DemoError(Exception):
    """Ends the demo; the text is for people."""


def main() -> int:
    escape_unencodable()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dir", type=Path, default=ROOT / "demo", help="where (%(default)s)")
    folder = parser.parse_args().dir.resolve()
    try:
        ensure(dev=False)
        make_models()
        lay_out(folder)
        return show(folder)
    except (SetupError, DemoError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: stopped", file=sys.stderr)
        return 130


def make_models() -> None:
    """Make small stand-ins for models whose weights are missing."""
    if all((MODELS / name).is_dir() for name in ("sd-v1-5-local", "triposr-base")):
        return
    print("Making small models in the real formats (seconds) …", flush=True)
    run_python(str(ROOT / "scripts" / "make_tiny_models.py"), "--out", str(MODELS))


def lay_out(folder: Path) -> None:
    (folder / "inbox").mkdir(parents=True, exist_ok=True)
    config = folder / "pipeline.yaml"
    config.write_text(CONFIG.format(models=json.dumps(str(MODELS))[1:-1]), encoding="utf-8")
    pipeline(folder, "check")


def show(folder: Path) -> int:
    """Start the daemon, drop the photograph, wait, and print the result."""
    log = (folder / "watch.log").open("wb")
    command = [str(venv_python()), "-m", "dna_pipeline", "--config", str(folder / "pipeline.yaml")]
    daemon = subprocess.Popen([*command, "watch"], stdout=log, stderr=log)
    try:
        print(f"The daemon runs (process {daemon.pid}) and watches {folder / 'inbox'}")
        earlier_ids = {job["id"] for job in jobs(folder)}
        drop(folder)
        job = wait(folder, daemon, earlier_ids)
    finally:
        daemon.terminate()
        daemon.wait(60)
        log.close()
    print("The daemon has stopped.")
    return tell(folder, job)


def drop(folder: Path) -> None:
    """Write the photograph under a temporary name and rename it; likewise the sidecar, a moment
    later."""
    inbox = folder / "inbox"
    run_python("-c", PHOTOGRAPH, str(inbox / "rocket.png.part"))
    (inbox / "rocket.png.part").replace(inbox / "rocket.png")
    print("Dropped rocket.png …", flush=True)
    time.sleep(1)
    (inbox / "rocket.yaml.part").write_text(SIDECAR, encoding="utf-8")
    (inbox / "rocket.yaml.part").replace(inbox / "rocket.yaml")
    print("… and its sidecar rocket.yaml:\n")
    print("    " + SIDECAR.replace("\n", "\n    "))


def wait(folder: Path, daemon: subprocess.Popen[bytes], earlier_ids: set[str]) -> dict[str, Any]:
    """Show progress until the new job has ended and its folder is in place."""
    deadline = time.monotonic() + TIMEOUT_S
    shown = ""
    while time.monotonic() < deadline:
        if daemon.poll() is not None:
            raise DemoError(f"the daemon ended by itself; see {folder / 'watch.log'}")
        new = [job for job in jobs(folder) if job["id"] not in earlier_ids]
        shown = show_progress(folder, shown)
        if new and new[0]["publish"] == "done":
            print("\r" + " " * len(shown) + "\r", end="")
            return new[0]
        if new and new[0]["hold"]:
            raise DemoError(f"the job waits: {new[0]['hold_detail']}")
        time.sleep(0.3)
    raise DemoError(f"nothing came out within {TIMEOUT_S} s; see {folder / 'watch.log'}")


def show_progress(folder: Path, shown: str) -> str:
    """Rewrite the line of progress in place; give its new text."""
    try:
        status = json.loads((folder / "outbox" / "status.json").read_bytes())
    except (OSError, ValueError):
        return shown
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


def tell(folder: Path, job: dict[str, Any]) -> int:
    result = folder / "outbox" / job["publish_name"]
    if job["status"] != "completed":
        raise DemoError(f"the job {job['status']}: see {result / 'ERROR.txt'}")
    manifest = json.loads((result / "manifest.json").read_bytes())
    print(f"\nDone. The result is in {result}\n")
    for artifact in manifest["artifacts"]:
        print(f"  {artifact['path']:24} {describe(artifact)}")
    print(f"  {'manifest.json':24} how each of them was made, with hashes")
    print(f"  {'source/':24} the photograph and its sidecar, as dropped\n")
    pipeline(folder, "verify", str(result))
    print("The mesh opens in Blender, Windows' 3D viewer or any glTF viewer.")
    if (MODELS / "sd-v1-5-local" / "LICENSE.txt").is_file():
        print(f"Small stand-in models made it; put real weights into {MODELS} for real results.")
    return 0


def describe(artifact: dict[str, Any]) -> str:
    role, size = artifact["role"], f"{artifact['bytes'] / 1024:,.0f} KiB"
    if role == "mesh":
        closed = "watertight" if artifact["watertight"] else "open"
        return f"the mesh: {artifact['faces']:,} faces, {closed}, {size}"
    words = {"image": "the restyled picture", "matte": "its subject, cut out",
             "preview": "a picture of the mesh"}  # fmt: skip
    return f"{words.get(role, role)}, {size}"


def jobs(folder: Path) -> list[dict[str, Any]]:
    if not (folder / "data" / "ledger.db").is_file():
        return []
    return json.loads(pipeline(folder, "jobs", "--json"))


def pipeline(folder: Path, *arguments: str) -> str:
    """Run a command of dna-pipeline; give its output."""
    return run_python("-m", "dna_pipeline", "--config", str(folder / "pipeline.yaml"), *arguments)


def run_python(*arguments: str) -> str:
    command = [str(venv_python()), *arguments]
    process = subprocess.run(command, check=False, capture_output=True, text=True, encoding="utf-8")
    if process.returncode != 0:
        raise DemoError(f"{' '.join(arguments[:4])} failed:\n{process.stderr.strip()}")
    return process.stdout


if __name__ == "__main__":
    sys.exit(main())
