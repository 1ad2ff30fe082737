"""Colour spaces of OpenEXR pictures, and how their linear light becomes that of Rec. 709 (sRGB).

A file names the colours of its red, green, blue and white by CIE 1931 x and y, in the attribute
`chromaticities`, or a colour space in `colorInteropID`, which also says by which curve its values
were encoded. Without either they are linear light, with the primaries of Rec. 709.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dna_pipeline.media.colour.primaries import (
    ADOBE_RGB,
    REC_709,
    Chromaticities,
    Matrix,
    Vector,
    are_close,
    matrix_to_rec709,
    rgb_to_xyz,
    white_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.floating[Any]]

_SPACES: dict[str, Chromaticities] = {
    "Rec. 709": REC_709,
    "ACEScg (AP1)": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "ACES2065-1 (AP0)": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
    "Rec. 2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    "Display P3 (P3-D65)": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
    "DCI-P3": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    "P3-D60": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.32168, 0.33767),
    "Adobe RGB (1998)": ADOBE_RGB,
    "CIE XYZ": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1 / 3, 1 / 3),
    "CIE XYZ (D65)": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.3127, 0.3290),
}
"""x and y of red, green, blue and white: SMPTE ST 2065-1, ACES S-2014-004, ITU-R BT.709 and
BT.2020, SMPTE RP 431-2 and EG 432-1, Adobe RGB (1998)."""

_INTEROP_ID = re.compile(r"([a-z0-9]+)_([a-z0-9]+)_(?:scene|display)")
"""Curve and primaries in the names of the Color Interop Forum."""
_INTEROP_PRIMARIES = {
    "rec709": "Rec. 709",
    "ap1": "ACEScg (AP1)",
    "ap0": "ACES2065-1 (AP0)",
    "rec2020": "Rec. 2020",
    "p3d65": "Display P3 (P3-D65)",
    "adobergb": "Adobe RGB (1998)",
    "ciexyzd65": "CIE XYZ (D65)",
}
_LINEAR, _SRGB = 1.0, 0.0
_INTEROP_CURVES = {"lin": _LINEAR, "srgb": _SRGB, "g18": 1.8, "g22": 2.2, "g24": 2.4, "g26": 2.6}
"""Exponents, by which light comes of the values; that of `_SRGB` stands for sRGB's curve."""

_ROUNDING = 0.001
"""Files give three or four digits of each coordinate, some less exactly than that."""
_ENDLESS = 1e30
"""Stands for infinite light, which no matrix could work with."""


@dataclass(frozen=True, slots=True)
class ColourSpace:
    """Red, green and blue of a file.

    Attributes:
        matrix: from its linear light to that of Rec. 709; None where they are the same.
        weights: luminance of its red, green and blue; their sum is 1.
        remark: a sentence for the manifest where it is not Rec. 709; "" otherwise.
        curve: one of `_INTEROP_CURVES`.
        curve_remark: a sentence for the manifest where that is not linear, or not known; or "".
    """

    matrix: Matrix | None
    weights: Vector
    remark: str
    curve: float = _LINEAR
    curve_remark: str = ""

    def to_linear(self, values: Values, alpha: Values | None) -> Values:
        """Linear light (…, 3), premultiplied if there is alpha (…), of values as they are stored.

        A curve was applied to straight colours, so alpha is divided out meanwhile. Below zero it is
        mirrored.
        """
        import numpy as np

        if self.curve == _LINEAR:
            return values
        cover = np.ones((), values.dtype)
        if alpha is not None:
            cover = np.where(alpha > 0, alpha, 1)[..., None]
        with np.errstate(all="ignore"):  # infinite and NaN samples; they stay so
            straight = np.abs(values) / cover
            if self.curve == _SRGB:
                power = ((straight + 0.055) / 1.055) ** 2.4
                light = np.where(straight <= 0.04045, straight / 12.92, power)
            else:
                light = straight**self.curve
            return (np.copysign(light, values) * cover).astype(values.dtype)

    def to_rec709(self, light: Values) -> Values:
        """Light of this space (…, 3) as that of Rec. 709, below zero where it is out of gamut."""
        import numpy as np

        if self.matrix is None:
            return light
        finite = np.nan_to_num(light, nan=0.0, posinf=_ENDLESS, neginf=0.0)
        matrix = np.array(self.matrix, light.dtype)
        return np.einsum("...c,rc->...r", finite.clip(-_ENDLESS, _ENDLESS), matrix)

    def from_luminance_chroma(self, light: Values) -> Values:
        """Red, green and blue of Y, RY and BY (…, 3), by the OpenEXR technical introduction:
        RY = (R - Y) / Y and BY = (B - Y) / Y."""
        import numpy as np

        luminance, red_chroma, blue_chroma = np.moveaxis(light, -1, 0)
        of_red, of_green, of_blue = self.weights
        with np.errstate(all="ignore"):  # infinite and NaN samples; they stay so
            red, blue = (red_chroma + 1) * luminance, (blue_chroma + 1) * luminance
            green = (luminance - of_red * red - of_blue * blue) / of_green
        return np.stack([red, green, blue], -1)


def colour_space(header: dict[str, Any]) -> ColourSpace:
    """The colour space that the header of a part names; Rec. 709 where that makes no sense.

    The attribute `chromaticities` counts before the primaries that `colorInteropID` names.
    """
    name = str(header.get("colorInteropID", ""))
    curve, primaries = _from_interop_id(name)
    if (chromaticities := header.get("chromaticities")) is not None:
        space = _space_of(chromaticities) or _rec709(_ignored(chromaticities))
    else:
        space = (_space_of(_SPACES[primaries]) if primaries else None) or _rec709()
    if curve is None:
        return replace(space, curve_remark=_not_understood(name, space))
    return space if curve == _LINEAR else replace(space, curve=curve, curve_remark=_decoded(name))


def _from_interop_id(name: str) -> tuple[float | None, str]:
    """Curve and primaries of a `colorInteropID`; None and "" if it is not understood."""
    if not name:
        return _LINEAR, ""
    match = _INTEROP_ID.fullmatch(name.lower())
    curve, primaries = match.groups() if match else ("", "")
    if curve not in _INTEROP_CURVES or primaries not in _INTEROP_PRIMARIES:
        return None, ""
    return _INTEROP_CURVES[curve], _INTEROP_PRIMARIES[primaries]


def _not_understood(name: str, space: ColourSpace) -> str:
    """The primaries are said elsewhere where they are not those of Rec. 709."""
    if name == "unknown":
        said = "The EXR's colorInteropID says that its colour space is unknown"
    elif name == "data":
        said = 'The EXR\'s colorInteropID says "data", which is no colour'
    else:
        said = f'The EXR\'s colorInteropID "{_printable(name)}" is not understood'
    return f"{said}; its values were taken for linear light" + (
        "." if space.matrix else " with the primaries of sRGB (Rec. 709)."
    )


def _decoded(name: str) -> str:
    return (
        f'The EXR\'s values are not linear ("{_printable(name)}"); they were decoded by that curve.'
    )


def _rec709(remark: str = "") -> ColourSpace:
    return ColourSpace(None, rgb_to_xyz(REC_709)[1], remark)


def _space_of(chromaticities: object) -> ColourSpace | None:
    """None where the values describe no colour space."""
    import numpy as np

    try:
        a, b, c, d, e, f, g, h = np.asarray(chromaticities, np.float64).reshape(8).tolist()
        values = (a, b, c, d, e, f, g, h)
        if are_close(values, REC_709, _ROUNDING):
            return _rec709()
        own = rgb_to_xyz(values)
        matrix = matrix_to_rec709(own, white_of(own))
    except (ValueError, TypeError, ZeroDivisionError):
        return None
    return ColourSpace(matrix, own[1], _converted(values))


def _converted(values: Chromaticities) -> str:
    names = (name for name, others in _SPACES.items() if are_close(values, others, _ROUNDING))
    return (
        f"The EXR's light is in {next(names, _described(values))}; "
        "it was converted to the primaries of sRGB (Rec. 709)."
    )


def _described(values: Chromaticities) -> str:
    points = [f"{x:.4g} {y:.4g}" for x, y in zip(values[::2], values[1::2], strict=True)]
    red, green, blue, white = points
    return f"a colour space of its own (red {red}, green {green}, blue {blue}, white {white})"


def _ignored(chromaticities: object) -> str:
    return (
        "The EXR's chromaticities attribute describes no colour space and was ignored: "
        f"{_printable(str(chromaticities))}. The light was taken for Rec. 709."
    )


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:200])
