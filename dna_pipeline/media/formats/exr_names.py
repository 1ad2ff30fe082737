"""Names that renderers and compositors give to the layers of an OpenEXR file, and what they mean.

Ranks, the surest first: a name of the finished picture (its place in `BEAUTY`); `LIKE_BEAUTY`,
`FIRST`, `UNKNOWN`, `FIRST_CONTRIBUTION`, `CONTRIBUTION`. Names of numbers that are no light have no
rank.
"""

from __future__ import annotations

import re

_DENOISED = frozenset(
    form
    for stem in (
        *("", "image", "beauty", "combined", "composite", "rgba", "rgb", "main", "color", "c"),
        *("ci", "final", "finalimage", "render", "pass"),
    )
    for form in (f"denoised{stem}", f"{stem}denoised", f"{stem}denoise", f"{stem}denoiser")
) | {"demain", "vraydenoiser", "effectsresult", "cifiltered"}
"""The picture without its noise. "effectsResult" and "VRayDenoiser": V-Ray, "DeMain" and "Denoised
Beauty": Octane, "RGBA_denoise" and "beauty_denoise": Arnold."""

BEAUTY = (
    "",
    *("combined", "composite"),  # Blender: view layers and Cycles; its compositor
    *("beauty", "rgba", "rgb"),  # Redshift, Octane, Corona, Moonray; Arnold, Nuke, Natron
    *("image", "finalimage"),  # Blender's File Output; Unreal
    *("c", "ci"),  # Karma and Mantra; RenderMan and 3Delight
    *("color", "colour"),  # Natron
    *("main", "mainpass", "masterbeauty"),  # Octane; mental ray
    "effectsresult",  # V-Ray, after its denoiser and lens effects
    *("rgbcolor", "rgbaimage", "rgbimagepipeline"),  # V-Ray; Cinema 4D; LuxCore
    *("cf", "pathtracer", "finalimagepathtracer"),  # Mantra; Unreal
    *("final", "finalcolor", "finalcolour", "finalcoloroutput", "finalrender", "render"),  # Modo
    *sorted(_DENOISED - {"effectsresult"}),
    *("noisyimage", "noisybeauty", "noisy"),  # Cycles, before its denoiser
)
"""Names of the layer that is the picture, the surest first, without blanks and in small letters:
none at all is what most renderers write."""

_LIKE_BEAUTY = re.compile("^beauty|(beauty|combined|rgba|finalimage)$")

_CONTRIBUTION = re.compile(
    r"(diffuse|diff(dir|ind|col)?$|gloss|spec(ular|$)|trans(mi|pa|lu|dir|ind|col)|subsurface|sss"
    r"|volum|emi(t$|ssi)|env($|iron)|ao$|ambientocc|occlusion|shadow|albedo|basecolou?r|refl|refr"
    r"|coat|sheen|direct|indirect|lighting|lightselect|lightgroup|gi$|globalillum|caustic|selfillum"
    r"|incandesc|background|bg$|atmos|bloom|glare|raw(light|gi|refl|refr|diff|shadow|total))"
    r"|.*(direct|albedo|occlusion|shadows?|filter)$"
)
"""One contribution to the picture, or what it is computed from. Matched at the start of a name."""

_NUMBERS = re.compile(
    r"crypto|normal|(?<!com)position|vector|motion|velocity|depth|tangent|barycentric|variance"
    r"|hitproxy|samplecount|samplerate|stencil"
    r"|index(ob|ma)|^(n|p|z|st|pref|nref|mist|alpha|coverage|u?id)$|^uv[a-z]?\d*$|texcoord"
    r"|(obj|object|mat|material|mtl|node|render|instance|prim|primitive|particle|layer|light|element"
    r"|face|geo|asset|group|shape|surface)ids?\d*$"
    r"|^(multi|puzzle|clown|id|object|material|holdout)?(mask|matte)\d*$|puzzlematte|multimatte"
)
"""Numbers in R, G and B that are no light; not the picture even where nothing else is there."""

LIKE_BEAUTY = len(BEAUTY)
"""A name made from one of a finished picture: "hero_beauty"."""
FIRST = LIKE_BEAUTY + 1
"""A name that says nothing, of the channels that a file puts first."""
UNKNOWN = FIRST + 1
"""Any other name that says nothing: the picture where there is one such layer."""
FIRST_CONTRIBUTION = UNKNOWN + 1
"""One contribution to the picture, in the channels that a file puts first."""
CONTRIBUTION = FIRST_CONTRIBUTION + 1
"""One contribution to the picture: diffuse light, say. The picture where nothing else is there."""


def name_key(words: str) -> str:
    """The name in small letters, without blanks, underscores and hyphens."""
    return re.sub(r"[\s_-]+", "", words.lower())


def name_rank(key: str, *, is_first: bool) -> int:
    """How sure it is that a layer of this name is the picture; lower is surer."""
    if key in BEAUTY:
        return BEAUTY.index(key)
    if _LIKE_BEAUTY.search(key):
        return LIKE_BEAUTY
    if _CONTRIBUTION.match(key):
        return FIRST_CONTRIBUTION if is_first else CONTRIBUTION
    return FIRST if is_first else UNKNOWN


def is_denoised(key: str) -> bool:
    return key in _DENOISED


def is_numbers(key: str) -> bool:
    """True if its R, G and B are no light: a normal, a position, a number of an object."""
    return _NUMBERS.search(key) is not None
