"""Signs finished files with a studio's certificate, as C2PA lays down (Content Credentials).

The signature says who made a file, from which image and with which tool, and that nobody changed
it since. c2pa-python does the work, an optional package with a library of its own. Nothing goes
over the network unless the settings name a timestamp authority. Two signatures of the same bytes
differ: the algorithms on curves draw a number at random, and each file gets an id of its own.

Importing this module loads neither c2pa nor Pillow, since the daemon asks it for problems.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import SigningUnavailable
from dna_pipeline.media.marks.packet import GENERATED

MEDIA_TYPES = frozenset({"image/png", "image/jpeg", "image/webp", "video/mp4"})
"""Media types of the files that are signed; c2pa knows no form for meshes."""

_PARENTS = {
    "PNG": "image/png", "JPEG": "image/jpeg", "WebP": "image/webp", "TIFF": "image/tiff",
    "GIF": "image/gif", "AVIF": "image/avif", "HEIF": "image/heic",
}  # fmt: skip
_PARENT = "input"
_SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    # A thumbnail would be a second copy of the picture inside the file.
    "builder": {"thumbnail": {"enabled": False}},
}


@dataclass(frozen=True, slots=True)
class Claim:
    """Statements of a signature about a file.

    Attributes:
        title: the file's name.
        tool, version: the program.
        source_type: the digital source type, as an address; "" if no model made the media.
        parent: the image that it was made from.
    """

    title: str
    tool: str
    version: str
    source_type: str
    parent: Path | None = None


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate and its key.

    Attributes:
        certificate: PEM, the chain from the signer's own certificate upwards.
        key: PEM, PKCS #8, without a password.
        algorithm: as C2PA names it, such as es256.
        timestamp_url: of the authority that confirms the time; None: no time is confirmed.
    """

    certificate: Path
    key: Path
    algorithm: str = "es256"
    timestamp_url: str | None = None

    def problem(self) -> str | None:
        """Reason why nothing can be signed, as far as it shows without c2pa; None if none does."""
        if find_spec("c2pa") is None:
            return (
                "pipeline.yaml asks for signed results (c2pa), and the package c2pa-python is not "
                "installed; install dna-pipeline with its extra c2pa"
            )
        for name in ("certificate", "key"):
            try:
                getattr(self, name).read_bytes()
            except OSError as error:
                path = getattr(self, name)
                return f"c2pa.{name}: {path} cannot be read ({error.strerror}); put it there"
        return None

    def try_out(self, *, may_go_online: bool = True) -> None:
        """Sign a picture of one pixel, to see that certificate, key and algorithm fit.

        Args:
            may_go_online: ask the timestamp authority too, if there is one.

        Raises:
            SigningUnavailable: nothing can be signed, with the reason.
        """
        if (why := self.problem()) is not None:
            raise SigningUnavailable(why)
        signer = self if may_go_online else replace(self, timestamp_url=None)
        claim = Claim("trial.png", "dna-pipeline", "0", GENERATED)
        signer.sign(_one_pixel(), "image/png", claim)

    def sign(self, data: bytes, media_type: str, claim: Claim) -> bytes | None:
        """The file with its signature; None if there is no form for what the claim says.

        Raises:
            SigningUnavailable: the certificate, the key or the timestamp authority is at fault.
        """
        if claim.parent is not None and _parent_type(claim.parent) is None:
            claim = replace(claim, parent=None)
        if media_type not in MEDIA_TYPES or not (claim.parent or claim.source_type):
            return None
        import c2pa

        library: Any = c2pa
        try:
            try:
                return self._signed(library, data, media_type, claim)
            except library.C2paError:
                # An image that c2pa cannot take in is left out: it must not fail the job.
                if claim.parent is None or not claim.source_type:
                    raise
            return self._signed(library, data, media_type, replace(claim, parent=None))
        except (library.C2paError, OSError, ValueError) as error:
            text = f"c2pa cannot sign with {self.certificate}: {error}"[:500]
            raise SigningUnavailable(text) from error

    def _signed(self, library: Any, data: bytes, media_type: str, claim: Claim) -> bytes:
        info = library.C2paSignerInfo(
            self.algorithm.encode(),
            self.certificate.read_bytes(),
            self.key.read_bytes(),
            self.timestamp_url,
        )
        signed = io.BytesIO()
        settings = library.Settings.from_dict(_SETTINGS)
        with (
            library.Context(settings) as context,
            library.Signer.from_info(info) as signer,
            library.Builder(json.dumps(_definition(claim)), context) as builder,
        ):
            if claim.parent is not None:
                ingredient = {
                    "title": claim.parent.name, "relationship": "parentOf", "label": _PARENT,
                }  # fmt: skip
                kind = _parent_type(claim.parent)
                with claim.parent.open("rb") as file:
                    builder.add_ingredient(json.dumps(ingredient), kind, file)
            builder.sign(signer, media_type, io.BytesIO(data), signed)
        return signed.getvalue()


def _definition(claim: Claim) -> dict[str, Any]:
    """The manifest of C2PA. A file with a parent was opened and edited, another one created."""
    source = {"digitalSourceType": claim.source_type} if claim.source_type else {}
    if claim.parent is None:
        actions: list[dict[str, Any]] = [{"action": "c2pa.created", **source}]
    else:
        opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [_PARENT]}}
        actions = [opened, {"action": "c2pa.edited", **source}]
    return {
        "claim_generator_info": [{"name": claim.tool, "version": claim.version}],
        "title": claim.title,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}],
    }


def _parent_type(path: Path) -> str | None:
    """Media type of an image that may stand in a manifest; None for a format that may not."""
    from dna_pipeline.media.formats import file_kinds

    with path.open("rb") as file:
        return _PARENTS.get(file_kinds.format_of(file_kinds.read_head(file)))


def _one_pixel() -> bytes:
    """A PNG of one grey pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(b"\0\x7f")), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts)
