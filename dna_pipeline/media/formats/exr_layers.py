"""Layers of an OpenEXR file, and which of them is the picture.

headers of all parts → layers (channels by what stands before the last dot of their names; the
    name of their part where nothing does) → eye of a stereo pair → rank of the name
    (`exr_names`) → the best
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dna_pipeline.base.errors import ImageUnreadable
from dna_pipeline.media.formats.exr_names import (
    BEAUTY,
    CONTRIBUTION,
    FIRST,
    LIKE_BEAUTY,
    UNKNOWN,
    is_denoised,
    is_numbers,
    name_key,
    name_rank,
)

_EYES = {"left": "left", "l": "left", "right": "right", "r": "right"}
_OTHER_EYE = {"l": "r", "r": "l"}
_SUFFIXED = re.compile(r"(.+)[ _-](left|right|l|r)", re.IGNORECASE)
_VIEW_RANKS = {"left": 0, "right": 2}
_SCENES = ("composite", "", "viewlayer", "renderlayer")
"""Prefixes of layers' names, the surest first: Blender's compositor has a picture of its own, and a
view layer that nobody named is a ViewLayer since Blender 2.8 and was a RenderLayer before."""

_COMPONENTS = {"red": "r", "green": "g", "blue": "b", "alpha": "a"}
_CHROMA = ("ry", "by")
_COLOURS = frozenset((*"rgbay", *_CHROMA, *_COMPONENTS))
_MOST_NAMED = 12
_HINT = "Write the beauty or combined layer, or R, G, B without a layer name."
_HINT_MANY = (
    'Call the layer that is the picture "Beauty" or "Combined", or write it into a file of its own.'
)


@dataclass(frozen=True, slots=True)
class Window:
    """Pixels of a plane: the first column and row, and the ones behind the last."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top


@dataclass(frozen=True, slots=True)
class Layer:
    """One picture of a file, or numbers beside it.

    Attributes:
        part: its part's number.
        parts: how many parts the file has.
        name: as people know it; "" for the channels without a layer name.
        channels: full channel names by what they hold: r, g, b, a, y, z, …
        siblings: how many layers the file has.
        window: where its pixels lie.
        display: the picture's frame; what lies outside of `window` is black or transparent.
        is_first: no layer name, and in the file's first part, or the first one of its view.
        words: its name in small letters, cut at its dots, without the view.
        view: "left" or "right" eye, another view of the file's `multiView` attribute, or "".
        view_order: the place of its view in that attribute.
        is_cryptomatte: the header names it as one.
        notes: sentences for the manifest on what else could have been taken.
    """

    part: int
    parts: int
    name: str
    channels: dict[str, str]
    siblings: int
    window: Window
    display: Window
    is_first: bool
    words: tuple[str, ...] = ()
    view: str = ""
    view_order: int = 0
    is_cryptomatte: bool = False
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The last word of its name without blanks, as `exr_names` has them."""
        return name_key(self.words[-1]) if self.words else ""

    @property
    def rank(self) -> int:
        """How sure its name is; lower is surer."""
        return name_rank(self.key, is_first=self.is_first)

    @property
    def scene(self) -> str:
        """The words before that one, without blanks: Blender's view layer."""
        return name_key(".".join(self.words[:-1]))

    @property
    def colour(self) -> list[str]:
        """Names of its red, green and blue channels; of Y, RY and BY; of its luminance thrice; or
        nothing."""
        if self.channels.keys() >= {"r", "g", "b"}:
            return [self.channels[key] for key in "rgb"]
        # Where there is an X too, Y is a coordinate.
        if "y" not in self.channels or "x" in self.channels:
            return []
        if self.has_half_chroma:
            return []
        return [
            self.channels["y"],
            *(self.channels.get(key, self.channels["y"]) for key in _CHROMA),
        ]

    @property
    def is_grey(self) -> bool:
        return len(set(self.colour)) == 1

    @property
    def has_chroma(self) -> bool:
        """True if its colour is a luminance and two chroma channels."""
        return not self.channels.keys() >= {"r", "g", "b"} and "ry" in self.channels

    @property
    def has_half_chroma(self) -> bool:
        return "y" in self.channels and len(self.channels.keys() & _CHROMA) == 1

    @property
    def is_picture(self) -> bool:
        """True if nothing speaks against it."""
        return bool(self.colour) and not self.is_cryptomatte and not is_numbers(self.key)

    @property
    def size(self) -> tuple[int, int]:
        return self.display.width, self.display.height

    @property
    def label(self) -> str:
        """Its name within a sentence."""
        return f'layer "{printable(self.name)}"' if self.name else "the layer without a name"

    @property
    def remark(self) -> str:
        """A sentence for the manifest."""
        return (
            f"The input is an EXR: {self.label} (of {self.siblings}) was taken for scene-linear "
            "light and clipped to sRGB."
        )


def find_picture(headers: Sequence[dict[str, Any]]) -> Layer:
    """The layer that is the picture, by the headers of all parts.

    Raises:
        ImageUnreadable: there is none, or it is unclear which.
    """
    layers = _with_views(list(_layers(headers)), headers)
    pictures = [layer for layer in layers if layer.is_picture]
    if not pictures:
        raise ImageUnreadable(f"{_no_picture(layers)}; it has: {_listed(layers)}", hint=_HINT)
    best = _best(pictures)
    rivals = {layer.words for layer in pictures if layer.rank == best.rank}
    if len(rivals) > 1 and best.rank in (LIKE_BEAUTY, UNKNOWN, CONTRIBUTION):
        reason = f"several layers could be the picture; it has: {_listed(layers)}"
        raise ImageUnreadable(reason, hint=_HINT_MANY)
    in_stereo = _eye_note(best, pictures)
    others = _others_note(best, pictures, in_stereo=bool(in_stereo))
    notes = tuple(note for note in (in_stereo, others) if note)
    return replace(best, siblings=len(layers), notes=notes)


def _layers(headers: Sequence[dict[str, Any]]) -> Iterator[Layer]:
    """The layers of all parts in the file's order, their views unknown yet."""
    views: set[str] = set()
    for number, header in enumerate(headers):
        is_first = number == 0 or header.get("view") not in (None, *views)
        views.add(header.get("view", ""))
        groups: dict[str, dict[str, str]] = {}
        for channel in header["channels"]:
            prefix, component = _split(channel.name)
            groups.setdefault(prefix, {})[component] = channel.name
        # In a file of several parts, a part is a layer; in one of one part its name says nothing.
        title = str(header.get("name", "")) if len(headers) > 1 else ""
        cryptomattes = _cryptomattes(header)
        for prefix, channels in groups.items():
            name = prefix or title
            yield Layer(
                part=number,
                parts=len(headers),
                name=name,
                channels=channels,
                siblings=0,
                window=window_of(header["dataWindow"]),
                display=window_of(header["displayWindow"]),
                is_first=is_first and not prefix,
                is_cryptomatte=name.lower().rstrip("0123456789") in cryptomattes,
            )


def _split(channel: str) -> tuple[str, str]:
    """Layer and component of a channel's name: "a.R" is R of "a", and so is "R.left" of "left"."""
    *words, last = channel.split(".")
    if words and last.lower() in ("left", "right") and words[-1].lower() in _COLOURS:
        words[-1], last = last, words[-1]
    component = last.lower()
    return ".".join(words), _COMPONENTS.get(component, component)


def _cryptomattes(header: dict[str, Any]) -> frozenset[str]:
    """Names of layers, without their numbers, that the header says hold mattes."""
    return frozenset(
        str(value).lower().rstrip("0123456789")
        for key, value in header.items()
        if key.startswith("cryptomatte/") and key.endswith("/name")
    )


def _with_views(layers: list[Layer], headers: Sequence[dict[str, Any]]) -> list[Layer]:
    names = {layer.name.lower() for layer in layers}
    return [_with_view(layer, headers[layer.part], names) for layer in layers]


def _with_view(layer: Layer, header: dict[str, Any], names: set[str]) -> Layer:
    """The layer with its view: by its part's `view` attribute, else by its name, else the first of
    the file's `multiView` attribute, which OpenEXR leaves out of the names R, G, B and A."""
    views = [str(view).lower() for view in header.get("multiView") or ()]
    words = layer.name.lower().split(".") if layer.name else []
    own = str(header.get("view", "")).lower()
    words, view = _without_view(words, views, own, names)
    if own in _EYES:
        view = _EYES[own]
    elif not view and not layer.name and views:
        view = _EYES.get(views[0], views[0])
    order = next((n for n, name in enumerate(views) if _EYES.get(name, name) == view), 0)
    return replace(layer, words=tuple(words), view=view, view_order=order)


def _without_view(
    words: list[str], views: list[str], own: str, names: set[str]
) -> tuple[list[str], str]:
    """The words of a name but for the view in it, and that view, or ""."""
    for place in reversed(range(len(words))):
        word, rest = words[place], [*words[:place], *words[place + 1 :]]
        other = ".".join([*words[:place], _OTHER_EYE.get(word, ""), *words[place + 1 :]])
        if word in ("left", "right") or (word in _EYES and (word in views or other in names)):
            return rest, _EYES[word]
        if word in views:
            return rest, word
    suffixed = _SUFFIXED.fullmatch(words[-1]) if words else None
    if suffixed and _is_eye(*suffixed.groups(), own=own, words=words, names=names):
        return [*words[:-1], suffixed[1]], _EYES[suffixed[2]]
    return words, ""


def _is_eye(stem: str, suffix: str, *, own: str, words: list[str], names: set[str]) -> bool:
    """True if "stem_suffix" is an eye's view of "stem", and not the light from the left, say."""
    if own in _EYES:
        return _EYES[own] == _EYES[suffix]
    if name_key(stem) not in BEAUTY:
        return False
    other = ".".join(words)[: -len(suffix)] + _OTHER_EYE.get(suffix, "")
    return suffix in ("left", "right") or other in names


def _best(pictures: list[Layer]) -> Layer:
    """The surest by its name, its view layer and its view; then the first of the file."""
    views: dict[tuple[str, ...], set[str]] = {}
    for layer in pictures:
        views.setdefault(layer.words, set()).add(layer.view)

    def order(layer: Layer) -> tuple[int, ...]:
        scene = _SCENES.index(layer.scene) if layer.scene in _SCENES else len(_SCENES)
        # A third view beside both eyes is the one that the file means for a flat screen.
        third = -1 if {"left", "right"} <= views[layer.words] else 1
        return layer.rank, scene, _VIEW_RANKS.get(layer.view, third), layer.view_order

    return min(pictures, key=order)


def _is_twin(layer: Layer, other: Layer) -> bool:
    """True if one shows what the other shows, maybe from another side."""
    return layer.words == other.words or (layer.is_first and other.is_first)


def _eye_note(best: Layer, pictures: list[Layer]) -> str:
    if best.view == "right":
        return "The EXR holds only the right eye of a stereo pair; that was taken."
    twins = {layer.view: layer for layer in pictures if _is_twin(layer, best)}
    # A picture without a view beside one eye alone is the other eye.
    right = twins.get("right") or (twins.get("") if best.view == "left" else None)
    if right is None or (best.view != "left" and "left" in twins):
        return ""
    return (
        "The EXR is in stereo: its left eye was taken. "
        f"For the right one write {right.label} into a file of its own."
    )


def _others_note(best: Layer, pictures: list[Layer], *, in_stereo: bool) -> str:
    """Names the pictures that could have been taken as well."""
    if best.scene == "composite":
        return ""
    others = [
        layer
        for layer in pictures
        if layer is not best
        and _is_as_good(layer, best)
        and (layer.view == best.view or not in_stereo)
    ]
    if not others:
        return ""
    names = " and ".join(layer.label for layer in others[:_MOST_NAMED])
    more = " and more" if len(others) > _MOST_NAMED else ""
    return f"The EXR also has {names}{more}; write the one you want into a file of its own."


def _is_as_good(layer: Layer, best: Layer) -> bool:
    if best.rank == FIRST:
        return layer.rank in (FIRST, UNKNOWN)
    return layer.rank < LIKE_BEAUTY and (layer.key == best.key or is_denoised(layer.key))


def _no_picture(layers: list[Layer]) -> str:
    """The reason why none of the layers is the picture, as a part of a sentence."""
    halves = (layer for layer in layers if layer.has_half_chroma)
    if (half := next(halves, None)) is not None:
        return f"{half.label} has only one of its coarsely sampled chroma channels RY and BY"
    return "no layer is a picture"


def window_of(box: tuple[Any, Any]) -> Window:
    """Of a header's box, whose last column and row belong to it."""
    (left, top), (right, bottom) = ([int(value) for value in corner] for corner in box)
    return Window(left, top, right + 1, bottom + 1)


def _listed(layers: list[Layer]) -> str:
    names = [
        f"{printable(layer.name)} ({channels})"
        if layer.name
        else f"a layer without a name (channels {channels})"
        for layer in layers[:_MOST_NAMED]
        for channels in [printable(", ".join(layer.channels.values()))]
    ]
    return "; ".join(names) + (" …" if len(layers) > _MOST_NAMED else "")


def printable(name: str) -> str:
    """Safe in a message: the name is somebody else's text."""
    return "".join(char if char.isprintable() else "?" for char in name[:100])
