"""Recognise render passes (depth, normals, masks and other data) by the names of their files.

Renderers write such passes beside the picture, as files of their own, and nobody wants them
restyled. Only the name identifies a pass: a normal pass is an ordinary PNG. Names of passes are
words that people use as well (`mist`, `mask`, `z`), so a word counts only where a renderer puts it:

    at the end, before the frame number, as `chair_depth.0001.exr`, or as the whole name

The names are those of Blender's File Output node and render layers, Arnold, V-Ray, Corona,
Redshift, Octane, Houdini (Mantra, Karma) and MoonRay. Passes of light (diffuse, reflection, …) look
like pictures, and count only under short names that nobody else uses (`DiffCol`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

_CERTAIN = {
    "cryptomatte": "Cryptomatte", "cryptoobject": "Cryptomatte", "cryptomaterial": "Cryptomatte",
    "cryptoasset": "Cryptomatte", "vraycryptomatte": "Cryptomatte",
    "zdepth": "depth", "depthz": "depth", "vrayzdepth": "depth", "cgeometryzdepth": "depth",
    "depthpass": "depth", "normalpass": "normals", "normalspass": "normals", "aopass": "occlusion",
    "depthmap": "depth", "normalmap": "normals", "uvmap": "UV",
    "mistpass": "mist", "zpass": "depth", "uvpass": "UV",
    "denoisingdepth": "depth", "denoisingnormal": "normals", "denoisingalbedo": "albedo",
    "worldnormal": "normals", "worldnormals": "normals", "shadingnormal": "normals",
    "shadingnormals": "normals", "normalsshading": "normals", "vraynormals": "normals",
    "vraybumpnormals": "normals", "bumpnormals": "normals", "geometrynormal": "normals",
    "cameranormal": "normals", "cameranormals": "normals",
    "worldposition": "position", "worldpos": "position", "positionpass": "position",
    "motionvector": "motion", "motionvectors": "motion", "motionvec": "motion",
    "vrayvelocity": "motion", "motionpass": "motion", "vectorpass": "motion",
    "indexob": "object numbers", "objectindex": "object numbers", "objectid": "object numbers",
    "objid": "object numbers", "vrayobjectid": "object numbers", "vraynodeid": "object numbers",
    "vrayrenderid": "object numbers", "instanceid": "object numbers",
    "indexma": "material numbers", "materialindex": "material numbers",
    "materialid": "material numbers", "matid": "material numbers", "mtlid": "material numbers",
    "vraymtlid": "material numbers", "vraymaterialid": "material numbers",
    "wirecolor": "masks", "vraywirecolor": "masks", "puzzlematte": "masks", "multimatte": "masks",
    "vraymultimatte": "masks", "vraymtlselect": "masks", "shadowmatte": "masks",
    "samplerate": "samples", "vraysamplerate": "samples", "debugsamplecount": "samples",
    "ambientocclusion": "occlusion", "vrayextratexao": "occlusion", "indexpass": "object numbers",
    "diffcol": "light", "diffdir": "light", "diffind": "light", "glosscol": "light",
    "glossdir": "light", "glossind": "light", "transcol": "light", "transdir": "light",
    "transind": "light", "volumedir": "light", "volumeind": "light",
}  # fmt: skip
"""Words that only renderers write: they count at the end of any name, in one word or in several."""

_LIKELY = {"depth": "depth", "normal": "normals", "normals": "normals", "ao": "occlusion",
           "uv": "UV", "uvs": "UV"}  # fmt: skip
"""Words that count as the whole name, or after a dot; in an EXR also after an underscore, a dash or
a small letter. In other formats, where `new_normal.png` may be a picture, they count after these
only with a frame number or version, or if the picture (`chair.png`) or another pass (`chair_uv`)
lies beside the file."""

_VAGUE = {
    "mist": "mist", "vector": "motion", "vectors": "motion", "velocity": "motion",
    "position": "position", "pos": "position", "z": "depth", "mask": "a mask", "masks": "masks",
    "id": "object numbers", "ids": "object numbers", "shadow": "shadows", "shadows": "shadows",
    "env": "surroundings", "emit": "glow", "albedo": "albedo", "opacity": "opacity", "pz": "depth",
    "pref": "position", "curvature": "curvature", "facing": "facing",
    "occlusion": "occlusion", "coverage": "coverage", "raycount": "samples", "cputime": "samples",
}  # fmt: skip
"""Words that anybody uses: they count in an EXR, and in another format of renderers only after a
dot, or with a frame number and nothing else in the name."""

_LETTERS = {"N": "normals", "P": "position"}
"""Single capital letters of Arnold and Mantra: they count in an EXR as the whole name, or after a
dot or an underscore."""

_EXR = frozenset(("exr",))
_RENDERED = frozenset(("exr", "png", "apng", "tif", "tiff"))
"""Endings of formats that renderers write passes in."""

_MARKS = r"._\-"
_FRAME = re.compile(rf"(?:[{_MARKS} ]+v\d++|[{_MARKS} ]*+(?:\d++|\#++))++$", re.IGNORECASE)
"""A frame number and a version, at the end of a name without its ending."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^A-Z._\-]+|[A-Z]")
_PART = re.compile(rf"([{_MARKS}]?)([^{_MARKS}]+)$")


_OF_SET = re.compile(rf"(.*?[^{_MARKS}])([{_MARKS}]?)({'|'.join(_LIKELY)})", re.IGNORECASE)
_PICTURES = ("beauty", "combined", "color", "rgb", "rgba")
"""Words that renderers use in the name of the picture itself, beside its passes."""


_BACKWARDS = re.compile(f".?(?:{'|'.join(e[::-1] for e in (*_CERTAIN, *_LIKELY, *_VAGUE))})", re.S)
"""Matches the end of a pass's name, read backwards, with at most one letter after it (`depth_v2`).

For most names this fails at the first letter, where `endswith` would try each of the words."""

_DROPPED = str.maketrans("", "", "0123456789._-# ")


def pass_of(path: str, beside: Callable[[str], bool] = lambda _: False) -> str | None:
    """Kind of data in a render pass, in words; None if the name is not that of a pass.

    Args:
        beside: True for the path, without the dot and the ending, of an image that is there.
    """
    folder, slash, name = path.rpartition("/")
    stem, _, suffix = name.rpartition(".")
    suffix = suffix.lower()
    # Nearly all names end here: a folder may hold a hundred thousand, and is read again and again.
    letters = stem.lower().translate(_DROPPED)
    if suffix not in _EXR and _BACKWARDS.match(letters[::-1]) is None:
        return None
    return _read_name(stem, suffix, lambda other: beside(f"{folder}{slash}{other}"))


def _read_name(stem: str, suffix: str, beside: Callable[[str], bool]) -> str | None:
    bare = _FRAME.sub("", stem)
    frame = len(re.sub(r"\D", "", stem[len(bare) :]))
    if (content := _certain(bare)) is not None:
        return content
    if (match := _PART.search(bare)) is None:
        return None
    mark, part = match.groups()
    if match.start() == 0 and not mark:
        word = _whole(part, suffix, frame)
        is_picture = suffix not in _EXR and not frame and not _is_of_set(bare, beside)
        return word or (None if is_picture else _last_word(part, suffix))
    if suffix not in _EXR and mark != "." and not frame and not _is_of_set(bare, beside):
        return None
    return _marked(mark, part, suffix) or _last_word(part, suffix)


def _is_of_set(bare: str, beside: Callable[[str], bool]) -> bool:
    """True if the picture of this pass, or another pass of it, lies beside it."""
    match = _OF_SET.fullmatch(bare)
    if match is None:
        return False
    picture, mark, own = match.groups()
    if beside(picture) or any(beside(f"{picture}{mark}{word}") for word in _PICTURES):
        return True
    styled = (word.title() if own[0].isupper() else word for word in _LIKELY)
    return any(beside(f"{picture}{mark}{word}") for word in styled if word.lower() != own.lower())


def _certain(bare: str) -> str | None:
    """Kind of data if the last one, two or three words of a name join to one of `_CERTAIN`."""
    words = [word.lower() for word in re.split(rf"[{_MARKS} ]+", bare) if word]
    parts = [word.lower() for piece in re.split(rf"[{_MARKS} ]+", bare)
             for word in _WORD.findall(piece)]  # fmt: skip
    for listed in (words, parts):
        for number in (1, 2, 3):
            joined = re.sub(r"\d+$", "", "".join(listed[-number:]))
            if joined in _CERTAIN:
                return _CERTAIN[joined]
    return None


def _whole(part: str, suffix: str, frame: int) -> str | None:
    word = part.lower().strip()
    if word in _LIKELY:
        return _LIKELY[word]
    if suffix in _EXR and part in _LETTERS:
        return _LETTERS[part]
    if suffix in _EXR or (suffix in _RENDERED and frame >= 3):
        return _VAGUE.get(word)
    return None


def _marked(mark: str, part: str, suffix: str) -> str | None:
    """Kind of data by the last part of a name and the mark before that part."""
    word = part.lower()
    if word in _LIKELY and (mark in "._" or suffix in _RENDERED):
        return _LIKELY[word]
    if suffix in _EXR or (suffix in _RENDERED and mark == "."):
        return _VAGUE.get(word) or (_LETTERS.get(part) if mark in "._" else None)
    return None


def _last_word(part: str, suffix: str) -> str | None:
    """Kind of data by the last word of a name in mixed case, such as chairDepth."""
    words = _WORD.findall(part)
    if suffix not in _RENDERED or len(words) < 2 or " " in part:
        return None
    word = words[-1].lower()
    return _LIKELY.get(word) or (_VAGUE.get(word) if suffix in _EXR and len(word) > 2 else None)
