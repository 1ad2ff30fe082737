"""Brings files into inboxes as people and programs do, and remembers what it brought."""

from __future__ import annotations

import hashlib
import io
import random
import threading
from collections import Counter
from pathlib import Path

from audit import Dropped
from PIL import Image

SIDECARS = ("priority: 5\n", "meta: {asset: chair}\n", "tags: [hero]\n")
WRONG = "no_such_stage: {steps: 3}\n"

MANNERS = (
    "at_once", "slowly", "stalled", "renamed", "in_folder", "told", "told_by_stem", "told_after",
    "told_wrongly", "too_small",
)  # fmt: skip
KEPT = ("keep", "keep_all")


class Dropper:
    """One thread that drops files into `archive/`, `delete/` and the kept ones below `inboxes`."""

    def __init__(self, inboxes: Path, seed: int, pace_s: float) -> None:
        self._inboxes = inboxes
        self._dice = random.Random(seed)
        self._pace_s = pace_s
        self._stop = threading.Event()
        self._dropped: dict[tuple[str, str], Dropped] = {}
        self.files = 0
        """How many files were written, each version of one that was overwritten counted."""
        self.manners: Counter[str] = Counter()

    def stop(self) -> None:
        """Bring what is being brought, then no more."""
        self._stop.set()

    def dropped(self) -> list[Dropped]:
        return list(self._dropped.values())

    def run(self) -> None:
        """Drop until stopped."""
        number = 0
        while not self._stop.wait(self._dice.uniform(0, 2 * self._pace_s)):
            number += 1
            inbox = self._dice.choice(("archive", "delete", *KEPT))
            kept = [item for item in self._dropped.values() if item.inbox == inbox]
            if inbox in KEPT and kept and self._dice.random() < 0.4:
                self._overwrite(self._dice.choice(kept))
            else:
                self._drop(inbox, number, self._dice.choice(MANNERS))

    def _drop(self, inbox: str, number: int, manner: str) -> None:
        folder = f"shelf{number % 3}/{number:05}" if manner == "in_folder" else ""
        path = self._inboxes / inbox / folder / f"{manner}-{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = self._picture(8 if manner == "too_small" else 48)
        text = self._dice.choice(SIDECARS)
        told = None
        if manner in ("told", "told_by_stem", "told_wrongly"):
            told = WRONG if manner == "told_wrongly" else text
            beside = f"{path.stem}.yml" if manner == "told_by_stem" else f"{path.name}.yaml"
            self._write(path.with_name(beside), told.encode())
        if manner == "slowly":
            self._write_slowly(path, data)
        elif manner == "stalled":
            self._write_slowly(path, data, stall_s=1.0)
        elif manner == "renamed":
            part = path.with_name(f"{path.name}.part")
            self._write_slowly(part, data)
            part.rename(path)
        else:
            self._write(path, data)
        if manner == "told_after":
            self._stop.wait(self._dice.uniform(0, 0.2))
            self._write(path.with_name(f"{path.name}.yaml"), text.encode())
        self._remember(inbox, path.relative_to(self._inboxes / inbox).as_posix(), data, told)
        self.manners[manner] += 1

    def _overwrite(self, item: Dropped) -> None:
        """A new version in place, or by a rename over the old one."""
        path = self._inboxes / item.inbox / item.name
        data = self._picture(48)
        if self._dice.random() < 0.5:
            self._write_slowly(path, data)
        else:
            part = path.with_name(f"{path.name}.part")
            self._write(part, data)
            part.replace(path)
        self._remember(item.inbox, item.name, data, item.sidecar)
        self.manners["overwritten"] += 1

    def _remember(self, inbox: str, name: str, data: bytes, told: str | None) -> None:
        before = self._dropped.get((inbox, name))
        older = (*before.older, before.sha256) if before else ()
        sha256 = hashlib.sha256(data).hexdigest()
        self._dropped[inbox, name] = Dropped(inbox, name, sha256, told, older)

    def _write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self.files += 1

    def _write_slowly(self, path: Path, data: bytes, stall_s: float = 0.0) -> None:
        """In pieces; the pauses are shorter than the time to settle, unless it is to stall."""
        with path.open("wb", buffering=0) as file:
            for start in range(0, len(data), len(data) // 4 + 1):
                file.write(data[start : start + len(data) // 4 + 1])
                self._stop.wait(stall_s or self._dice.uniform(0, 0.15))
        self.files += 1

    def _picture(self, side_px: int) -> bytes:
        """No two are alike."""
        noise = self._dice.randbytes(side_px * side_px * 3)
        file = io.BytesIO()
        Image.frombytes("RGB", (side_px, side_px), noise).save(file, "PNG")
        return file.getvalue()
