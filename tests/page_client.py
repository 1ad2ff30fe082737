"""A client that sends the forms of the page, as a browser without scripts does."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Mapping, Sequence
from html import unescape

from PIL import Image

from tests.old_client import Answer, OldClient


def picture(color: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), color).save(out, "PNG")
    return out.getvalue()


class Browser(OldClient):
    """Sends forms as browsers do."""

    def drop(
        self,
        files: Sequence[tuple[str, bytes]],
        fields: Mapping[str, str] = {},
        headers: Mapping[str, str] = {},
        action: str = "queue",
    ) -> Answer:
        boundary = uuid.uuid4().hex
        sent = {"pipeline": "restyle", "token": "t", "action": action, **fields}
        parts = [
            f"--{boundary}\r\nContent-Disposition: form-data; "
            f'name="{name}"\r\n\r\n{text}\r\n'.encode()
            for name, text in sent.items()
        ]
        for name, data in files:
            quoted = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
            head = f'Content-Disposition: form-data; name="files"; filename="{quoted}"'
            parts.append(f"--{boundary}\r\n{head}\r\n\r\n".encode() + data + b"\r\n")
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self.request("POST", "/drop", body, {**kind, **headers})


def text_of(answer: Answer) -> str:
    """What a person reads of a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.body.decode())).split())
