"""Who may import whom, and what importing must not load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dna_pipeline.stages import registry

ROOT = Path(__file__).parents[2]
PACKAGE = "dna_pipeline"

LEVELS = [
    "base",
    "media ledger weights",
    "providers",
    "stages",
    "config",
    "intake execution publish",
    "operations",
    "interfaces",
    "__main__",
]
"""The rooms of the package, from the one that knows nothing of the others to those that join them.
A room imports only from its own level or from those before it."""

APART = [{"media", "ledger"}, {"intake", "execution", "publish"}]
"""Rooms of one level that do not know one another."""

NEVER = {
    "providers": {"ledger"},
    "stages": {"ledger"},
    "config": {"ledger", "media"},
    "weights": {"ledger", "media"},
    "interfaces": {"intake", "execution", "publish", "ledger", "stages", "providers", "media"},
}
"""Rooms that a room must not know although they stand before it."""

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

LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms.split()}


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


def room_of(dotted: str) -> str | None:
    """The room of our package that a dotted name lies in; None for its root and for others."""
    names = dotted.split(".")
    return (
        names[1] if names[0] == PACKAGE and len(names) > 1 and names[1] != "__version__" else None
    )


def faults(importer: str, source: str) -> list[str]:
    """What a module of that room imports although it should not."""
    found: list[str] = []
    for line, dotted in imports(source):
        imported = room_of(dotted)
        if dotted.startswith("."):
            found.append(f"line {line}: a relative import")
        elif dotted.split(".")[0] == "sqlalchemy" and importer != "ledger":
            found.append(f"line {line}: only the ledger knows SQLAlchemy")
        elif imported is None:
            continue
        elif imported not in LEVEL_OF:
            found.append(f"line {line}: {imported} has no place in LEVELS")
        elif LEVEL_OF[imported] > LEVEL_OF[importer]:
            found.append(f"line {line}: {importer} stands before {imported} and imports it")
        elif is_apart(importer, imported):
            found.append(f"line {line}: {importer} and {imported} should not know one another")
    return found


def is_apart(importer: str, imported: str) -> bool:
    strangers = any({importer, imported} <= rooms for rooms in APART)
    return importer != imported and (strangers or imported in NEVER.get(importer, set()))


def modules() -> list[Path]:
    found = [path.relative_to(ROOT) for path in (ROOT / PACKAGE).rglob("*.py")]
    return sorted(path for path in found if path != Path(PACKAGE, "__init__.py"))


def test_every_room_has_a_place():
    rooms = {Path(path.parts[1]).stem for path in modules()}
    assert rooms == set(LEVEL_OF)


@pytest.mark.parametrize("path", modules(), ids=str)
def test_imports_go_one_way(path: Path):
    importer = Path(path.parts[1]).stem
    assert faults(importer, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("config", "from dna_pipeline.ledger.store import Ledger"),
        ("config", "import dna_pipeline.operations.daemon.loop"),
        ("base", "from dna_pipeline.media import images"),
        ("config", "def f():\n    from dna_pipeline import operations"),
        (
            "config",
            "if TYPE_CHECKING:\n    pass\nelse:\n    import dna_pipeline.interfaces.cli.main",
        ),
        ("intake", "from dna_pipeline.publish import outbox"),
        ("ledger", "from dna_pipeline.media.images import probe"),
        ("providers", "from dna_pipeline.stages.base import Stage"),
        ("publish", "from sqlalchemy import select"),
        ("interfaces", "from dna_pipeline.nowhere import x"),
        ("interfaces", "def f():\n    from dna_pipeline.ledger.store import Ledger"),
        ("interfaces", "import dna_pipeline.intake.discovery.probe"),
        ("interfaces", "from dna_pipeline import publish"),
        ("interfaces", "from . import main"),
        ("interfaces", "from .main import main"),
    ],
)
def test_a_wrong_import_is_found(importer: str, source: str):
    assert len(faults(importer, source)) == 1


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("operations", "from dna_pipeline.ledger.store import Ledger"),
        ("operations", "from dna_pipeline import ledger, intake, __version__"),
        ("ledger", "from dna_pipeline.ledger.tables import Job\nimport sqlalchemy"),
        ("providers", "from dna_pipeline.media.meshes import mesh"),
        ("stages", "from dna_pipeline.providers.base import ModelCache"),
        ("interfaces", "from dna_pipeline.operations.lookup import sentence"),
        ("interfaces", "from dna_pipeline.config.loader import load_config"),
        ("base", "if TYPE_CHECKING:\n    from dna_pipeline.operations.daemon.loop import Daemon"),
        ("base", "import dna_pipelines.operations, os.path"),
    ],
)
def test_a_right_import_is_passed_over(importer: str, source: str):
    assert faults(importer, source) == []


WORKER = f"{PACKAGE}.execution.worker"
"""Started as a process of its own by this name: it loads what the daemon must not."""


def imports_worker(source: str) -> bool:
    return any(f"{dotted}.".startswith(f"{WORKER}.") for _, dotted in imports(source))


def test_nothing_but_the_worker_imports_the_worker():
    others = [path for path in modules() if path.parts[1:3] != ("execution", "worker")]
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in others}
    assert [path for path, source in sources.items() if imports_worker(source)] == []


@pytest.mark.parametrize(
    "source",
    [
        "from dna_pipeline.execution import worker",
        "import dna_pipeline.execution.worker.process as process",
        "def f():\n    from dna_pipeline.execution.worker.device import choose",
    ],
)
def test_an_import_of_the_worker_is_found(source: str):
    assert imports_worker(source)


@pytest.mark.parametrize(
    "source",
    [
        "from dna_pipeline.execution import protocol",
        "import dna_pipeline.execution.workers",
        'name = "dna_pipeline.execution.worker.process"',
    ],
)
def test_naming_the_worker_imports_nothing(source: str):
    assert not imports_worker(source)


def light() -> list[str]:
    """Modules that the daemon or a command imports before any work is done."""
    named = {*registry.STAGES.values(), *registry.PROVIDERS.values()}
    ours = [
        "config.loader", "stages.base", "providers.base", "operations.daemon.loop",
        "interfaces.cli.main",
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


def test_a_heavy_import_is_noticed():
    assert loaded_by(["json", "numpy"]) == {"numpy": ["numpy"]}
