"""A client of the old API, written from its description alone, with the standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

TIMEOUT_S = 120


@dataclass
class Answer:
    status: int
    body: bytes
    headers: Message

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class OldClient:
    def __init__(self, base: str) -> None:
        self.base = base

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        request = urllib.request.Request(self.base + path, body, dict(headers), method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                return Answer(response.status, response.read(), response.headers)
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(), error.headers)

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def form(self, path: str, fields: Mapping[str, Any], **files: bytes) -> Answer:
        """Send a form of several parts, as browsers and `requests` do with a file."""
        body, kind = multipart(fields, files)
        return self.request("POST", path, body, {"Content-Type": kind})

    def urlencoded(self, path: str, fields: Mapping[str, Any]) -> Answer:
        """Send a form without files, as `requests` does with `data=`."""
        body = urllib.parse.urlencode(fields).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.request("POST", path, body, headers)

    def json(self, path: str, value: Any) -> Answer:
        headers = {"Content-Type": "application/json"}
        return self.request("POST", path, json.dumps(value).encode(), headers)

    def stream(self, path: str, fields: Mapping[str, Any], **files: bytes) -> list[tuple[str, Any]]:
        """Send a form, and read the events of the answer until it ends."""
        body, kind = multipart(fields, files)
        request = urllib.request.Request(self.base + path, body, {"Content-Type": kind})
        return list(self._events(request))

    def events(self, path: str) -> list[tuple[str, Any]]:
        return list(self._events(urllib.request.Request(self.base + path)))

    def _events(self, request: urllib.request.Request) -> Iterator[tuple[str, Any]]:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            event = data = ""
            for line in response:
                text = line.decode().rstrip("\n")
                if text.startswith("event: "):
                    event = text.removeprefix("event: ")
                elif text.startswith("data: "):
                    data = text.removeprefix("data: ")
                elif not text and data:
                    yield event, json.loads(data)
                    event = data = ""


def multipart(fields: Mapping[str, Any], files: Mapping[str, bytes]) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    parts: list[bytes] = []
    for name, value in fields.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        parts += [head.encode(), str(value).encode(), b"\r\n"]
    for name, data in files.items():
        head = (
            f"--{boundary}\r\nContent-Disposition: form-data; "
            f'name="{name}"; filename="{name}.png"\r\nContent-Type: image/png\r\n\r\n'
        )
        parts += [head.encode(), data, b"\r\n"]
    return b"".join(
        [*parts, f"--{boundary}--\r\n".encode()]
    ), f"multipart/form-data; boundary={boundary}"
