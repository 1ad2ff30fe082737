"""`integrations/client.py` over HTTP: with the real application, a real daemon, and bad lines."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from PIL import Image

from dna_pipeline.config.loader import load_config
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.stages import registry
from integrations import client as module
from integrations.client import Client, Drop, ServerClient, ServerError, State
from tests import fork_server
from tests.conftest import SCRIPTS, load_script
from tests.losses import ANSWER, PART, REQUEST, LossyRelay, lossy
from tests.web import server_of

stand_in = load_script("stand_in")

CONFIG = """\
version: 1
pipelines:
  quick: [{stand_in: {}}]
  slow: [{stand_in: {seconds: 8}}]
inboxes:
  - {path: in/archive, pipeline: quick}
  - {path: in/kept, name: keeper, pipeline: quick, originals: keep, latest: true}
"""
TIMEOUT_S = 120
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studio")
    (root / "pipeline.yaml").write_text(CONFIG)
    for name in ("archive", "kept"):
        (root / "in" / name).mkdir(parents=True)
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._import_strings()["stages"], "stand_in", "stand_in:StandIn")
        with server_of(load_config(root / "pipeline.yaml", {})) as address:
            yield address


@pytest.fixture(scope="module")
def daemon(root: Path, server: str) -> Iterator[None]:
    daemon = fork_server.logged(
        fork_server.light(), root / "log", "stand_in", "pipeline.yaml",
        cwd=root, env=stand_in.environment(SCRIPTS),
    )  # fmt: skip
    client = Client(server)
    try:
        until = time.monotonic() + TIMEOUT_S
        while not client.is_alive():
            assert daemon.poll() is None, (root / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)
        yield
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0


@pytest.fixture
def client(server: str, daemon: None, tmp_path: Path) -> ServerClient:
    client = Client(server, folder=tmp_path / "results", waits_s=(0.01, 0.01, 0.01))
    assert isinstance(client, ServerClient)
    return client


@pytest.fixture
def relay(server: str, daemon: None) -> Iterator[LossyRelay]:
    with lossy(server) as relay:
        yield relay


@pytest.fixture
def lossy_client(relay: LossyRelay, tmp_path: Path) -> Client:
    return Client(relay.address, folder=tmp_path / "results", waits_s=(0.01, 0.01, 0.01))


def picture(color: str = "red") -> Callable[[Path], None]:
    return lambda path: Image.new("RGB", (48, 48), color).save(path)


def jobs_of(root: Path, drop: Drop) -> int:
    queries = Queries(root / "data/ledger.db")
    rows = queries.page(inbox=drop.inbox, stem=drop.path.stem, limit=10)
    queries.close()
    return len(rows)


def test_from_a_picture_to_its_result(root: Path, client: ServerClient, tmp_path: Path):
    assert list(client.inboxes()) == ["archive", "keeper"]
    told: list[State] = []
    drop = client.send("archive", picture(), {"tags": ["a"], "meta": {"shot": 7}}, name="a chair")
    assert drop.path.name.startswith("a_chair-")
    state = client.wait(drop, TIMEOUT_S, told.append)
    assert state.kind == "completed"
    assert state.text.startswith("completed: a_chair-")
    assert state.manifest["job"]["meta"] == {"shot": 7, "client_token": drop.token}
    (path,) = state.paths("image")
    assert path.parent == state.folder
    assert path.is_relative_to(tmp_path / "results")
    ours = (root / "outbox/archive").glob(f"*/{path.name}")
    assert path.read_bytes() == next(ours).read_bytes()
    assert told[-1] == state
    assert not list((root / "in").rglob("*.png"))
    found = client.find_result(drop)
    assert found == state


@pytest.mark.parametrize("kind", ["path", "bytes"])
def test_what_is_sent(client: ServerClient, tmp_path: Path, kind: str):
    picture()(tmp_path / "ünï.png")
    image = tmp_path / "ünï.png" if kind == "path" else (tmp_path / "ünï.png").read_bytes()
    drop = client.send("archive", image)
    assert drop.sha256 == hashlib.sha256((tmp_path / "ünï.png").read_bytes()).hexdigest()
    assert drop.path.stem.startswith("ünï-" if kind == "path" else "image-")
    assert client.wait(drop, TIMEOUT_S).kind == "completed"


def test_a_mask_is_sent_along(client: ServerClient):
    drop = client.send(
        "archive", picture(), {"stand_in": {"mask": "file"}}, mask=picture("white")
    )  # fmt: skip
    assert client.wait(drop, TIMEOUT_S).kind == "completed"


def test_a_failure_says_why(client: ServerClient):
    drop = client.send("archive", picture(), {"stand_in": {"fails": True}})
    state = client.wait(drop, TIMEOUT_S)
    assert (state.kind, state.error["code"]) == ("failed", "empty_foreground")
    assert state.text.startswith("failed: empty_foreground: Nothing is left")


def test_a_running_job_is_cancelled(client: ServerClient):
    drop = client.send("archive", picture(), {"pipeline": "slow"})
    until = time.monotonic() + TIMEOUT_S
    while client.state(drop).kind != "running":
        assert time.monotonic() < until
        time.sleep(0.05)
    client.cancel(drop)
    state = client.wait(drop, TIMEOUT_S)
    assert (state.kind, state.error["code"]) == ("failed", "cancelled")
    client.cancel(drop)  # has ended


def test_a_matrix_is_followed_to_the_first_end(client: ServerClient):
    drop = client.send("archive", picture(), {"matrix": {"stand_in.seconds": [0.0, 0.1]}})
    assert len(drop.jobs) == 2
    assert client.wait(drop, TIMEOUT_S).kind == "completed"


def test_the_newest_result_of_a_name(client: ServerClient):
    assert client.latest("keeper", "tower", ".png") is None
    for color in ("red", "blue"):
        drop = client.send("keeper", picture(color), name="tower", unique=False)
        assert client.wait(drop, TIMEOUT_S).kind == "completed"
    path = client.latest("keeper", "tower", ".png", name="tower.png")
    assert path is not None
    assert Image.open(path).convert("RGB").getpixel((0, 0)) == (0, 0, 255)
    assert client.latest("keeper", "tower", ".png", name="tower.jpg") is None


def test_what_is_wrong_is_said(client: ServerClient):
    with pytest.raises(LookupError, match="no inbox is called 'other'"):
        client.send("other", picture())
    with pytest.raises(ServerError, match="image_unreadable") as caught:
        client.send("archive", b"no picture")
    assert caught.value.code == "image_unreadable"
    with pytest.raises(ServerError, match="sidecar_invalid"):
        client.send("archive", picture(), {"stand_in": {"second": 1}})


def test_a_drop_that_the_server_does_not_know(client: ServerClient):
    drop = Drop("archive", Path("x.png"), "0123456789abcdef", "", 0.0)
    assert client.state(drop).kind == "waiting"
    assert client.find_result(drop) is None


# --- lines that are cut ---


@pytest.mark.parametrize("losses", [[REQUEST], [ANSWER], [ANSWER, ANSWER], [REQUEST, ANSWER]])
def test_a_drop_comes_once_over_a_bad_line(
    root: Path, relay: LossyRelay, lossy_client: Client, losses: list[str]
):
    relay.losses[:] = losses
    drop = lossy_client.send("archive", picture(), name="once")
    assert relay.losses == []
    assert jobs_of(root, drop) == 1
    assert lossy_client.wait(drop, TIMEOUT_S).kind == "completed"


def test_a_download_goes_on_where_it_was(
    relay: LossyRelay, lossy_client: Client, client: ServerClient, tmp_path: Path
):
    noise = Image.effect_noise((400, 400), 90)
    drop = client.send("archive", lambda path: noise.save(path), name="large")
    client.wait(drop, TIMEOUT_S)
    state = lossy_client.state(drop)
    relay.part_bytes = 50_000
    relay.losses[:] = [PART, PART]
    (path,) = state.paths("image")
    (entry,) = [file for file in state.manifest["artifacts"] if file["role"] == "image"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    assert relay.losses == []
    assert not list(tmp_path.rglob("*.part"))


def test_a_line_that_stays_bad(relay: LossyRelay, lossy_client: Client, tmp_path: Path):
    relay.losses[:] = [ANSWER] * 20
    with pytest.raises(OSError):
        lossy_client.send("archive", picture())
    relay.close()
    with pytest.raises(OSError):
        lossy_client.status()
    assert not lossy_client.is_alive()


def test_a_wait_outlasts_a_server_that_is_away(
    client: ServerClient, monkeypatch: pytest.MonkeyPatch
):
    drop = client.send("archive", picture())
    real, failures = ServerClient.state, [ConnectionRefusedError("away")] * 3
    texts: list[str] = []

    def state(self: ServerClient, drop: Drop) -> State:
        if failures:
            raise failures.pop()
        return real(self, drop)

    monkeypatch.setattr(ServerClient, "state", state)
    done = client.wait(drop, TIMEOUT_S, lambda each: texts.append(each.text), poll_s=0.01)
    assert done.kind == "completed"
    assert texts[0] == "waiting: the server does not answer: away"


# --- certificates ---


def test_a_certificate_of_the_office(root: Path, tmp_path: Path):
    make_certificate(tmp_path)
    options = {
        "ssl_certfile": str(tmp_path / "server.pem"), "ssl_keyfile": str(tmp_path / "server.key"),
    }  # fmt: skip
    with server_of(load_config(root / "pipeline.yaml", {}), **options) as address:
        assert Client(address, cafile=tmp_path / "server.pem").status()["inboxes"]
        stranger = Client(address, waits_s=(100, 100))
        with pytest.raises(ssl.SSLCertVerificationError):  # at once, since waiting mends nothing
            stranger.status()
        drop = Drop("archive", Path("x.png"), "0123456789abcdef", "", 0.0)
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.wait(drop)


def make_certificate(folder: Path) -> None:
    """Write a certificate for 127.0.0.1 that nobody vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "studio")])
    begin = datetime.datetime(2026, 1, 1)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=36500))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "server.pem").write_bytes(certificate.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    (folder / "server.key").write_bytes(private)


# --- what servers should not send ---


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "", "a//b"])
def test_a_file_name_is_no_way_out(client: ServerClient, tmp_path: Path, path: str):
    entry = {"path": path, "url": "/api/v1/jobs/x/files/x", "sha256": None}
    with pytest.raises(OSError, match="is no name of a file"):
        client.download(entry, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_folders_take_no_token(tmp_path: Path):
    with pytest.raises(ValueError, match="for the address of a server"):
        Client(tmp_path, token="secret")


def test_another_program_at_that_address(monkeypatch: pytest.MonkeyPatch):
    class Other(module.ServerClient):
        def _open(self, *args: Any, **keys: Any) -> Any:
            raise ServerError({"message": "host answers 404."})

    with pytest.raises(ServerError, match="host answers 404"):
        Other("http://127.0.0.1:1").status()
