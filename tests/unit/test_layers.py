"""Who may import whom, and what importing must not load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dna_pipeline import registry

ROOT = Path(__file__).parents[2]
PACKAGE = "dna_pipeline"

LEVELS = [
    "errors faults streams clock naming layout",
    "iso_boxes jpeg_words gif_end png_chunks tiff_tags primaries exr_names",
    "exr_colour exr_layers",
    "device_errors artifact filesystem logs exr alpha file_kinds",
    "colour_space tiff_pages tiff_samples",
    "h273 exif_colour icc_matrix sixteen tiff_words",
    "png_colour heif profiles",
    "picture_words",
    "picture_files",
    "obj_names",
    "imaging video gltf mesh_formats matte wire messages",
    "registry probe reachability sources",
    "spec",
    "manifest inbox_folders",
    "inbox ledger tsr providers",
    "mesh_files",
    "stages fingerprint lock estimate",
    "stage_key stage_files",
    "executor",
    "runner device",
    "worker",
    "publish manifest_parts cancelled_rows ownership cleanup failure_folders latest publishing",
    "intake snapshot",
    "room source_holds holds batch_columns",
    "accounts dispatch repair housekeeping",
    "status",
    "daemon",
    "cli __main__",
]
"""The parts of the package, from the ones that know nothing of the others to the ones that join
them. A part imports only from its own level or from those before it."""

STRANGERS = {"inbox", "ledger", "tsr", "providers"}
"""These do not know one another; but providers may use tsr, which is a library."""

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
    "imageio_ffmpeg",
}

LEVEL_OF = {part: level for level, parts in enumerate(LEVELS) for part in parts.split()}


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import of ours that happens when the program runs."""
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{start}.{name.name}") for name in node.names)
        else:
            pending += ast.iter_child_nodes(node)


def part(dotted: str) -> str | None:
    """The part of our package that a dotted name lies in; None for its root and for others."""
    names = dotted.split(".")
    return (
        names[1] if names[0] == PACKAGE and len(names) > 1 and names[1] != "__version__" else None
    )


def faults(importer: str, source: str) -> list[str]:
    """What a module of that part imports although it should not."""
    found: list[str] = []
    for line, dotted in imports(source):
        imported = part(dotted)
        if dotted.startswith("."):
            found.append(f"line {line}: a relative import")
        elif imported is None:
            continue
        elif imported not in LEVEL_OF:
            found.append(f"line {line}: {imported} has no place in LEVELS")
        elif LEVEL_OF[imported] > LEVEL_OF[importer]:
            found.append(f"line {line}: {importer} stands above {imported} and imports it")
        elif (
            {importer, imported} <= STRANGERS
            and importer != imported
            and (importer, imported) != ("providers", "tsr")
        ):
            found.append(f"line {line}: {importer} and {imported} should not know one another")
    return found


def modules() -> list[Path]:
    found = [path.relative_to(ROOT) for path in (ROOT / PACKAGE).rglob("*.py")]
    return sorted(path for path in found if path != Path(PACKAGE, "__init__.py"))


def test_every_part_has_a_place():
    parts = {Path(path.parts[1]).stem for path in modules()}
    assert parts - set(LEVEL_OF) == set()


@pytest.mark.parametrize("path", modules(), ids=str)
def test_imports_go_one_way(path: Path):
    importer = Path(path.parts[1]).stem
    assert faults(importer, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("spec", "from dna_pipeline.ledger.store import Ledger"),
        ("spec", "import dna_pipeline.daemon"),
        ("errors", "from dna_pipeline import artifact"),
        ("spec", "def f():\n    from dna_pipeline import daemon"),
        ("spec", "if TYPE_CHECKING:\n    pass\nelse:\n    import dna_pipeline.cli.main"),
        ("inbox", "from dna_pipeline.ledger import store"),
        ("ledger", "from dna_pipeline.inbox.scan import scan"),
        ("tsr", "from dna_pipeline.providers.base import Device"),
        ("cli", "from dna_pipeline.nowhere import x"),
        ("cli", "from . import main"),
        ("cli", "from .main import main"),
    ],
)
def test_a_wrong_import_is_found(importer: str, source: str):
    assert len(faults(importer, source)) == 1


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("daemon", "from dna_pipeline.ledger.store import Ledger"),
        ("daemon", "from dna_pipeline import ledger, inbox, __version__"),
        ("ledger", "from dna_pipeline.ledger.tables import Job"),
        ("providers", "from dna_pipeline.tsr import network"),
        ("stages", "from dna_pipeline.providers.base import ModelCache"),
        ("errors", "if TYPE_CHECKING:\n    from dna_pipeline.daemon import Daemon"),
        ("errors", "import dna_pipelines.daemon, os.path"),
    ],
)
def test_a_right_import_is_passed_over(importer: str, source: str):
    assert faults(importer, source) == []


def light() -> list[str]:
    """Modules that the daemon or a command imports before any work is done."""
    named = {*registry.STAGES.values(), *registry.PROVIDERS.values()}
    ours = ["spec.reader", "stages.base", "providers.base", "daemon", "cli.main"]
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


def test_a_heavy_import_is_noticed():
    assert loaded_by(["json", "numpy"]) == {"numpy": ["numpy"]}
