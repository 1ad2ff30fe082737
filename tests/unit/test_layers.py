"""Who may import whom, and what from outside.

A place is a room, or a part of one: `config`, `execution.worker`, `media.meshes.camera`.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

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

INSIDE = {
    "intake": [
        "discovery inbox_folders",
        "planning",
        "claiming",
        "recovery",
        "inbox_intake",
        "service",
        "table_intake",
    ],
    "execution": [
        "protocol disk_space conditions model_order",
        "worker_state result_store suspects",
        "kept_requests worker_child",
        "estimate local_executor ray_worker orders running_job source_holds",
        "scheduler local_workers",
        "dispatcher worker ray_executor cluster",
    ],
    "ledger": [
        "tables sqlite",
        "engine health schema model_sets migrations",
        "store queries",
        "states report_queries gallery_queries wait_queries",
        "drops",
        "queue",
        "holds requests overtaken latest receivers model_loads thumbnails",
        "pauses",
        "batches",
    ],
}
"""The parts of a room, in the order of `LEVELS`. Parts of one level do not know one another."""

FORBIDDEN = {
    "intake.discovery": "ledger",
    "execution.worker": "ledger config",
    "config": "base.reachability base.filesystem base.files base.claim_folders",
}
"""Places that a place must not import although its room may."""

NETWORK = "weights interfaces operations.daemon.notifications"
"""The places that may talk to other machines; the last one need not exist."""

EXTERNAL = {
    "OpenEXR": "media",
    "PIL": "media providers stages",
    "accelerate": "providers",
    "aiohttp": NETWORK,
    "alembic": "ledger",
    "anyio": "interfaces",
    "c2pa": "media",
    "diffusers": "providers",
    "fastapi": "interfaces",
    "fast_simplification": "media",
    "filelock": "operations execution.worker execution.cluster weights",
    "h11": "interfaces",
    "httpx": NETWORK,
    "httpx2": NETWORK,
    "imageio": "media",
    "imageio_ffmpeg": "media",
    "jinja2": "interfaces",
    "markupsafe": "interfaces",
    "moderngl": "media",
    "numpy": "media providers stages",
    "onnxruntime": "providers",
    "pi_heif": "media",
    "psutil": "operations.doctor execution.worker",
    "pydantic": "config execution interfaces providers publish stages",
    "pysqlite3": "ledger",
    "rembg": "providers",
    "ray": "execution.cluster",
    "requests": NETWORK,
    "rich": "interfaces",
    "safetensors": "providers",
    "scipy": "media providers",
    "skimage": "providers",
    "sqlalchemy": "ledger",
    "starlette": "interfaces",
    "structlog": "base execution intake interfaces.web operations providers publish",
    # A camera's rays start TripoSR's sums, where numpy would round otherwise.
    "torch": "providers execution.worker media.meshes.camera",
    "transformers": "providers",
    "trimesh": "media",
    "typer": "interfaces",
    "uvicorn": "interfaces",
    "watchdog": "intake",
    "xatlas": "media",
    "yaml": "config providers",
}
"""The places that may import each package of others. One that is not listed has no place."""

UNSEEN = {"tzdata": "the zones of zoneinfo"}
"""Dependencies that no module imports itself, and what they are there for."""

STANDARD = {
    **dict.fromkeys(("socket", "socketserver", "ssl", "http", "urllib.request"), NETWORK),
    **dict.fromkeys(("ftplib", "imaplib", "poplib", "smtplib", "xmlrpc"), NETWORK),
    # The datagrams of systemd go to a socket of this machine.
    "socket": f"{NETWORK} operations.daemon.service_manager",
    "multiprocessing": "",
    "sqlite3": "ledger",
    "subprocess": "base execution intake media",
}
"""The places that may import these modules of the standard library; the others are free."""

DISK_CALLS = {
    "chmod", "exists", "glob", "is_dir", "is_file", "is_mount", "is_symlink", "isdir", "isfile",
    "islink", "iterdir", "lexists", "listdir", "lstat", "mkdir", "open", "read_bytes", "read_text",
    "readlink", "realpath", "rename", "rglob", "rmdir", "samefile", "scandir", "stat",
    "symlink_to", "touch", "unlink", "walk", "write_bytes", "write_text",
}  # fmt: skip
"""Calls that look at a disk or change it, by their last name; `resolve()` is one too."""

LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms.split()}


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import that happens when the program runs.

    `import_module("torch")` is one too.
    """
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
            if isinstance(node, ast.Call) and called(node) == "import_module" and node.args:
                name = node.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    yield node.lineno, name.value
            pending += ast.iter_child_nodes(node)


def called(call: ast.Call) -> str:
    """The last name of what is called: `stat` of `path.stat()`."""
    return ast.unparse(call.func).rpartition(".")[2]


def room_of(dotted: str) -> str | None:
    """The room of our package that a dotted name lies in; None for its root and for others."""
    names = dotted.split(".")
    return (
        names[1] if names[0] == PACKAGE and len(names) > 1 and names[1] != "__version__" else None
    )


def faults(importer: str, source: str) -> list[str]:
    """Imports of a module, by its dotted name in the package, that break the contract."""
    found: list[str] = []
    for line, dotted in imports(source):
        if dotted.startswith("."):
            found.append(f"line {line}: a relative import")
        elif room_of(dotted) is None:
            found += [f"line {line}: {text}" for text in outside_faults(importer, dotted)]
        else:
            found += [f"line {line}: {text}" for text in own_faults(importer, dotted)]
    return found


def own_faults(importer: str, dotted: str) -> Iterator[str]:
    """Ways in which an import of the package's own breaks the contract."""
    imported = dotted.removeprefix(f"{PACKAGE}.")
    room, other = importer.split(".")[0], imported.split(".")[0]
    if other not in LEVEL_OF:
        yield f"{other} has no place in LEVELS"
    elif LEVEL_OF[other] > LEVEL_OF[room]:
        yield f"{room} stands before {other} in LEVELS and imports it"
    elif is_apart(room, other):
        yield f"{room} and {other} should not know one another (APART, NEVER)"
    for place, names in FORBIDDEN.items():
        if lies_in(importer, place) and lies_in(imported, names):
            yield f"{place} must not import {imported} (FORBIDDEN)"
    if room == other and room in INSIDE:
        yield from inside_faults(room, importer, imported)


def inside_faults(room: str, importer: str, imported: str) -> Iterator[str]:
    """Ways in which an import within a room goes against the order of its parts."""
    level_of = {part: at for at, parts in enumerate(INSIDE[room]) for part in parts.split()}
    one, other = (f"{dotted}..".split(".")[1] for dotted in (importer, imported))
    for part in {one, other} - {""} - level_of.keys():
        yield f"{room}.{part} has no place in INSIDE"
    if one != other and {one, other} <= level_of.keys() and level_of[other] >= level_of[one]:
        yield f"{room}.{one} does not stand above {room}.{other} in INSIDE and imports it"


def outside_faults(importer: str, dotted: str) -> Iterator[str]:
    """Ways in which an import of a package of others breaks the contract."""
    top = dotted.split(".")[0]
    if top not in EXTERNAL and top not in sys.stdlib_module_names and top != PACKAGE:
        yield f"{top} is not in EXTERNAL: enter it with the rooms that may import it"
    for name, places in (EXTERNAL | STANDARD).items():
        if lies_in(dotted, name) and not lies_in(importer, places):
            yield f"{importer} imports {name}, which only these may: {places or 'none'}"


def lies_in(dotted: str, places: str) -> bool:
    """True if a dotted name is one of the places, or lies within one."""
    return any(f"{dotted}.".startswith(f"{place}.") for place in places.split())


def disk_calls(source: str) -> list[str]:
    """Calls that reach for the disk, with their lines."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        f"line {call.lineno}: {ast.unparse(call.func)}"
        for call in calls
        if called(call) in DISK_CALLS or ast.unparse(call).endswith(".resolve()")
    ]


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
    importer = ".".join(path.with_suffix("").parts[1:])
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
        ("ledger.tables", "from dna_pipeline.ledger import store"),
        ("ledger.queue", "import dna_pipeline.ledger.batches"),
        ("ledger.attic", "from dna_pipeline.ledger import store"),
        ("ledger.engine", "from dna_pipeline.ledger.health import is_damage"),
        ("intake.discovery.scan", "from dna_pipeline.intake.claiming import claims"),
        ("intake.discovery.scan", "from dna_pipeline.ledger.store import Ledger"),
        ("execution.worker.runner", "from dna_pipeline.config.schema import Config"),
        ("config.loader", "from dna_pipeline.base.reachability import Look"),
        ("operations.daemon.loop", "import socket"),
        ("publish.outbox", "def f():\n    from urllib import request"),
        ("intake.service", "from http.server import HTTPServer"),
        ("providers.remote", "import httpx"),
        ("execution.scheduler", "import torch"),
        ("media.images", "import torch"),
        ("publish.outbox", "from subprocess import run"),
        ("intake.service", "import multiprocessing.pool"),
        ("base.files", "import pydantic"),
        ("operations.verify", "from pydantic import ValidationError"),
        ("stages.img2img.stage", "importlib.import_module('diffusers')"),
        ("config", "import dna_pipelines"),
        ("media", "import cv2"),
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
        ("base", "import os.path, sys"),
        ("ledger.store", "from dna_pipeline.ledger import health\nfrom sqlalchemy import select"),
        ("intake.service", "from dna_pipeline.intake.claiming import claims"),
        ("intake.claiming.batch", "from dna_pipeline.intake.claiming import claims"),
        ("execution.worker.device", "import torch"),
        ("weights.fetch", "import httpx, ssl\nfrom urllib import request"),
        ("operations.daemon.notifications", "import socket"),
        ("config.loader", "from dna_pipeline.base.naming import safe_name\nimport pydantic"),
        ("media.video", "import subprocess\nfrom PIL import Image"),
        ("ledger.sqlite", "from urllib.parse import quote"),
        ("providers", "import_module('diffusers.loaders')\nimport_module(name)"),
    ],
)
def test_a_right_import_is_passed_over(importer: str, source: str):
    assert faults(importer, source) == []


def test_every_dependency_is_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {re.split(r"[^\w-]", entry)[0].lower() for entry in project["dependencies"]}
    sources = [(ROOT / path).read_text(encoding="utf-8") for path in modules()]
    tops = {dotted.split(".")[0] for source in sources for _, dotted in imports(source)}
    distributions = packages_distributions()
    used = {
        name.lower().replace("_", "-")
        for top in tops
        for name in [top, *distributions.get(top, [])]
    }
    assert required - used == set(UNSEEN)


@pytest.mark.parametrize("room", INSIDE)
def test_every_part_of_an_ordered_room_has_a_place(room: str):
    parts = {Path(path.parts[2]).stem for path in modules() if path.parts[1] == room}
    assert parts - {"__init__"} == set(" ".join(INSIDE[room]).split())


def test_all_that_the_tables_name_is_there():
    """The notifier alone may still be missing."""
    tables = [*EXTERNAL.values(), *STANDARD.values(), *FORBIDDEN, *FORBIDDEN.values()]
    names = {place for entry in tables for place in entry.split()}
    paths = {name: ROOT / PACKAGE / name.replace(".", "/") for name in names}
    missing = {
        name
        for name, path in paths.items()
        if not path.is_dir() and not path.with_suffix(".py").is_file()
    }
    assert missing <= {"operations.daemon.notifications"}


def test_the_configuration_reads_its_file_and_looks_at_nothing_else():
    found = {
        path.stem: calls
        for path in modules()
        if path.parts[1] == "config"
        and (calls := disk_calls((ROOT / path).read_text(encoding="utf-8")))
    }
    assert [*found] == ["yaml12"]
    (call,) = found["yaml12"]
    assert call.endswith(": path.open")


@pytest.mark.parametrize(
    "source",
    [
        "os.path.realpath(folder)",
        "path.is_file()",
        "open(name)",
        "a.resolve()",
        "[p for p in folder.glob('*')]",
    ],
)
def test_a_look_at_the_disk_is_found(source: str):
    assert len(disk_calls(source)) == 1


WORKER = f"{PACKAGE}.execution.worker"
CLUSTER = f"{PACKAGE}.execution.cluster"
"""Started as processes of their own by these names: they load what the daemon must not."""


def imports_worker(source: str, place: str = WORKER) -> bool:
    return any(f"{dotted}.".startswith(f"{place}.") for _, dotted in imports(source))


@pytest.mark.parametrize("place", [WORKER, CLUSTER])
def test_nothing_but_a_process_of_its_own_imports_its_parts(place: str):
    own = tuple(place.split(".")[1:])
    others = [path for path in modules() if path.parts[1:3] != own]
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in others}
    assert [path for path, source in sources.items() if imports_worker(source, place)] == []


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
