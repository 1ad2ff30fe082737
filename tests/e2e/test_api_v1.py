"""`/api/v1` by the client, with the real server, daemon and worker, and small models."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trimesh
from PIL import Image

from integrations.client import Client, State
from tests import fork_server
from tests.e2e.conftest import Studio, photograph, product_shot

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-24-characters"


def as_png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


class Server:
    """`dna-pipeline serve` with a token, on one port, over several lives."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        (studio.root / "token").write_text(TOKEN)

    def client(self, token: str = TOKEN) -> Client:
        return Client(self.address, token=token, folder=self.studio.root / "downloads")

    def start(self) -> None:
        self.process = fork_server.logged(
            self.studio.server(), self.studio.root / "serve.log", "dna_pipeline", "serve",
            "--port", str(self.port), "--token-file", "token", cwd=self.studio.root, env=None,
        )  # fmt: skip
        self.studio.wait(self._answers, 60)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)


@contextmanager
def server_of(studio: Studio) -> Iterator[Server]:
    server = Server(studio)
    server.start()
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(60)


def test_from_another_machine_to_a_mesh(studio: Studio):
    """All that the client does, with a token and without a shared folder."""
    with server_of(studio) as server, studio.watch():
        client = server.client()
        studio.wait(client.is_alive)
        assert list(client.inboxes()) == ["restyle", "mesh", "kept"]
        told: list[State] = []
        drop = client.send("mesh", as_png(product_shot(128)), {"tags": ["hero"]}, name="vase")
        state = client.wait(drop, 240, told.append)
        assert state.kind == "completed", state.text
        assert state.manifest["job"]["tags"] == ["hero"]
        assert any(0 < each.fraction < 1 for each in told)
        (glb,) = state.paths("mesh")
        (entry,) = [each for each in state.manifest["artifacts"] if each["role"] == "mesh"]
        mesh = trimesh.load(glb, force="mesh", process=False)
        assert len(mesh.vertices) == entry["vertices"]
        assert state.paths("preview")[0].read_bytes().startswith(b"\x89PNG")
        assert not list((studio.root / "inbox").rglob("*.png"))

        sidecar = {"matrix": {"img2img.strength": [0.3, 0.5]}, "img2img": {"prompt": "a fox"}}
        batch = client.send("restyle", as_png(photograph("chelsea", 120)), sidecar)
        assert len(batch.jobs) == 2
        assert client.wait(batch, 240).kind == "completed"

        with pytest.raises(PermissionError):
            server.client("another-token-of-24-letters").status()


def test_nothing_is_lost_or_doubled_where_the_server_is_killed(studio: Studio):
    with server_of(studio) as server, studio.watch():
        client = server.client()
        studio.wait(client.is_alive)
        drop = client.send("restyle", as_png(photograph("coffee", 120)))
        states: list[State] = []
        waiting = threading.Thread(target=lambda: states.append(client.wait(drop, 240)))
        waiting.start()
        server.kill()
        studio.wait(lambda: studio.jobs()[0]["status"] == "completed")
        server.start()
        waiting.join(120)
        (state,) = states
        assert state.kind == "completed", state.text
        (picture,) = state.paths("image")
        (ours,) = (studio.outbox / "restyle").glob("*/manifest.json")
        assert json.loads(ours.read_bytes())["job"]["id"] == drop.jobs[0]
        assert picture.read_bytes() == Path(ours.parent, picture.name).read_bytes()
        assert len(studio.jobs()) == 1
    assert studio.leftovers() == []
