"""Keys a subject from a plain background by its colour.

border band → a smooth background colour, fitted robustly
            → what matches it and hangs together with the border goes, soft shadows too
            → specks go, holes close
            → fractional alpha across the edge
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dna_pipeline.base.errors import BackgroundNotPlain, EmptyForeground, ParameterInvalid
from dna_pipeline.media.masks import box, dilated, eroded, large_parts, ndimage, touching
from dna_pipeline.providers.matting import key_review
from dna_pipeline.providers.matting.cielab import slope, to_lab

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from dna_pipeline.providers.matting.border_key import BorderKey

    Floats = NDArray[np.float32]
    Mask = NDArray[np.bool_]

WORKING_PX = 1536
"""Larger pictures are keyed on a copy whose longer side is this, and the alpha is enlarged."""
EDGE_PX = 12
"""Widest soft edge that is looked for, in pixels of the working copy."""
PLAIN_SHARE = 0.6
"""Least share of the border that must fit one smooth colour; the subject may touch the rest."""
STEEPEST_GRADE = 45.0
"""Largest change of a graded background from side to side, CIELAB units: a steeper one would be
the background on one side and the subject on the other."""
GRAIN_PX = 8
"""Specks of noise up to so many pixels do not hold up a shadow."""
SHADOW_SLOPE = 1.0
"""Steepest change of colour inside a soft shadow, CIELAB units per pixel; twice that at 256 px."""
NOISE_LIMIT = 3.2
"""Largest noise of the background, as a standard deviation in CIELAB units."""

_HINT = (
    "For photographs set `provider: rembg` and `name: u2net` for this model in pipeline.yaml "
    "(`dna-pipeline models pull` fetches it, 168 MiB), or drop a PNG whose background is "
    "transparent already; border_key is for renders and product shots."
)


class BorderKeyer:
    """The keyer with its settings; a `Matting`."""

    def __init__(self, settings: BorderKey) -> None:
        self.settings = settings

    def alpha(self, image: Image.Image, *, alpha_matting: bool = False) -> Image.Image:
        """RGB in; mode L of the same size out.

        Raises:
            BackgroundNotPlain: the border is not one smooth colour.
            EmptyForeground: all of the picture has the border's colour.
            ParameterInvalid: `alpha_matting` is asked for.
        """
        from PIL import Image

        if alpha_matting:
            raise ParameterInvalid(
                "alpha_matting is not for border_key, whose edges are soft anyway",
                hint="Leave alpha_matting out, or use a rembg model.",
            )
        small = image.convert("RGB")
        small.thumbnail((WORKING_PX, WORKING_PX), Image.Resampling.LANCZOS)
        levels = np.round(key(np.asarray(small), self.settings) * 255).astype(np.uint8)
        alpha = Image.fromarray(levels)
        return alpha if alpha.size == image.size else alpha.resize(image.size)

    def remarks(self, image: Image.Image, alpha: Image.Image) -> list[str]:
        """Sentences for the manifest about what may be wrong with that alpha (L) of that picture
        (RGB)."""
        return key_review.remarks(image, alpha)


def key(rgb: NDArray[np.uint8], settings: BorderKey) -> Floats:
    """Alpha of a picture.

    Args:
        rgb: (h, w, 3), sRGB.

    Returns:
        (h, w) float32 in [0, 1].

    Raises:
        BackgroundNotPlain, EmptyForeground: as `BorderKeyer.alpha` says.
    """
    lab = to_lab(rgb)
    background, noise = fit_background(lab, settings.tolerance)
    subject = _tidy(~_background_mask(lab, background, noise, settings), settings)
    if not subject.any():
        raise EmptyForeground("the whole picture has the colour of its border")
    if subject.all():
        raise BackgroundNotPlain(
            "nothing at the picture's edge has the colour fitted to the border", hint=_HINT
        )
    return _softened(rgb, subject)


def fit_background(lab: Floats, tolerance: float) -> tuple[Floats, float]:
    """The background's colour at each pixel, fitted to the border band, and its noise.

    Planes through three random border pixels compete for the largest part of the border
    (RANSAC, Fischler and Bolles 1981), so that a subject which touches the border does not bend
    the result; the winner's part is then fitted with a quadratic, which follows vignettes.

    Returns:
        (h, w, 3) float32 CIELAB; the standard deviation of the border around it.

    Raises:
        BackgroundNotPlain: the border does not fit one smooth colour.
    """
    height, width = lab.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)  # (h, w, 6)
    band = _border_band(height, width)
    every = -(-int(band.sum()) // 8000)
    samples, colours = terms[band][::every], lab[band][::every]
    near = _largest_plane(samples[:, :3], colours, 2 * tolerance)
    weights = _refit(samples, colours, near)
    for _ in range(4):
        near = _distance(colours, samples @ weights) < 2 * tolerance
        weights = _refit(samples, colours, near)
    return terms @ weights, _noise(_distance(colours, samples @ weights), 2 * tolerance)


def _noise(rest: Floats, radius: float) -> float:
    """Standard deviation of the border around its fit, if the border is plain at all."""
    near = rest < radius
    noise = float(np.median(rest[near])) / 1.54  # a 3-D normal's median length, in deviations
    share = float(near.mean())
    if share < PLAIN_SHARE:
        raise BackgroundNotPlain(
            f"only {int(share * 100)}% of the border fits one smooth colour, and at least "
            f"{PLAIN_SHARE:.0%} must",
            hint=_HINT,
        )
    if noise > NOISE_LIMIT:
        raise BackgroundNotPlain(
            f"the border is too noisy or textured: its colour varies by {noise:.1f} CIELAB units "
            f"(standard deviation), and at most {NOISE_LIMIT} is allowed",
            hint=_HINT,
        )
    return noise


def _border_band(height: int, width: int) -> Mask:
    thick = max(2, round(0.015 * min(height, width)))
    band = np.ones((height, width), bool)
    band[thick:-thick, thick:-thick] = False
    return band


def _distance(one: Floats, other: NDArray[Any]) -> Floats:
    apart = one - other
    return cast("Floats", np.sqrt(np.einsum("...k,...k", apart, apart)))


def _largest_plane(samples: Floats, colours: Floats, radius: float) -> Mask:
    """Mask (n,) of the samples, (n, 3) as 1, x, y, on the plane that most of them share."""
    random = np.random.default_rng(0)
    threes = np.array([random.choice(len(samples), 3, replace=False) for _ in range(300)])
    bases = samples[threes]  # (300, 3 points, 3 terms)
    are_apart = np.abs(np.linalg.det(bases)) >= 0.5
    planes = np.linalg.solve(bases[are_apart], colours[threes[are_apart]])  # (m, 3 terms, 3)
    planes = planes[2 * np.linalg.norm(planes[:, 1:], axis=(1, 2)) <= STEEPEST_GRADE]
    best = np.zeros(len(samples), bool)
    for plane in planes:
        near = _distance(colours, samples @ plane) < radius
        if near.sum() > best.sum():
            best = near
    return best


def _refit(samples: Floats, colours: Floats, near: Mask) -> Floats:
    if near.sum() < 16:
        raise BackgroundNotPlain(
            "the border does not fit one smooth colour, or runs too steeply from one to another",
            hint=_HINT,
        )
    # The little weight on size keeps the bend out of sides that the subject covers.
    ridge = np.diag([0, 0, 0, 1, 1, 1]).astype(np.float32) * np.float32(1e-2 * near.sum())
    chosen = samples[near]
    return cast("Floats", np.linalg.solve(chosen.T @ chosen + ridge, chosen.T @ colours[near]))


def _background_mask(lab: Floats, background: Floats, noise: float, settings: BorderKey) -> Mask:
    """The pixels that match the background and are connected with the border, soft shadows
    included."""
    reach = max(settings.tolerance, 4 * noise)
    alike = _distance(lab, background) < reach
    rim = np.zeros_like(alike)
    rim[[0, -1], :] = rim[:, [0, -1]] = True
    matched = _flooded(alike, alike & rim, radius=1)
    if settings.shadow > 0:
        shade = _soft_shadow(lab, background, ~matched, noise, reach, settings.shadow)
        ground = ~large_parts(~(matched | shade), GRAIN_PX / matched.size)
        radius = max(2, round(0.006 * max(matched.shape)))
        matched |= _flooded(ground, matched & rim, radius)
    if settings.holes:
        holes = _distance(lab, background) < reach / 2
        matched |= large_parts(holes & ~matched, settings.min_area)
    return matched


def _soft_shadow(
    lab: Floats, background: Floats, where: Mask, noise: float, reach: float, depth: float
) -> Mask:
    """The pixels that have the background's colour under less light and lie on no edge.

    Less light scales X, Y and Z alike, which in CIELAB scales (L* + 16, a*, b*) by one factor
    (except near black). Only its edge tells a grey object from a shadow on grey.

    Args:
        where: the pixels that are looked at.
    """
    lift = np.array([16, 0, 0], np.float32)
    shaded, lit = lab + lift, background + lift
    factor = np.einsum("...k,...k", shaded, lit) / np.einsum("...k,...k", lit, lit)
    tinted = _distance(shaded, factor[..., None] * lit) > reach
    drop = (1 - factor) * lit[..., 0]
    shade = where & ~tinted & (drop < depth) & (drop > -reach)
    if shade.any():
        blur = 1 + noise / 2
        margin = int(4 * blur + 0.5)  # how far the filters reach
        inside = box(shade, margin)
        steepest = SHADOW_SLOPE * float(np.clip(512 / min(lab.shape[:2]), 1, 2))
        shade[inside] &= slope(lab[inside], blur) < steepest
    return shade


def _flooded(mask: Mask, seed: Mask, radius: int) -> Mask:
    """The part of `mask` that hangs together with `seed`.

    The flood passes only where the mask is wider than twice the radius: a faint bit of outline
    must not let it into the subject. From there it reaches that far into narrow corners.
    """
    wide = touching(eroded(mask, radius), seed)
    return touching(mask & dilated(wide, 2 * radius), wide)


def _tidy(subject: Mask, settings: BorderKey) -> Mask:
    if not settings.holes:
        subject = cast("Mask", ndimage().binary_fill_holes(subject))
    return large_parts(subject, settings.min_area)


def _softened(rgb: NDArray[np.uint8], subject: Mask) -> Floats:
    """Fractional alpha across the edge of a binary mask that is not empty.

    Only the box around the subject is looked at: beyond its margin nothing depends on the subject.
    """
    alpha = np.zeros(subject.shape, np.float32)
    inside = box(subject, 4 * EDGE_PX)
    alpha[inside] = _soften(rgb[inside].astype(np.float32) / np.float32(255), subject[inside])
    return alpha


def _soften(rgb: Floats, subject: Mask) -> Floats:
    """Fractional alpha across the edge of a binary mask.

    A pixel on the edge is a mix a F + (1 - a) B of the subject and the background, so that
    a = |C - B| / |F - B|, with B the nearest sure background and F the nearest sure subject.
    """
    inside = cast("Floats", ndimage().distance_transform_edt(subject)).astype(np.float32)
    outside = cast("Floats", ndimage().distance_transform_edt(~subject)).astype(np.float32)
    contrast = _from_background(rgb, outside)
    width = _edge_width(contrast, inside)
    # A little less than the full contrast, so that noise stays opaque.
    full = 0.95 * _full_contrast(contrast, inside, width)
    mixed = np.clip(contrast / np.maximum(full, 1e-3), 0, 1)
    alpha = np.where(inside > width, 1, np.where(outside > width, 0, mixed))
    return alpha.astype(np.float32)


def _full_contrast(contrast: Floats, inside: Floats, width: int) -> Floats:
    """|F - B| at each pixel: that of the nearest pixel inside the edge.

    A part too thin to have an inside, like an antenna, is as strong as its strongest pixel.
    """
    strongest = ndimage().maximum_filter(np.where(inside > 0, contrast, 0), size=2 * width + 1)
    edge = inside <= width
    if edge.all():
        return cast("Floats", strongest)
    distance, (rows, columns) = ndimage().distance_transform_edt(edge, return_indices=True)
    nearest = ndimage().gaussian_filter(contrast, 1.0)[rows, columns]
    return cast("Floats", np.where(distance > 1.5 * width + 1, strongest, nearest))


def _from_background(rgb: Floats, outside: Floats) -> Floats:
    """(h, w): how far each pixel's colour is from that of the nearest sure background."""
    sure = outside > min(3.0, float(outside.max()) - 1)
    smooth = ndimage().gaussian_filter(rgb, (1, 1, 0))
    rows, columns = ndimage().distance_transform_edt(
        ~sure, return_distances=False, return_indices=True
    )
    return _distance(rgb, smooth[rows, columns])


def _edge_width(contrast: Floats, inside: Floats) -> int:
    """Pixels from the edge's outline to the subject's full colour, 1 to `EDGE_PX`.

    It is the depth at which the median contrast first comes to 90 % of the greatest within reach.
    """
    depths = range(min(EDGE_PX, int(inside.max())))
    levels = [float(np.median(contrast[(inside > d) & (inside <= d + 1)])) for d in depths]
    return next(d + 1 for d in depths if levels[d] >= 0.9 * max(levels))
