"""Brings files into inboxes as people and programs do, and remembers what it brought."""

from __future__ import annotations

import hashlib
import io
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from findings import FAR_FUTURE, WRONG, Dropped, DroppedBatch
from PIL import Image

SIDECARS = ("priority: 5\n", "meta: {asset: chair}\n", "tags: [hero]\n")
LATER = f"not_before: {FAR_FUTURE}\n"

MANNERS = (
    "at_once", "slowly", "stalled", "renamed", "in_folder", "told", "told_by_stem", "told_after",
    "told_wrongly", "too_small",
)  # fmt: skip
BATCHES = ("job_file", "slow_job_file", "table", "matrix")
KEPT = ("keep", "keep_all")


@dataclass(frozen=True, slots=True)
class Requests:
    """What YAMLs and tables may ask of the pipeline.

    Attributes:
        failing: a last stage that fails until the YAML is mended (`findings.mend`).
        lasting: a job that runs long enough to be cancelled meanwhile.
        matrix: two jobs.
        column: of a table, with a cell that asks for a failing last stage.
    """

    failing: str
    lasting: str
    matrix: str
    column: tuple[str, str]


class Dropper:
    """One thread that drops files into `archive/`, `delete/` and the kept ones below `inboxes`."""

    def __init__(
        self,
        inboxes: Path,
        seed: int,
        pace_s: float,
        requests: Requests,
        is_behind: Callable[[], bool],
    ) -> None:
        """Make one.

        Args:
            pace_s: seconds between two drops, on average.
            is_behind: asked before each; while true, nothing is dropped, so that the daemon comes
                to jobs of every kind.
        """
        self._is_behind = is_behind
        self._requests = requests
        self._inboxes = inboxes
        self._dice = random.Random(seed)
        self._pace_s = pace_s
        self._stop = threading.Event()
        self._dropped: dict[tuple[str, str], Dropped] = {}
        self._batches: list[DroppedBatch] = []
        self._single: list[tuple[str, str]] = []
        """Those that are no batch's and may be overwritten."""
        self.files = 0
        """How many files were written, each version of one that was overwritten counted."""
        self.manners: Counter[str] = Counter()

    def stop(self) -> None:
        """Bring what is being brought, then no more."""
        self._stop.set()

    def dropped(self) -> list[Dropped]:
        return list(self._dropped.values())

    def batches(self) -> list[DroppedBatch]:
        return list(self._batches)

    def run(self) -> None:
        """Drop until stopped."""
        number = 0
        while not self._stop.wait(self._dice.uniform(0, 2 * self._pace_s)):
            if self._is_behind():
                continue
            number += 1
            inbox = self._dice.choice(("archive", "delete", *KEPT))
            kept = [self._dropped[key] for key in self._single if key[0] == inbox]
            draw = self._dice.random()
            if inbox in KEPT and kept and draw < 0.3:
                self._overwrite(self._dice.choice(kept))
            elif draw < 0.45:
                self._drop_batch(inbox, number, self._dice.choice(BATCHES))
            elif draw < 0.6:
                self._drop(inbox, number, self._dice.choice(("failing", "failing", "lasting")))
            else:
                self._drop(inbox, number, self._dice.choice(MANNERS))

    def _drop(self, inbox: str, number: int, manner: str) -> None:
        folder = f"shelf{number % 3}/{number:05}" if manner == "in_folder" else ""
        path = self._inboxes / inbox / folder / f"{manner}-{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = self._picture(8 if manner == "too_small" else 48)
        text = self._dice.choice(SIDECARS)
        told = self._text(manner, text)
        if told is not None:
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
        name = path.relative_to(self._inboxes / inbox).as_posix()
        self._remember(inbox, name, data, told)
        self._single.append((inbox, name))
        self.manners[manner] += 1

    def _text(self, manner: str, text: str) -> str | None:
        """The sidecar that lies there before the image; None for a manner without one."""
        texts = {
            "told": text, "told_by_stem": text, "told_wrongly": WRONG,
            "failing": self._requests.failing, "lasting": self._requests.lasting,
        }  # fmt: skip
        return texts.get(manner)

    # --- several jobs at once ---

    def _drop_batch(self, inbox: str, number: int, kind: str) -> None:
        """A batch that comes as a folder in one rename, save for a slow one.

        Some wait for a time far away, so that their rows can be cancelled as they wait.
        """
        head = LATER if self._dice.random() < 0.35 else ""
        home = f"{kind}-{number:05}"
        folder = self._inboxes.parent / "bringing" / home
        if kind == "slow_job_file":
            folder = self._inboxes / inbox / home
        folder.mkdir(parents=True)
        if kind == "matrix":
            self._fill_with_matrix(inbox, home, folder, head)
        elif kind == "table":
            self._fill_with_table(inbox, home, folder, head)
        else:
            self._fill_with_job_file(inbox, home, folder, head, slowly=kind == "slow_job_file")
        if kind != "slow_job_file":
            folder.rename(self._inboxes / inbox / home)
        self.manners[kind] += 1

    def _fill_with_matrix(self, inbox: str, home: str, folder: Path, head: str) -> None:
        text = head + self._requests.matrix
        data = self._picture(48)
        self._write(folder / "one.png.yaml", text.encode())
        self._write(folder / "one.png", data)
        self._remember(inbox, f"{home}/one.png", data, text, jobs=2)

    def _fill_with_job_file(
        self, inbox: str, home: str, folder: Path, head: str, *, slowly: bool
    ) -> None:
        names = ["a.png", "b.png", "c.png"][: self._dice.choice((2, 3))]
        images = ", ".join(names) if slowly else '"*.png"'
        text = f"images: [{images}]\n{head}{self._dice.choice(('', self._requests.failing))}"
        self._write(folder / "shots.yaml", text.encode())
        for name in names:
            data = self._picture(48)
            if slowly:
                self._write_slowly(folder / name, data)
            else:
                self._write(folder / name, data)
            self._remember(inbox, f"{home}/{name}", data, None)
        self._remember_batch(inbox, home, {"shots.yaml": text}, len(names))

    def _fill_with_table(self, inbox: str, home: str, folder: Path, head: str) -> None:
        """Two rows of one image, one of another; some of them fail."""
        column, failing = self._requests.column
        rows = [("a.png", 1), ("a.png", 2), ("b.png", 3)]
        lines = [f"{name},{n},{self._dice.choice(('', failing))}\n" for name, n in rows]
        texts = {"shots.csv": f"image,priority,{column}\n{''.join(lines)}"}
        texts |= {"shots.csv.yaml": head} if head else {}
        for name, text in texts.items():
            self._write(folder / name, text.encode())
        for name, jobs in (("a.png", 2), ("b.png", 1)):
            data = self._picture(48)
            self._write(folder / name, data)
            self._remember(inbox, f"{home}/{name}", data, None, jobs=jobs)
        self._remember_batch(inbox, home, texts, len(rows))

    def _remember_batch(self, inbox: str, home: str, texts: dict[str, str], rows: int) -> None:
        """Note a job file or table, and what lies beside it, by name."""
        files = tuple(
            (name, hashlib.sha256(text.encode()).hexdigest()) for name, text in texts.items()
        )
        self._batches.append(DroppedBatch(inbox, f"{home}/{next(iter(texts))}", files, rows))

    # --- versions ---

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

    def _remember(
        self, inbox: str, name: str, data: bytes, told: str | None, jobs: int = 1
    ) -> None:
        before = self._dropped.get((inbox, name))
        older = (*before.older, before.sha256) if before else ()
        sha256 = hashlib.sha256(data).hexdigest()
        self._dropped[inbox, name] = Dropped(inbox, name, sha256, told, older, jobs)

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
        return picture(self._dice, side_px)


def picture(dice: random.Random, side_px: int = 48) -> bytes:
    """A PNG; no two are alike."""
    noise = dice.randbytes(side_px * side_px * 3)
    file = io.BytesIO()
    Image.frombytes("RGB", (side_px, side_px), noise).save(file, "PNG")
    return file.getvalue()
