"""A hub of models and a release page on this machine, with the faults of real ones."""

from __future__ import annotations

import hashlib
import json
import random
import re
import ssl
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

SD_REPOSITORY = "somebody/sd"
TRIPOSR_REPOSITORY = "somebody/triposr"
REMBG = "somebody/rembg"
REVISION = "0123456789abcdef0123456789abcdef01234567"

SMALL = {
    "model_index.json": json.dumps(
        {
            "_class_name": "StableDiffusionPipeline",
            "feature_extractor": ["transformers", "CLIPImageProcessor"],
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "scheduler": ["diffusers", "PNDMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        }
    ).encode(),
    "feature_extractor/preprocessor_config.json": b'{"f": 1}',
    "scheduler/scheduler_config.json": b'{"s": 1}',
    "text_encoder/config.json": b'{"t": 1}',
    "tokenizer/merges.txt": "merges é 猫\n".encode(),
    "tokenizer/special_tokens_map.json": b'{"p": 1}',
    "tokenizer/tokenizer_config.json": b'{"k": 1}',
    "tokenizer/vocab.json": b'{"v": 1}',
    "unet/config.json": b'{"u": 1}',
    "vae/config.json": b'{"a": 1}',
}
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
HALF = {
    UNET: 900_000,
    "vae/diffusion_pytorch_model.fp16.safetensors": 200_000,
    "text_encoder/model.fp16.safetensors": 300_000,
}
CHECKER = "safety_checker/model.fp16.safetensors"


def noise(name: str, number: int) -> bytes:
    return random.Random(name).randbytes(number)


def sd_files() -> dict[str, bytes]:
    """The files of the repository that stands for Stable Diffusion's."""
    half = {name: noise(name, number) for name, number in HALF.items()}
    full = {name.replace(".fp16", ""): noise(f"full {name}", 2 * n) for name, n in HALF.items()}
    checker = {CHECKER: noise(CHECKER, 70_000), "safety_checker/config.json": b'{"c": 1}'}
    return {**SMALL, **half, **full, **checker, "v1-5-fp16.safetensors": noise("one", 500_000)}


TRIPOSR = {"config.yaml": b"radius: 0.87\n", "model.ckpt": noise("ckpt", 400_000)}


def network(name: str, number: int) -> bytes:
    """An ONNX file of noise, of that many bytes (from 16,400 to two millions)."""
    length = number - 6
    size = bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14])
    return b"\x08\x07\x3a" + size + noise(name, length)


RELEASED = {"u2net.onnx": network("u2net", 150_000)}


@dataclass
class Answer:
    """What the server does with one request.

    Attributes:
        body: in place of the file's bytes.
        cut_after: bytes after which the connection is cut.
        gate: waited for, after `cut_after` bytes, before the rest is sent.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut_after: int | None = None
    gate: threading.Event | None = None
    ignores_ranges: bool = False
    hides_length: bool = False


@dataclass(frozen=True)
class Request:
    path: str
    range: str | None
    authorization: str | None
    host: str


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that a pull ended, by a kill for instance."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Hub:
    """An HTTP server with the files; it answers as `answers` say, each for one request."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.requests: list[Request] = []
        self.answers: defaultdict[str, list[Answer]] = defaultdict(list)
        self.always = Answer()
        self._scheme = "http"
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def encrypt(self, certificate: Path) -> None:
        """Speak TLS from now on, with the certificate and key of that file."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._scheme = "https"

    @property
    def env(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.url, "DNA_GITHUB_ENDPOINT": self.url, "NO_PROXY": "*"}

    def ranges(self, ending: str) -> list[str | None]:
        """The `Range` of each request for a file whose path ends so."""
        return [request.range for request in self.requests if request.path.endswith(ending)]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(handler.path)
        wanted = handler.headers.get("Range")
        authorization = handler.headers.get("Authorization")
        self.requests.append(Request(path, wanted, authorization, handler.headers["Host"]))
        queue = next((q for end, q in self.answers.items() if path.endswith(end) and q), [])
        answer = queue.pop(0) if queue else self.always
        body = self.files.get(path) if answer.body is None else answer.body
        if body is None:
            answer, body = Answer(404), b""
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        begin = int(match[1]) if match and not answer.ignores_ranges else 0
        status = answer.status if answer.status != 200 or not begin else 206
        if begin >= len(body) > 0:
            status, body, begin = 416, b"", 0
        handler.send_response(status)
        if status == 206:
            handler.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        if answer.hides_length:
            handler.send_header("Connection", "close")
            handler.close_connection = True
        else:
            handler.send_header("Content-Length", str(len(body) - begin if status < 300 else 0))
        handler.end_headers()
        if status < 300:
            self._send(handler, body[begin:], answer)

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes, answer: Answer) -> None:
        try:
            handler.wfile.write(body[: answer.cut_after])
            handler.wfile.flush()
            if answer.gate is not None:
                answer.gate.wait(60)
            if answer.cut_after is None:
                return
            if answer.gate is not None:
                handler.wfile.write(body[answer.cut_after :])
            else:
                handler.close_connection = True
        except OSError:
            handler.close_connection = True


class Silent:
    """A `Progress` that shows nothing."""

    def begin(self, total_bytes: int) -> None: ...

    def show_file(self, name: str) -> None: ...

    def advance(self, number: int) -> None: ...

    def resume(self, number: int) -> None: ...

    def remark(self, text: str) -> None: ...


def _entry(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def pins_document() -> dict[str, Any]:
    """A list of models of the form of pins.json, for the files of this hub."""
    sd = sd_files()
    half, full = [*HALF], [name.replace(".fp16", "") for name in HALF]
    checker = {"safety_checker": ["safety_checker/config.json", CHECKER]}

    def source(files: dict[str, bytes], licence: str, **where: str) -> dict[str, Any]:
        listed = {name: _entry(data) for name, data in files.items()}
        return {**where, "licence": licence, "files": listed}

    def folder(name: str, files: list[str], **more: Any) -> dict[str, Any]:
        return {"name": name, "title": name, "provider": "diffusers", "source": "sd",
                "target": "models/sd-v1-5-local", "files": [*SMALL, *files],
                "optional": checker, **more}  # fmt: skip

    return {
        "sources": {
            "sd": source(sd, "OpenRAIL", hub=SD_REPOSITORY, revision=REVISION),
            "triposr": source(TRIPOSR, "MIT", hub=TRIPOSR_REPOSITORY, revision=REVISION),
            "rembg": source(RELEASED, "Apache-2.0", release=REMBG, tag="v0"),
        },
        "models": [
            folder("sd15", half, full="sd15-full", aliases=["sdv15local"]),
            folder("sd15-full", full),
            {"name": "sd15-file", "title": "one file", "provider": "diffusers", "source": "sd",
             "target": "models/v1-5-fp16.safetensors", "file": "v1-5-fp16.safetensors"},
            {"name": "clip-tokenizer", "title": "words", "provider": "diffusers", "source": "sd",
             "folder": "tokenizer", "target": "models/clip-tokenizer",
             "files": ["merges.txt", "vocab.json"]},
            {"name": "triposr", "title": "meshes", "provider": "triposr", "source": "triposr",
             "target": "models/triposr-base", "aliases": ["triposrbase"], "files": [*TRIPOSR]},
            {"name": "u2net", "title": "cut-outs", "provider": "rembg", "source": "rembg",
             "target": "models/u2net.onnx", "file": "u2net.onnx", "note": "a note"},
        ],
    }  # fmt: skip


def hub_files() -> dict[str, bytes]:
    """All files by their paths on the server."""
    repositories = {SD_REPOSITORY: sd_files(), TRIPOSR_REPOSITORY: TRIPOSR}
    on_hub = {
        f"/{repository}/resolve/{REVISION}/{name}": data
        for repository, files in repositories.items()
        for name, data in files.items()
    }
    released = {f"/{REMBG}/releases/download/v0/{n}": data for n, data in RELEASED.items()}
    return on_hub | released


@contextmanager
def running_hub(files: dict[str, bytes] | None = None) -> Iterator[Hub]:
    with Hub(hub_files() if files is None else files) as hub:
        yield hub


def write_pins(path: Path, change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    document = pins_document()
    if change is not None:
        change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
