"""Drops files into inboxes in the ways of people and programs, and keeps a record of each file."""

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
from masks import NAMED, mask_name
from PIL import Image

SIDECARS = ("priority: 5\n", "meta: {asset: chair}\n", "tags: [hero]\n")
LATER = f"not_before: {FAR_FUTURE}\n"

MANNERS = (
    "at_once", "slowly", "stalled", "renamed", "in_folder", "with_sidecar", "sidecar_by_stem",
    "sidecar_after", "wrong_sidecar", "too_small",
)  # fmt: skip
BATCHES = ("job_file", "slow_job_file", "table", "matrix")
KEPT = ("keep", "keep_all")


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests that YAMLs and tables make of the pipeline.

    Attributes:
        failing: makes the last stage fail until the YAML is mended (`findings.mend`).
        lasting: makes a job run long enough to be cancelled meanwhile.
        matrix: makes two jobs.
        column: a column of a table, with a cell that makes the last stage fail.
        mask_column: a column that names a mask by its path; "" if no stage takes one.
    """

    failing: str
    lasting: str
    matrix: str
    column: tuple[str, str]
    mask_column: str = ""


class Dropper:
    """Thread that drops files into the inboxes `archive`, `delete` and those of `KEPT`."""

    def __init__(
        self,
        inboxes: Path,
        seed: int,
        pace_s: float,
        requests: Requests,
        is_behind: Callable[[], bool],
        mask_share: float = 0.0,
    ) -> None:
        """Create a dropper.

        Args:
            inboxes: folder of the inboxes.
            pace_s: average seconds between two drops.
            is_behind: tells, before each drop, if the daemon has too many jobs; then nothing is
                dropped, so that the daemon reaches jobs of every kind.
            mask_share: share of the single images, and of those with a matrix, that get a mask.
        """
        self._mask_share = mask_share
        self._is_behind = is_behind
        self._requests = requests
        self._inboxes = inboxes
        self._dice = random.Random(seed)
        self._pace_s = pace_s
        self._stop = threading.Event()
        self._dropped: dict[tuple[str, str], Dropped] = {}
        self._batches: list[DroppedBatch] = []
        self._single: list[tuple[str, str]] = []
        """Images that belong to no batch and may be overwritten, by inbox and name."""
        self.files = 0
        """Number of files written; each version of an overwritten file counts."""
        self.manners: Counter[str] = Counter()

    def stop(self) -> None:
        """Finish the drop in progress, then drop no more."""
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
            candidates = [self._dropped[key] for key in self._single if key[0] == inbox]
            draw = self._dice.random()
            if inbox in KEPT and candidates and draw < 0.3:
                self._overwrite(self._dice.choice(candidates))
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
        sidecar = self._text(manner, text)
        if sidecar is not None:
            beside = f"{path.stem}.yml" if manner == "sidecar_by_stem" else f"{path.name}.yaml"
            self._write(path.with_name(beside), sidecar.encode())
        mask = self._drop_mask(path)
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
        if manner == "sidecar_after":
            self._stop.wait(self._dice.uniform(0, 0.2))
            self._write(path.with_name(f"{path.name}.yaml"), text.encode())
        name = path.relative_to(self._inboxes / inbox).as_posix()
        self._remember(inbox, name, data, sidecar, mask=mask)
        self._single.append((inbox, name))
        self.manners[manner] += 1

    def _drop_mask(self, image: Path) -> str | None:
        """Write a mask for some of the images, before the image; give its hash."""
        if self._dice.random() >= self._mask_share:
            return None
        data = self._picture(16)
        self._write(image.with_name(mask_name(image.name)), data)
        self.manners["mask"] += 1
        return hashlib.sha256(data).hexdigest()

    def _text(self, manner: str, text: str) -> str | None:
        """Give the sidecar that is written before the image; None for a manner without one."""
        texts = {
            "with_sidecar": text, "sidecar_by_stem": text, "wrong_sidecar": WRONG,
            "failing": self._requests.failing, "lasting": self._requests.lasting,
        }  # fmt: skip
        return texts.get(manner)

    # --- several jobs at once ---

    def _drop_batch(self, inbox: str, number: int, kind: str) -> None:
        """Drop a batch as a folder in one rename, or file by file if it is a slow one.

        Some batches wait for a time far away, so that their rows can be cancelled while they wait.
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
        mask = self._drop_mask(folder / "one.png")
        self._write(folder / "one.png", data)
        self._remember(inbox, f"{home}/one.png", data, text, jobs=2, mask=mask)

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
        """Write a table with two rows of one image and one of another; some rows fail, and some
        name the mask of their inbox."""
        column, failing = self._requests.column
        rows = [("a.png", 1), ("a.png", 2), ("b.png", 3)]
        masks = ("", f"../{NAMED}") if self._requests.mask_column else ("",)
        lines = [
            f"{name},{n},{self._dice.choice(('', failing))},{self._dice.choice(masks)}\n"
            for name, n in rows
        ]
        head_line = f"image,priority,{column},{self._requests.mask_column or 'meta.nothing'}\n"
        texts = {"shots.csv": head_line + "".join(lines)}
        texts |= {"shots.csv.yaml": head} if head else {}
        for name, text in texts.items():
            self._write(folder / name, text.encode())
        for name, jobs in (("a.png", 2), ("b.png", 1)):
            data = self._picture(48)
            self._write(folder / name, data)
            self._remember(inbox, f"{home}/{name}", data, None, jobs=jobs)
        self._remember_batch(inbox, home, texts, len(rows))

    def _remember_batch(self, inbox: str, home: str, texts: dict[str, str], rows: int) -> None:
        """Record a job file or table, with the texts of all its files by name."""
        files = tuple(
            (name, hashlib.sha256(text.encode()).hexdigest()) for name, text in texts.items()
        )
        self._batches.append(DroppedBatch(inbox, f"{home}/{next(iter(texts))}", files, rows))

    # --- versions ---

    def _overwrite(self, item: Dropped) -> None:
        """Write a new version of an image, in place or by a rename over the old one."""
        path = self._inboxes / item.inbox / item.name
        data = self._picture(48)
        if self._dice.random() < 0.5:
            self._write_slowly(path, data)
        else:
            part = path.with_name(f"{path.name}.part")
            self._write(part, data)
            part.replace(path)
        self._remember(item.inbox, item.name, data, item.sidecar, mask=item.mask)
        self.manners["overwritten"] += 1

    def _remember(
        self, inbox: str, name: str, data: bytes, sidecar: str | None, jobs: int = 1,
        mask: str | None = None,
    ) -> None:  # fmt: skip
        before = self._dropped.get((inbox, name))
        older = (*before.older, before.sha256) if before else ()
        sha256 = hashlib.sha256(data).hexdigest()
        self._dropped[inbox, name] = Dropped(inbox, name, sha256, sidecar, older, jobs, mask=mask)

    def _write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        self.files += 1

    def _write_slowly(self, path: Path, data: bytes, stall_s: float = 0.0) -> None:
        """Write a file in pieces. The pauses are shorter than `settle_seconds`, unless `stall_s`
        is longer."""
        with path.open("wb", buffering=0) as file:
            for start in range(0, len(data), len(data) // 4 + 1):
                file.write(data[start : start + len(data) // 4 + 1])
                self._stop.wait(stall_s or self._dice.uniform(0, 0.15))
        self.files += 1

    def _picture(self, side_px: int) -> bytes:
        return picture(self._dice, side_px)


def picture(dice: random.Random, side_px: int = 48) -> bytes:
    """Make a PNG of random pixels, so that no two are equal."""
    noise = dice.randbytes(side_px * side_px * 3)
    file = io.BytesIO()
    Image.frombytes("RGB", (side_px, side_px), noise).save(file, "PNG")
    return file.getvalue()
