"""Reads the brands of an ISO base media file: HEIC, AVIF, raw files of Canon and videos.

All of these begin with a box of the type `ftyp` (ISO/IEC 14496-12, 4.3), which lists the brands
that a reader has to know one of. The first, the major brand, may be the same `mif1` for HEIC and
AVIF; the others then tell them apart.
"""

from __future__ import annotations

_AVIF = frozenset((b"avif", b"avis", b"avio"))
_HEVC = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"MiHE", b"MiHB")
)
_IMAGES = frozenset((b"mif1", b"mif2", b"mif3", b"msf1", b"miaf", b"heif"))
_MAX_BRANDS_BYTES = 1024


def brands(head: bytes) -> list[bytes]:
    """The major brand and the compatible ones, in order; none if `head` is no such file's."""
    if head[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(head[:4], "big"), _MAX_BRANDS_BYTES, len(head))
    return [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]


def picture_format(head: bytes) -> str:
    """AVIF or HEIF for a picture's file; "" for a video and all else."""
    listed = brands(head)
    major = listed[:1]
    if not listed or major[0] not in _AVIF | _HEVC | _IMAGES:
        return ""
    if major[0] in _HEVC:
        return "HEIF"
    return "AVIF" if _AVIF.intersection(listed) else "HEIF"
