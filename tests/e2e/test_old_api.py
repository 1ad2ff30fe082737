"""The old API with the real server, daemon and worker, and small models."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from PIL import Image

from tests import fork_server
from tests.e2e.conftest import Studio, photograph, product_shot
from tests.old_client import OldClient, multipart

pytestmark = pytest.mark.slow


def as_png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


class Server:
    """`dna-pipeline serve` on one port, over several lives."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.client = OldClient(f"http://127.0.0.1:{self.port}")

    def start(self) -> None:
        self.process = fork_server.logged(
            self.studio.server(), self.studio.root / "serve.log", "dna_pipeline", "serve",
            "--port", str(self.port), cwd=self.studio.root, env=None,
        )  # fmt: skip
        self.studio.wait(self._answers, 60)

    def _answers(self) -> bool:
        try:
            return self.client.get("/api/health").status == 200
        except OSError:
            return False

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


def picture_in(url: str) -> Image.Image:
    head, _, text = url.partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_every_endpoint(studio: Studio):
    cat, thing = as_png(photograph("chelsea", 120)), as_png(product_shot(128))
    with server_of(studio) as server, studio.watch():
        client = server.client
        studio.wait(lambda: client.get("/api/health").json["model_loaded"])
        loaded = client.json("/api/model/load", {"model_path": "sd15"})
        assert loaded.status == 200, loaded.body
        assert loaded.json["device"] == "cpu"
        loaded = client.request("POST", "/api/triposr/load?chunk_size=4096")
        assert loaded.status == 200, loaded.body

        fields = {"positive_prompt": "a fox", "seed": 5, "steps": 4, "denoise": 0.5}
        answer = client.form("/api/img2img", fields, image=cat)
        assert answer.status == 200, answer.body[:500]
        body = answer.json
        picture = picture_in(body["image"])
        assert picture.size == (body["width"], body["height"])
        assert (body["width"] % 8, body["height"] % 8) == (0, 0)
        assert body["seed"] == 5
        file = client.get(body["output_path"])
        assert file.body == base64.b64decode(body["image"].partition(",")[2])

        same = client.form(
            "/api/img2img/base64", {**fields, "image": base64.b64encode(cat).decode()}
        ).json
        assert picture_in(same["image"]).tobytes() == picture.tobytes()

        events = client.stream("/api/img2img/stream", fields, image=cat)
        assert [name for name, _ in events][-1] == "complete"
        assert "progress" in [name for name, _ in events]
        assert picture_in(events[-1][1]["image"]).tobytes() == picture.tobytes()

        shape = {"mc_resolution": 32, "render_video": "true", "render_n_views": 4,
                 "render_resolution": 64}  # fmt: skip
        mesh = client.form("/api/triposr", shape, image=thing)
        assert mesh.status == 200, mesh.body[:500]
        glb = client.get(mesh.json["mesh_url"]).body
        assert struct.unpack("<4sII", glb[:12]) == (b"glTF", 2, len(glb))
        assert client.get(mesh.json["preview_url"]).body.startswith(b"\x89PNG")
        assert client.get(mesh.json["video_url"]).body[4:8] == b"ftyp"
        assert mesh.json["vertices"] > 0

        whole = client.form("/api/triposr", {"remove_background": "false"}, image=thing)
        assert whole.status == 200, whole.body[:500]

        job = client.form("/api/jobs/img2img", fields, image=cat).json["job_id"]
        names = [name for name, _ in client.events(f"/api/jobs/{job}/events")]
        assert (names[0], names[-1]) == ("queued", "completed")
        done = client.get(f"/api/jobs/{job}").json
        assert picture_in(done["result"]["image"]).tobytes() == picture.tobytes()
        chunks = {job["pipeline"]: studio.facts("show", job["id"]) for job in studio.jobs()}
        assert chunks["mesh"]["stages"][-1]["params"]["chunk_size"] == 4096


class Requests:
    """Sends requests that wait for their jobs, and keeps the answers or what went wrong."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._cat = as_png(photograph("chelsea", 96))
        self.answers: list[Any] = []

    def form(self, number: int) -> tuple[bytes, str]:
        # Each its own seed: a result that is taken over leaves no time to kill anything.
        return multipart({"steps": 8, "seed": number}, {"image": self._cat})

    def start(self, number: int) -> threading.Thread:
        thread = threading.Thread(target=self._ask, args=self.form(number))
        thread.start()
        return thread

    def _ask(self, body: bytes, kind: str) -> None:
        try:
            headers = {"Content-Type": kind}
            answer = self._server.client.request("POST", "/api/img2img", body, headers)
            self.answers.append(answer.status)
        except OSError as error:
            self.answers.append(error)

    def connect(self, number: int) -> socket.socket:
        """Send a whole request; the caller is to hang up."""
        body, kind = self.form(number)
        connection = socket.create_connection(("127.0.0.1", self._server.port))
        head = (
            f"POST /api/img2img HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        return connection


def test_kills_of_server_daemon_and_client(studio: Studio):
    """Each request makes one job, which is done once, whoever was killed meanwhile."""
    accepted, starts = 0, 1
    with server_of(studio) as server:
        requests = Requests(server)
        daemon = studio.start()

        def daemon_is_seen() -> bool:
            # Without a daemon, a request that waits is refused and makes no job.
            started = (studio.root / "watch.log").read_text().count("daemon.started")
            return started == starts and server.client.get("/api/health").json["daemon"]

        for victim in ("server", "daemon", "client", "server", "daemon", "both"):
            studio.wait(daemon_is_seen)
            accepted += 1
            if victim == "client":
                with requests.connect(accepted):
                    studio.wait(lambda n=accepted: len(studio.jobs()) == n)
                continue
            thread = requests.start(accepted)
            studio.wait(lambda n=accepted: len(studio.jobs()) == n or requests.answers[n:])
            if victim in ("daemon", "both"):
                studio.wait(lambda: studio.jobs()[0]["status"] != "queued")
                daemon.kill()
                daemon.wait(30)
            if victim in ("server", "both"):
                server.kill()
                server.start()
            if victim in ("daemon", "both"):
                daemon = studio.start()
                starts += 1
            thread.join()
        jobs = studio.ended(accepted)
        assert [job["status"] for job in jobs] == ["completed"] * accepted
        assert len(jobs) == accepted
        daemon.terminate()
        assert daemon.wait(60) == 0
    # Only requests whose server was killed got no answer.
    assert [answer for answer in requests.answers if answer == 200] == [200, 200]
    assert sum(isinstance(answer, OSError) for answer in requests.answers) == 3
    assert len(list(studio.outbox.glob("submit/*/manifest.json"))) == accepted
    assert studio.leftovers() == []
    for job in jobs:
        lines = studio.cli("events", job["id"], "--json").stdout.splitlines()
        assert [json.loads(line)["kind"] for line in lines].count("completed") == 1
