"""The network: a picture in, scene codes out."""

from collections.abc import Iterator
from functools import cache
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dna_pipeline.providers.triposr.config import (
    TriplaneConfig,
    TsrConfig,
    UpsampleConfig,
    VitConfig,
)
from dna_pipeline.providers.triposr.copies import to_device
from dna_pipeline.providers.triposr.decoder import Decoder
from dna_pipeline.providers.triposr.field import Field
from dna_pipeline.providers.triposr.transformer import Transformer
from dna_pipeline.providers.triposr.vit import Vit

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_STRIP_ROWS = 256


class ImageTokenizer(nn.Module):
    """Pixels (B, 3, H, W) in [0, 1] → tokens (B, M, D)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.model = Vit(config)

    def forward(self, pixels: Tensor) -> Tensor:
        mean, std = _imagenet(pixels.device)
        return self.model((pixels - mean) / std)


class TriplaneTokens(nn.Module):
    """The learned tokens every scene starts from, (3, C, P, P)."""

    def __init__(self, config: TriplaneConfig) -> None:
        super().__init__()
        size = config.plane_size
        self.embeddings: Tensor = nn.Parameter(torch.empty(3, config.num_channels, size, size))

    def forward(self, batch: int) -> Tensor:
        tokens = self.embeddings.transpose(0, 1).flatten(1)  # (C, 3 * P * P)
        return tokens.expand(batch, -1, -1)  # (B, C, 3 * P * P)

    def to_planes(self, tokens: Tensor) -> Tensor:
        size = self.embeddings.shape[-1]
        return tokens.view(*tokens.shape[:2], 3, size, size).transpose(1, 2)  # (B, 3, C, P, P)


class Upsample(nn.Module):
    def __init__(self, config: UpsampleConfig) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(config.in_channels, config.out_channels, 2, stride=2)

    def forward(self, planes: Tensor) -> Tensor:
        doubled = self.upsample(planes.flatten(0, 1))  # (B * 3, C', 2P, 2P)
        return doubled.unflatten(0, (-1, 3))  # (B, 3, C', 2P, 2P)


class TSR(nn.Module):
    """TripoSR. Parameter names and shapes are those of the published checkpoint."""

    def __init__(self, config: TsrConfig) -> None:
        super().__init__()
        self.config = config
        self.image_tokenizer = ImageTokenizer(config.image_tokenizer)
        self.tokenizer = TriplaneTokens(config.tokenizer)
        self.backbone = Transformer(config.backbone)
        self.post_processor = Upsample(config.post_processor)
        self.decoder = Decoder(config.decoder)

    @property
    def device(self) -> torch.device:
        return self.tokenizer.embeddings.device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the large matrix products."""
        return next(_large_layers(self)).weight.dtype

    def compute_in(self, dtype: torch.dtype) -> Self:
        """Keeps the linear layers of the two transformers' blocks in that type, and returns self.

        They are nearly all of the work. What comes before and after them, the norms and the sums
        that run from block to block stay float32: they cost little, and rounding adds up in them.
        """
        for layer in _large_layers(self):
            layer.to(dtype)
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Scene codes (B, 3, C, 2P, 2P) of pictures (B, H, W, 3) or (B, 3, H, W).

        Values are sRGB as in the file: eight bits, or floats in [0, 1] of any type; on any device.
        A picture whose second and last dimension are both 3 is taken as (B, H, W, 3).
        """
        pixels = self.pixels(image)  # (B, 3, S, S)
        image_tokens = self.image_tokenizer(pixels)  # (B, M, D)
        tokens = self.backbone(self.tokenizer(pixels.shape[0]), image_tokens)  # (B, C, 3 * P * P)
        return self.post_processor(self.tokenizer.to_planes(tokens))

    def pixels(self, image: Tensor) -> Tensor:
        """The picture at the network's size, (B, 3, S, S) float32, on its device.

        Resized first along the rows, strip by strip, so that no large picture lies in memory as
        floats.
        """
        if image.ndim != 4 or 3 not in (image.shape[1], image.shape[-1]):
            raise ValueError(f"expected (B, H, W, 3) or (B, 3, H, W), got {tuple(image.shape)}")
        if image.shape[-1] == 3:
            image = image.permute(0, 3, 1, 2)
        size = self.config.cond_image_size
        strips = [
            _resize(_unit(to_device(strip, self.device)), strip.shape[2], size)
            for strip in _strips(image)
        ]
        return _resize(torch.cat(strips, dim=2), size, size)

    def field(self, scene_code: Tensor) -> Field:
        """The field of one scene code (3, C, H, W)."""
        return Field(scene_code, self.decoder, self.config.renderer, computed_in=self.dtype)


def _large_layers(network: TSR) -> Iterator[nn.Linear]:
    parts = (network.image_tokenizer.model.encoder, network.backbone.transformer_blocks)
    return (m for part in parts for m in part.modules() if isinstance(m, nn.Linear))


@cache
def _imagenet(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation (3, 1, 1) on a device; kept there, since each copy would be waited for."""
    with torch.inference_mode(False):
        mean, std = (torch.tensor(v, device=device) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return mean[:, None, None], std[:, None, None]


def _strips(image: Tensor) -> list[Tensor]:
    """A picture (B, 3, H, W) in pieces of a few rows."""
    starts = range(0, image.shape[2], _STRIP_ROWS)
    return [image[:, :, row : row + _STRIP_ROWS] for row in starts]


def _unit(pixels: Tensor) -> Tensor:
    """Eight bits or floats in [0, 1] → float32 in [0, 1]."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()


def _resize(pixels: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(
        pixels, size=(height, width), mode="bilinear", align_corners=False, antialias=True
    )
