"""Pictures larger than the model should see at once, worked on in overlapping tiles.

    picture ── VAE, tile by tile ──► latent, with one noise field over all of it
            ── each step: UNet, tile by tile ──► one prediction ──► sampler, over all of it
            ── VAE, tile by tile ──► picture

Where tiles overlap, their results are averaged with weights that fall to 0 at a tile's edge. The
samplers are linear in the UNet's prediction, so blending predictions is blending latents in each
step (MultiDiffusion, Bar-Tal et al. 2023, arXiv 2302.08113, equation 5). They work on the whole
latent and draw their noise over it, so that no sampler needs to know of tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LATENT_PX = 8
"""Pixels of the picture along each side of one pixel of the latent."""
OVERLAP = 0.25
"""Least part of a tile that it shares with the next one, along each axis."""

Compute = Callable[["torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis: from `start` up to `end`, in pixels of the latent."""

    start: int
    end: int

    def scaled(self, factor: int) -> slice:
        return slice(self.start * factor, self.end * factor)


@dataclass(frozen=True, slots=True)
class Grid:
    """Tiles that cover a picture.

    Attributes:
        rows, columns: the tiles along each axis; every row has every column.
    """

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @classmethod
    def over(cls, width: int, height: int, tile: int) -> Grid:
        """The fewest tiles of at most `tile` px a side for a picture of that size, all in pixels
        and multiples of 8."""
        sides = (_spans(side // LATENT_PX, tile // LATENT_PX) for side in (height, width))
        return cls(*sides)

    @property
    def pixels(self) -> int:
        """Pixels of all tiles together; those of overlaps count once for each tile."""
        rows, columns = (sum(s.end - s.start for s in axis) for axis in (self.rows, self.columns))
        return rows * columns * LATENT_PX**2


def tiled(pipeline: Any, size: tuple[int, int], tile: int | None) -> Any:
    """The pipeline with a UNet and a VAE that see no more than a tile at once; itself where the
    picture is not larger than the tile. Parts are shared, so that it costs no memory.

    Args:
        pipeline: one of Diffusers' pipelines of Stable Diffusion.
        size: width and height of the picture.
        tile: longest side of a tile in pixels, a multiple of 8; None for one tile of any size.
    """
    if tile is None or max(size) <= tile:
        return pipeline
    grid = Grid.over(*size, tile)
    parts = pipeline.components
    parts |= {"unet": TiledUnet(parts["unet"], grid), "vae": TiledVae(parts["vae"], grid)}
    view = type(pipeline)(**parts, requires_safety_checker=False)
    view.set_progress_bar_config(disable=True)
    return view


class TiledUnet:
    """A UNet that predicts the noise of a latent tile by tile; else the UNet itself."""

    def __init__(self, unet: Any, grid: Grid) -> None:
        self._unet = unet
        self._grid = grid

    def __getattr__(self, name: str) -> Any:
        return getattr(self._unet, name)

    def __call__(self, sample: torch.Tensor, *args: Any, **options: Any) -> tuple[torch.Tensor]:
        """(n, channels, h, w) in, (n, 4, h, w) out, as from the UNet."""

        def predict(part: torch.Tensor) -> torch.Tensor:
            return self._unet(part, *args, **options)[0]

        return (blended(sample, self._grid, predict, reads_px=1, makes_px=1),)


class TiledVae:
    """A VAE that encodes and decodes tile by tile; else the VAE itself."""

    def __init__(self, vae: Any, grid: Grid) -> None:
        self._vae = vae
        self._grid = grid

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vae, name)

    def encode(self, picture: torch.Tensor) -> Any:
        """(n, 3, height, width) in; out an object with the distribution of the latent as its
        `latent_dist`, from which one sample is drawn for all tiles together."""

        def moments(part: torch.Tensor) -> torch.Tensor:
            return self._vae.encode(part).latent_dist.parameters

        values = blended(picture, self._grid, moments, reads_px=LATENT_PX, makes_px=1)
        vae: Any = import_module("diffusers.models.autoencoders.vae")
        return SimpleNamespace(latent_dist=vae.DiagonalGaussianDistribution(values))

    def decode(self, latents: torch.Tensor, **_options: Any) -> tuple[torch.Tensor]:
        """(n, 4, h, w) in, (n, 3, height, width) out, as from the VAE."""

        def decode(part: torch.Tensor) -> torch.Tensor:
            return self._vae.decode(part, return_dict=False)[0]

        return (blended(latents, self._grid, decode, reads_px=1, makes_px=LATENT_PX),)


def blended(
    values: torch.Tensor, grid: Grid, compute: Compute, *, reads_px: int, makes_px: int
) -> torch.Tensor:
    """Results of `compute` for all tiles, as one tensor; overlaps are weighted means.

    Sums are kept in float32, so that shorter types lose nothing to the number of tiles.

    Args:
        values: (n, channels, h, w) of the whole picture.
        reads_px, makes_px: pixels that `values` and the result have for one pixel of the latent.
    """
    import torch

    total: torch.Tensor | None = None
    dtype = values.dtype
    for row, column, weights in _weighted(grid, makes_px):
        part = compute(values[..., row.scaled(reads_px), column.scaled(reads_px)])
        if total is None:
            shape = (grid.rows[-1].end * makes_px, grid.columns[-1].end * makes_px)
            total = part.new_zeros((*part.shape[:2], *shape), dtype=torch.float32)
            dtype = part.dtype
        area = total[..., row.scaled(makes_px), column.scaled(makes_px)]
        area += part.float() * weights.to(part.device)
    assert total is not None, "a grid has at least one tile"
    return total.to(dtype)


def _weighted(grid: Grid, scale: int) -> Iterator[tuple[Span, Span, torch.Tensor]]:
    """Each tile's rows and columns, and its weights (h, w); those of all tiles add up to 1."""
    down, across = (_weights(axis, scale) for axis in (grid.rows, grid.columns))
    for row, of_rows in zip(grid.rows, down, strict=True):
        for column, of_columns in zip(grid.columns, across, strict=True):
            yield row, column, of_rows[:, None] * of_columns


def _weights(spans: tuple[Span, ...], scale: int) -> list[torch.Tensor]:
    """The weights of each span along its axis, float32, at `scale` pixels for one of the latent.

    They rise as a sine squared over the overlap with the span before, and fall so over that with
    the next one.
    """
    import torch

    raw: list[torch.Tensor] = []
    total = torch.zeros(spans[-1].end * scale)
    for index, span in enumerate(spans):
        weights = torch.ones((span.end - span.start) * scale)
        if index:
            overlap = (spans[index - 1].end - span.start) * scale
            weights[:overlap] *= _rise(overlap)
        if index + 1 < len(spans):
            overlap = (span.end - spans[index + 1].start) * scale
            weights[-overlap:] *= _rise(overlap).flip(0)
        total[span.scaled(scale)] += weights
        raw.append(weights)
    return [weights / total[span.scaled(scale)] for span, weights in zip(spans, raw, strict=True)]


def _rise(length: int) -> torch.Tensor:
    """(length,) float32, from nearly 0 to nearly 1."""
    import torch

    return torch.sin((torch.arange(length) + 0.5) / length * (math.pi / 2)) ** 2


def _spans(length: int, tile: int) -> tuple[Span, ...]:
    """The fewest spans of `tile` that cover a length with enough overlap, evenly spread."""
    if length <= tile:
        return (Span(0, length),)
    overlap = max(int(tile * OVERLAP), 1)
    count = -(-(length - overlap) // (tile - overlap))
    starts = (index * (length - tile) // (count - 1) for index in range(count))
    return tuple(Span(start, start + tile) for start in starts)
