"""Chromium without a window, driven over pipes by its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LIMIT_S = 60.0

_EXEC = """import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
os.execvp(sys.argv[3], sys.argv[3:])"""
"""Becomes the browser, which reads commands from descriptor 3 and writes to 4."""


def find_chromium() -> str | None:
    """The browser's program; None if there is none. `$DNA_CHROMIUM` names another."""
    named = os.environ.get("DNA_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


_LEFT = ("navigated or closed", "context was destroyed", "Cannot find context")
"""Parts of the messages about a page that was left while it was asked."""


class PageLeft(RuntimeError):
    """The page was left while it was asked."""


class Chromium:
    """One browser with one page. What the page complains about is in `complaints`."""

    def __init__(self, program: str, profile: Path) -> None:
        command_read, self._write = os.pipe()
        self._read, event_write = os.pipe()
        options = [
            "--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu-sandbox",
            "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run",
            "--disable-dev-shm-usage", "--disable-background-networking", "--hide-scrollbars",
            f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        ends = (command_read, event_write)
        start = [sys.executable, "-c", _EXEC, *map(str, ends), program]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            [*start, *options], pass_fds=ends, stdin=quiet, stdout=quiet, stderr=quiet
        )
        os.close(command_read)
        os.close(event_write)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._write)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def send(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol, and give its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            why = answer["error"]["message"]
            kind = PageLeft if any(part in why for part in _LEFT) else RuntimeError
            raise kind(f"{method}: {why}")
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._read, 1 << 20)
            if not data:
                raise RuntimeError("the browser has ended")
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def _note(self, event: dict[str, Any]) -> None:
        match event.get("method"):
            case "Log.entryAdded" if event["params"]["entry"]["level"] in ("error", "warning"):
                self.complaints.append(event["params"]["entry"]["text"])
            case "Runtime.consoleAPICalled" if event["params"]["type"] in ("error", "assert"):
                said = event["params"]["args"]
                self.complaints.append(" ".join(str(each.get("value", each)) for each in said))
            case "Runtime.exceptionThrown":
                self.complaints.append(event["params"]["exceptionDetails"]["text"])
            case "Page.javascriptDialogOpening":
                self.complaints.append(f"a dialog: {event['params']['message']}")
            case _:
                pass

    def open(self, page: Path) -> None:
        """Open a page from the disk, and wait until it is shown."""
        self.send("Page.navigate", url=page.absolute().as_uri())
        self.wait("document.readyState === 'complete' && document.documentElement.dataset.ready")

    def visit(self, address: str, shown: str = "true") -> None:
        """Open a page of a server, and wait until an expression is true there."""
        self.send("Page.navigate", url=address)
        self.wait(f"document.readyState === 'complete' && ({shown})")

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page, and give its value."""
        options = {"returnByValue": True, "awaitPromise": True, "userGesture": True}
        result = self.send("Runtime.evaluate", expression=script, **options)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true, on this page or on the one that comes after it."""

        def is_true() -> bool:
            with suppress(PageLeft):
                return bool(self.run(condition))
            return False

        self._until(is_true, condition)

    def _until(self, is_true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + LIMIT_S
        while not is_true():
            if time.monotonic() > end:
                raise TimeoutError(f"{what}; {self.complaints}")
            time.sleep(0.05)

    def show_as(self, width: int, height: int, scheme: str = "light") -> None:
        """Set the size of the page, and the colour scheme that it is told."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def picture(self) -> bytes:
        """The page as it is shown now, as a PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag the mouse with its left button."""
        x, y = start
        button = {"button": "left", "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **button)
        for step in range(1, 11):
            at = [a + (b - a) * step / 10 for a, b in zip(start, end, strict=True)]
            place = {"x": at[0], "y": at[1]}
            self.send("Input.dispatchMouseEvent", type="mouseMoved", buttons=1, **place, **button)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], **button)

    def click(self, x: float, y: float) -> None:
        """Click with the left button at a place of what is shown."""
        button = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, **button)

    def settle(self) -> None:
        """Wait until what is shown is the same twice, a quarter of a second apart."""
        pictures = [b"", self.picture()]

        def is_still() -> bool:
            time.sleep(0.25)
            pictures[:] = [pictures[1], self.picture()]
            return pictures[0] == pictures[1]

        self._until(is_still, "what is shown does not come to rest")

    def press(self, key: str) -> None:
        """Press a key, such as ArrowRight."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)
