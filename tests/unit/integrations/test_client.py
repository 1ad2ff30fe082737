"""`integrations/client.py` against folders as a daemon leaves them."""

import ast
import json
import math
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dna_pipeline.base.naming import safe_stem
from dna_pipeline.config.yaml12 import loads
from dna_pipeline.intake.discovery.mask_names import masks_of
from dna_pipeline.intake.discovery.scan import is_passed_over
from integrations import client as module
from integrations.client import Client, Drop, to_yaml

PID_OF_NOBODY = 2**22 + 1


def write_status(root: Path, *, age_s: float = 0.0, **facts: Any) -> None:
    written = datetime.now(UTC) - timedelta(seconds=age_s)
    told = {
        "written_at": written.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "daemon": {"pid": os.getpid(), "host": socket.gethostname()},
        "inboxes": [{"name": "mesh", "path": str(root / "in"), "pipeline": "mesh"}],
        "running": None, "queued": [], "holds": [], "waiting": [], "recent": [],
    }  # fmt: skip
    (root / "outbox/status.json").write_text(json.dumps(told | facts))


def publish(root: Path, drop: Drop, folder: str, token: str | None, **facts: Any) -> Path:
    path = root / "outbox/mesh" / folder
    path.mkdir(parents=True)
    account = {
        "job": {"id": "j", "meta": {} if token is None else {"client_token": token}},
        "input": {"name": drop.path.name, "sha256": drop.sha256},
    }  # fmt: skip
    name = "error.json" if "code" in facts else "manifest.json"
    (path / name).write_text(json.dumps(account | facts))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outbox").mkdir()
    (tmp_path / "in").mkdir()
    write_status(tmp_path)
    return tmp_path


@pytest.fixture
def client(root: Path) -> Client:
    return Client(root / "outbox")


@pytest.fixture
def drop(client: Client) -> Drop:
    return client.send("mesh", b"image", name="chair")


# --- sending ---

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9
    ), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.slow
@given(plain)
def test_the_daemon_reads_what_the_client_writes(value: Any):
    assert loads(to_yaml({"meta": value}).encode()).value == {"meta": value}


def test_what_yaml_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_yaml({"strength": math.nan})


def test_a_drop_is_an_image_and_its_sidecar(root: Path, client: Client):
    told = {"seed": 3, "meta": {"asset": "chair"}}
    drop = client.send("mesh", b"image", told, name="Stuhl: grün/1")
    assert {path.name for path in (root / "in").iterdir()} == {
        f"Stuhl_grün_1-{drop.token[:8]}.png", f"Stuhl_grün_1-{drop.token[:8]}.png.yaml",
    }  # fmt: skip
    assert drop.path.read_bytes() == b"image"
    sidecar = loads(drop.path.with_name(f"{drop.path.name}.yaml").read_bytes()).value
    assert sidecar == {"seed": 3, "meta": {"asset": "chair", "client_token": drop.token}}


@pytest.mark.parametrize("name", ["a.b", "..", " x ", "CON", "ü" * 200, "u\u0308", "テスト", "/"])
def test_the_daemon_leaves_the_name_as_it_is(client: Client, name: str):
    drop = client.send("mesh", b"image", name=name, unique=False)
    assert safe_stem(drop.path.name) == drop.path.stem
    assert not is_passed_over(drop.path.name)


def test_two_of_a_name_do_not_meet(root: Path, client: Client):
    for _ in range(2):
        client.send("mesh", b"image", name="chair")
    assert len(list((root / "in").iterdir())) == 4


def test_a_name_that_is_kept_is_replaced(root: Path, client: Client):
    for data in (b"old", b"new"):
        client.send("mesh", data, name="chair", unique=False)
    assert (root / "in/chair.png").read_bytes() == b"new"
    assert len(list((root / "in").iterdir())) == 2


def test_a_file_is_copied_with_its_suffix(root: Path, client: Client):
    (root / "lamp.jpg").write_bytes(b"jpeg")
    drop = client.send("mesh", root / "lamp.jpg")
    assert (drop.path.suffix, drop.path.read_bytes()) == (".jpg", b"jpeg")
    assert drop.path.name.startswith("lamp-")


def test_nothing_is_seen_before_it_is_whole(root: Path, client: Client):
    seen: list[Path] = []

    def save(path: Path) -> None:
        path.write_bytes(b"half")
        seen.extend((root / "in").iterdir())
        path.write_bytes(b"whole")

    drop = client.send("mesh", save, name="chair")
    assert len(seen) == 2
    assert all(is_passed_over(path.name) for path in seen)
    assert seen[0].suffix in (".png", ".yaml")
    assert drop.path.read_bytes() == b"whole"


def test_what_fails_leaves_nothing(root: Path, client: Client):
    def save(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("no camera")

    with pytest.raises(RuntimeError, match="no camera"):
        client.send("mesh", save)
    with pytest.raises(OSError):
        client.send("mesh", root / "none.png")
    with pytest.raises(FileNotFoundError):
        client.send("mesh", lambda path: None)
    with pytest.raises(LookupError, match="'mush'; there are: mesh"):
        client.send("mush", b"image")
    assert list((root / "in").iterdir()) == []


@pytest.mark.parametrize("before", [None, "seed: 1\n"])
def test_an_image_that_cannot_be_put_in_place_changes_nothing(
    root: Path, client: Client, before: str | None
):
    (root / "in/chair.png").mkdir()
    sidecar = root / "in/chair.png.yaml"
    if before is not None:
        sidecar.write_text(before)
    with pytest.raises(OSError):
        client.send("mesh", b"image", name="chair", unique=False)
    assert [path for path in (root / "in").iterdir() if path.is_file()] == [sidecar] * bool(before)
    assert before is None or sidecar.read_text() == before


def test_the_sidecar_is_there_first(client: Client, monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        order.append(target.suffix)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    client.send("mesh", b"image")
    assert order == [".yaml", ".png"]


def test_all_is_on_disk_before_it_is_seen(client: Client, monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd)))
    monkeypatch.setattr(Path, "replace", lambda a, b: (order.append("rename"), replace(a, b)))
    client.send("mesh", b"image")
    assert order == ["fsync", "fsync", "rename", "rename", "fsync"]


def test_the_folder_of_pipeline_yaml_will_do(root: Path):
    assert Client(root).inboxes() == {"mesh": root / "in"}


def test_an_inbox_may_be_elsewhere_here(root: Path):
    assert Client(root, {"mesh": "/mnt/in"}).inboxes() == {"mesh": Path("/mnt/in")}


# --- following ---


def entry(drop: Drop, **facts: Any) -> dict[str, Any]:
    return {"job": "j", "inbox": "mesh", "name": drop.path.name, **facts}


def test_a_file_that_lies_there_waits(root: Path, client: Client, drop: Drop):
    assert client.state(drop).kind == "waiting"
    waiting = [{"inbox": "mesh", "file": drop.path.name, "reason": "still being written"}]
    write_status(root, waiting=waiting)
    assert client.state(drop).text == "waiting: still being written"
    write_status(root, waiting=[{"inbox": "mesh", "file": None, "reason": "cannot be looked at"}])
    assert client.state(drop).why == "cannot be looked at"
    write_status(root, waiting=[{**waiting[0], "inbox": "other"}])
    assert client.state(drop).why == ""


def test_a_file_that_was_taken_is_queued(root: Path, client: Client, drop: Drop):
    drop.path.unlink()
    assert client.state(drop).kind == "queued"
    write_status(root, queued=[entry(drop, hold="hours", detail="until 22:00")])
    assert client.state(drop).text == "queued: until 22:00"
    write_status(
        root, queued=[entry(drop, hold=None, detail=None)],
        holds=[{"code": "paused", "detail": "paused since noon", "jobs": None}],
    )  # fmt: skip
    assert client.state(drop).why == "paused since noon"


def test_a_running_job_has_a_share_and_an_end(root: Path, client: Client, drop: Drop):
    running = {"stage": "triposr", "step": 3, "steps": 4, "fraction": 0.6, "eta_s": 12.3}
    write_status(root, running=entry(drop, **running))
    state = client.state(drop)
    assert (state.kind, state.fraction, state.eta_s) == ("running", 0.6, 12.3)
    assert state.text == "running 60%: triposr 3/4, about 12 s left"


def test_a_result_that_status_tells(root: Path, client: Client, drop: Drop):
    artifacts = [{"path": "chair.glb", "role": "mesh"}, {"path": "chair.png", "role": "image"}]
    folder = publish(root, drop, "elsewhere", drop.token, artifacts=artifacts)
    write_status(root, recent=[entry(drop, folder="mesh/elsewhere", status="completed")])
    state = client.state(drop)
    assert (state.kind, state.folder, state.fraction) == ("completed", folder, 1.0)
    assert state.paths("mesh") == [folder / "chair.glb"]
    assert state.manifest["job"]["id"] == "j"


@pytest.mark.parametrize("folder", ["{}-12345678", "batch: {}-12345678"])
def test_a_result_that_status_forgot(root: Path, client: Client, drop: Drop, folder: str):
    stem = drop.path.stem
    name = f"{stem}-ba7c4000/{stem}-12345678" if "batch" in folder else folder.format(stem)
    assert client.state(drop).kind == "waiting"
    publish(root, drop, name, drop.token)
    assert client.state(drop).kind == "completed"


def test_a_failure(root: Path, client: Client, drop: Drop):
    error = {"code": "image_unreadable", "message": "Not an image."}
    publish(root, drop, f"failed/{drop.path.stem}-1", drop.token, **error)
    state = client.state(drop)
    assert (state.kind, state.is_over) == ("failed", True)
    assert state.text == "failed: image_unreadable: Not an image."


def test_a_job_that_was_cancelled_while_it_waited(root: Path, client: Client, drop: Drop):
    error = {"code": "cancelled", "message": "It was cancelled."}
    publish(root, drop, f"cancelled/{drop.path.stem}-1", drop.token, **error)
    assert client.state(drop).text == "failed: cancelled: It was cancelled."


def test_a_row_that_was_cancelled_while_it_waited(root: Path, client: Client, drop: Drop):
    error = {"code": "cancelled", "message": "It was cancelled."}
    stem = drop.path.stem
    folder = publish(root, drop, f"{stem}-1/cancelled", drop.token, **error)
    (folder / "error.json").rename(folder / f"{stem}-2.json")
    state = client.state(drop)
    assert (state.text, state.folder) == ("failed: cancelled: It was cancelled.", folder)


def test_a_failure_whose_sidecar_could_not_be_read(root: Path, client: Client, drop: Drop):
    error = {"code": "sidecar_invalid", "message": "Mend it."}
    publish(root, drop, f"failed/{drop.path.stem}-1", None, **error)
    assert client.state(drop).error["code"] == "sidecar_invalid"


def test_the_results_of_others_are_not_taken(root: Path, client: Client):
    drop = client.send("mesh", b"image", name="chair", unique=False)
    publish(root, drop, "chair-1", "another")
    old = publish(root, drop, "failed/chair-2", None, code="sidecar_invalid", message="")
    os.utime(old, (drop.sent_at - 3600, drop.sent_at - 3600))
    write_status(root, recent=[entry(drop, folder="mesh/chair-1", status="completed")])
    assert client.state(drop).kind == "waiting"


def test_a_newer_drop_of_the_name_takes_the_place(client: Client):
    old, new = (client.send("mesh", b"image", name="chair", unique=False) for _ in range(2))
    assert client.state(old).error["code"] == "replaced"
    assert client.state(new).kind == "waiting"


def test_the_page_of_a_job(root: Path, client: Client, drop: Drop):
    entry = {"job": "1a2b", "inbox": "mesh", "name": drop.path.name, "hold": None, "detail": None}
    write_status(root, queued=[entry], page="http://studio:8000")
    state = client.state(drop)
    assert (state.kind, client.page(state)) == ("queued", "http://studio:8000/results/1a2b")
    write_status(root, queued=[entry], page=None)
    assert client.page(state) is None
    write_status(root, page="http://studio:8000")
    assert client.page(client.state(drop)) is None
    publish(root, drop, f"{drop.path.stem}-1", drop.token)
    assert client.page(client.state(drop)) == "http://studio:8000/results/j"


def test_waiting_for_the_end(root: Path, client: Client, drop: Drop):
    told: list[str] = []
    with pytest.raises(TimeoutError, match="waiting"):
        client.wait(drop, 0.05, lambda state: told.append(state.kind), 0.01)
    assert told == ["waiting"]
    publish(root, drop, f"{drop.path.stem}-1", drop.token)
    assert client.wait(drop, 5).kind == "completed"


def test_latest(root: Path, client: Client):
    assert client.latest("mesh", "chair") is None
    (root / "outbox/mesh/latest").mkdir(parents=True)
    (root / "outbox/mesh/latest/chair.glb").touch()
    assert client.latest("mesh", "chair") == root / "outbox/mesh/latest/chair.glb"
    assert client.latest("mesh", "chair", ".png") is None


def test_latest_of_two_with_one_stem(root: Path, client: Client):
    folder = root / "outbox/mesh/latest"
    folder.mkdir(parents=True)
    for name in ("chair.glb", "chair.jpg.glb"):
        (folder / name).touch()
    assert client.latest("mesh", "chair", name="chair.jpg") == folder / "chair.jpg.glb"
    assert client.latest("mesh", "chair", name="chair.png") == folder / "chair.glb"
    assert client.latest("mesh", "chair") == folder / "chair.glb"


# --- the daemon ---


@pytest.mark.parametrize(
    ("age_s", "daemon", "alive"),
    [
        (0, {}, True),
        (30, {}, True),
        (90, {}, False),
        (0, {"pid": PID_OF_NOBODY}, True),
        (30, {"pid": PID_OF_NOBODY}, False),
        (30, {"pid": PID_OF_NOBODY, "host": "another"}, True),
        (0, None, False),
    ],
)
def test_whether_a_daemon_runs(root: Path, client: Client, age_s: float, daemon: Any, alive: bool):
    here = {"pid": os.getpid(), "host": socket.gethostname()}
    write_status(root, age_s=age_s, daemon=None if daemon is None else here | daemon)
    assert client.is_alive() == alive


def test_clocks_may_differ(root: Path, client: Client):
    write_status(root, age_s=4000)
    assert not client.is_alive()
    write_status(root, age_s=3999)
    assert client.is_alive()


def test_without_a_daemon_all_waits(root: Path, drop: Drop):
    running = {"stage": "triposr", "step": 3, "steps": 4, "fraction": 0.6, "eta_s": 12.3}
    write_status(root, age_s=90, running=entry(drop, **running))
    assert Client(root).state(drop).text == "waiting: no daemon runs"


def test_a_status_that_is_being_replaced(root: Path, client: Client):
    before = client.status()
    (root / "outbox/status.json").write_text("{")
    assert client.status() == before
    assert Client(root / "nowhere").status() == {}
    assert not Client(root / "nowhere").is_alive()


def test_older_interpreters_can_read_it():
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert ast.parse(source, feature_version=(3, 9))


@pytest.mark.slow
def test_it_needs_nothing_else():
    import sys

    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    names = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize("kind", ["bytes", "file", "function"])
def test_a_mask_is_sent_before_its_image(root: Path, client: Client, kind: str) -> None:
    (root / "round.tif").write_bytes(b"a mask")
    masks = {
        "bytes": b"a mask", "file": root / "round.tif",
        "function": lambda path: Path(path).write_bytes(b"a mask"),
    }  # fmt: skip
    drop = client.send("mesh", b"an image", {"img2img": {"seed": 1}}, mask=masks[kind])
    ending = "tif" if kind == "file" else "png"
    names = [f"{drop.path.name}{end}" for end in ("", f".mask.{ending}", ".yaml")]
    assert sorted(path.name for path in (root / "in").iterdir()) == sorted(names)
    assert drop.path.with_name(names[1]).read_bytes() == b"a mask"
    times = [drop.path.with_name(name).stat().st_ctime_ns for name in names]
    assert times[1] <= times[2] <= times[0]


def test_no_mask_is_left_where_an_image_cannot_be_sent(root: Path, client: Client) -> None:
    def fail(path: Path) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        client.send("mesh", fail, mask=b"a mask")
    assert list((root / "in").iterdir()) == []


def test_masks_of_the_client_belong_to_their_images(root: Path, client: Client) -> None:
    drop = client.send("mesh", b"an image", mask=b"a mask", unique=False, name="a.b")
    names = [path.name for path in (root / "in").iterdir() if path.suffix != ".yaml"]
    assert masks_of(names).mask_of == {drop.path.name: f"{drop.path.name}.mask.png"}
