"""Find the mask of an image by its name: `cat.mask.png` is that of `cat.png`."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from dna_pipeline.base.naming import name_of, with_tail
from dna_pipeline.intake.discovery.names import fold, without_suffix
from dna_pipeline.intake.discovery.scan import is_image_name

_WORD = ".mask"


@dataclass(frozen=True, slots=True)
class MaskNames:
    """The masks among the images of an inbox.

    Attributes:
        pictures: the images that are no masks.
        mask_of: the mask of each image that has one.
        alone: masks that belong to no image, each with the reason for people.
        orphans: those of them for which no image is there at all.
    """

    pictures: list[str]
    mask_of: dict[str, str]
    alone: dict[str, str]
    orphans: frozenset[str] = frozenset()


def is_mask_name(path: str) -> bool:
    """True for a name like `cat.mask.png`; the ending may be that of any image."""
    stem = without_suffix(path)
    rest = stem[: -len(_WORD)]
    return is_image_name(path) and stem.lower().endswith(_WORD) and bool(name_of(rest))


def target_of(mask: str) -> str:
    """The path that a mask is named after: that of its image, with or without the ending."""
    return without_suffix(mask)[: -len(_WORD)]


def name_of_copy(path: str, others: Container[str]) -> str:
    """Name in a claim for the copy of a mask that is named by its path.

    It is that of a mask, so that nobody takes it for the picture where the ledger is lost, or where
    people drop the files of a result again. The stem of a long name is cut.

    Args:
        others: names that other files of the claim have, in lower case.
    """
    name = name_of(path)
    stem, suffix = without_suffix(name), name.rpartition(".")[2]
    stem = target_of(name) if is_mask_name(name) else stem
    tails = (f"{'' if n == 1 else f'-{n}'}{_WORD}.{suffix}" for n in count(1))
    names = (with_tail(stem, tail) for tail in tails)
    return next(name for name in names if name.lower() not in others)


def names_of_masks(image: str) -> list[str]:
    """Names that the mask of an image most often has, where no folder is listed: with the image's
    own ending and as PNG, the names that are certain first."""
    stem, _, suffix = image.rpartition(".")
    endings = dict.fromkeys((suffix, "png"))
    return [f"{start}{_WORD}.{ending}" for start in (image, stem) for ending in endings]


def masks_of(images: Iterable[str]) -> MaskNames:
    """Give each mask among the images to the image that it is named after.

    `cat.png.mask.png` is the mask of `cat.png`. `cat.mask.png` is that of the one image called
    `cat`; of several, it is unknown which is meant. Of two masks of one image, the first is taken.
    """
    pictures: list[str] = []
    masks: list[str] = []
    for path in images:
        (masks if is_mask_name(path) else pictures).append(path)
    if not masks:
        return MaskNames(pictures, {}, {})
    by_name = {fold(path): path for path in pictures}
    by_stem: dict[str, list[str]] = {}
    for path in pictures:
        by_stem.setdefault(_stem(path), []).append(path)
    mask_of: dict[str, str] = {}
    alone: dict[str, str] = {}
    orphans: set[str] = set()
    for mask in sorted(masks):
        target = target_of(mask)
        whole = by_name.get(fold(target))
        fitting = [whole] if whole is not None else by_stem.get(fold(f"{target}."), [])
        if len(fitting) == 1 and mask_of.setdefault(fitting[0], mask) == mask:
            continue
        if not fitting:
            orphans.add(mask)
        alone[mask] = _reason(mask, target, fitting, mask_of)
    return MaskNames(pictures, mask_of, alone, frozenset(orphans))


def _stem(path: str) -> str:
    return fold(f"{without_suffix(path)}.")


def _reason(mask: str, target: str, fitting: Sequence[str], mask_of: dict[str, str]) -> str:
    if not fitting:
        return f"a mask; waits for an image called {name_of(target)}"
    if len(fitting) == 1:
        return f"a second mask of {name_of(fitting[0])}, which has {name_of(mask_of[fitting[0]])}"
    names = ", ".join(map(name_of, fitting[:5]))
    right = f"{name_of(fitting[0])}{_WORD}.{mask.rpartition('.')[2]}"
    return f"could be the mask of {names}; name it after the whole file name, like {right}"
