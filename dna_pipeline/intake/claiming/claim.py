"""A drop that is being claimed, with its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from dna_pipeline.base.errors import Failure
from dna_pipeline.base.files import sha256_of_inputs
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.discovery.probe import Probed
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning.known_files import Stats
from dna_pipeline.intake.planning.ready_drops import ReadyDrop

QUOTED_ROLES = ("sidecar", "batch_file")
"""Roles of the files that the ledger quotes as text, and which are not hashed."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that a drop gets.

    Attributes:
        role: `image`, `sidecar`, `batch_file`, or that of a companion, such as `mask` or `depth`.
        name: its name in the claim.
        source: the file or the stream to read; None if the file is in the claim already.
        place: its path in the inbox, or the absolute path in a source root; "" for other files.
        stat: its status when it was last looked at; None if any content is right, also that of a
            file to which a link leads.
        is_moved: True if it is moved into the claim, False if it is copied.
        reference: the path by which jobs name it, for a companion that did not lie beside the
            image; "" for all others.
    """

    role: str
    name: str
    source: Path | IO[bytes] | None = None
    place: str = ""
    stat: FileStat | None = None
    is_moved: bool = False
    reference: str = ""


@dataclass(slots=True, eq=False)
class Claim:
    """A drop until the ledger has its jobs.

    Attributes:
        row: its row of the ledger's table `drops`.
        folder: the folder of its files; the row has it as text.
        inbox: the inbox to which it belongs once it is recorded.
        files: its files, in the order in which they are fetched. An image is the last of them,
            since its rename is the claim.
        ready: the ready drop that it was made from; None for all others.
        error: error that its job will have.
        text: its sidecar or its job file, as the manifest quotes it.
        is_copy: True if it lies in the data folder, False if in the inbox.
        stats: by name, status of the files in the claim that are as expected.
        hashes: by name, hashes of the files that were read.
        companion_stats: by absolute path, status at the last look of companions that are copied
            once the sidecar was read.
        image: the image in the claim; None if it has none.
        is_waiting: True while a companion that it needs cannot be looked for or read.
        gives_up: True once that has lasted so long that its job fails.
    """

    row: dict[str, Any]
    folder: Path
    inbox: str
    files: tuple[InputFile, ...]
    ready: ReadyDrop | None = None
    error: Failure | None = None
    probed: Probed | None = None
    text: str | None = None
    is_copy: bool = False
    stats: Stats = field(default_factory=dict[str, FileStat])
    hashes: dict[str, claims.Hashed] = field(default_factory=dict[str, claims.Hashed])
    companion_stats: Stats = field(default_factory=dict[str, FileStat])
    image: Path | None = field(init=False)
    is_waiting: bool = False
    gives_up: bool = False

    def __post_init__(self) -> None:
        # Kept, since intake asks for it several times for each file, and paths are slow to build.
        self.image = self.path("image")

    def path(self, role: str) -> Path | None:
        """Path in the claim of the file with that role; None if there is none."""
        return next((self.folder / file.name for file in self.files if file.role == role), None)

    def place(self, file: InputFile) -> Path:
        """Path in the claim of one of its files."""
        if file.role == "image" and self.image is not None:
            return self.image
        return self.folder / file.name

    @property
    def pictures(self) -> list[InputFile]:
        """Its companions, then its image: the files that must decode."""
        return [file for file in self.files if file.role not in QUOTED_ROLES]

    @property
    def is_as_expected(self) -> bool:
        """True if all files are in the claim and were not written to on the way."""
        return all(file.name in self.stats for file in self.files)

    @property
    def columns(self) -> dict[str, Any]:
        """Id and those columns of its row that the claim finds out."""
        hashed = self.hashes.get(self.row["image"])
        return {
            "id": self.row["id"], "inbox": self.inbox,
            "sha256": self.sha256, "bytes": hashed and hashed.size,
            "width": self.probed and self.probed.width,
            "height": self.probed and self.probed.height, "sidecar_text": self.text,
            "companions": described(self.files, self.hashes),
        }  # fmt: skip

    @property
    def content(self) -> str | None:
        """Hash of the image with its companions; None if the image was not read."""
        if self.sha256 is None:
            return None
        companions = described(self.files, self.hashes) or ()
        inputs = [("image", self.sha256), *((file["role"], file["sha256"]) for file in companions)]
        return sha256_of_inputs(inputs)

    @property
    def sha256(self) -> str | None:
        """Hash of the image; None if it was not read."""
        hashed = self.hashes.get(self.row["image"])
        return None if hashed is None else hashed.sha256


def claim_of(row: dict[str, Any]) -> Claim:
    """Make a claim again from its row, as after a restart. Its files are in it already."""
    files = [] if row["sidecar"] is None else [InputFile("sidecar", row["sidecar"])]
    files += [
        InputFile(file["role"], file["name"], reference=file.get("reference") or "")
        for file in row["companions"] or ()
    ]
    files += [] if row["image"] is None else [InputFile("image", row["image"])]
    return Claim(row, Path(row["claim"]), row["inbox"], tuple(files))


def described(
    files: Iterable[InputFile], hashes: Mapping[str, claims.Hashed]
) -> list[dict[str, Any]] | None:
    """Describe the companions among these files for the drop's row; None if there are none."""
    companions: list[dict[str, Any]] = []
    for file in files:
        if file.role not in ("image", *QUOTED_ROLES):
            hashed = hashes.get(file.name)
            facts = {"sha256": hashed and hashed.sha256, "bytes": hashed and hashed.size}
            if file.reference:
                facts["reference"] = file.reference
            companions.append({"role": file.role, "name": file.name} | facts)
    return companions or None


def companions_of(files: Iterable[InputFile]) -> list[dict[str, Any]]:
    """Describe the companions among files that were not read yet, as their drop's row has them."""
    return described(files, {}) or []


def companions_in(claim: Claim) -> list[dict[str, Any]] | None:
    """Describe the companions of a claim as its drop's row has them; None if there are none."""
    return described(claim.files, claim.hashes)
