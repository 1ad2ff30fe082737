"""What importing must not load: the daemon stays small, and decoding happens in other processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from dna_pipeline.stages import registry

ROOT = Path(__file__).parents[2]
PACKAGE = "dna_pipeline"

HEAVY = {
    "torch",
    "numpy",
    "diffusers",
    "transformers",
    "skimage",
    "trimesh",
    "scipy",
    "rembg",
    "OpenEXR",
    "PIL",
    "pi_heif",
    "moderngl",
    "imageio",
    "imageio_ffmpeg",
    "httpx2",
    "ray",
}


def light() -> list[str]:
    """Modules that the daemon or a command imports before any work is done."""
    named = {*registry.STAGES.values(), *registry.PROVIDERS.values()}
    ours = [
        "config.loader", "stages.base", "providers.base", "operations.daemon.loop",
        "interfaces.cli.main", "operations.models.pull", "operations.models.listing",
        "interfaces.web.server",
    ]  # fmt: skip
    return [f"{PACKAGE}.{name}" for name in ours] + sorted(n.split(":")[0] for n in named)


def loaded_by(names: list[str]) -> dict[str, list[str]]:
    """The heavy packages that importing each of the modules brings in, one after another."""
    code = (
        "import json, sys; from importlib import import_module\n"
        "names, heavy = json.loads(sys.argv[1]); loaded = {}\n"
        "for name in names:\n"
        "    before = set(sys.modules); import_module(name)\n"
        "    loaded[name] = sorted(heavy_one for heavy_one in heavy\n"
        "        if heavy_one in sys.modules and heavy_one not in before)\n"
        "print(json.dumps(loaded))\n"
    )
    arguments = json.dumps([names, sorted(HEAVY)])
    done = subprocess.run(
        [sys.executable, "-c", code, arguments],
        check=True,
        capture_output=True,
        cwd=ROOT,
        timeout=120,
    )
    return {name: packages for name, packages in json.loads(done.stdout).items() if packages}


def test_reading_the_configuration_loads_nothing_heavy():
    assert loaded_by(light()) == {}


def test_commands_load_nothing_that_draws_until_they_draw():
    code = """
import sys
from dna_pipeline.interfaces.cli import main
from dna_pipeline.operations import history, overview, status
print([name for name in ("rich", "dna_pipeline.interfaces.cli.live") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT, timeout=120
    )
    assert done.stdout.decode().strip() == "[]"


def test_a_heavy_import_is_noticed():
    assert loaded_by(["json", "numpy"]) == {"numpy": ["numpy"]}
