"""The image encoder: a vision transformer (Dosovitskiy et al. 2020; weights of DINO).

Module names are those of transformers before version 5, so that the checkpoint's names map one
to one. Shapes: B pictures, N = 1 + patches tokens, D hidden size, h heads. A layer's linear
parts may compute in half precision; what runs from layer to layer stays float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dna_pipeline.providers.triposr.activations import activation
from dna_pipeline.providers.triposr.attention import attend
from dna_pipeline.providers.triposr.config import VitConfig


class PatchEmbeddings(nn.Module):
    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        patch = config.patch_size
        self.projection = nn.Conv2d(config.num_channels, config.hidden_size, patch, stride=patch)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.projection(pixels)  # (B, D, H/patch, W/patch)


class Embeddings(nn.Module):
    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.grid = config.image_size // config.patch_size
        self.cls_token: Tensor = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.position_embeddings: Tensor = nn.Parameter(
            torch.empty(1, 1 + self.grid**2, config.hidden_size)
        )
        self.patch_embeddings = PatchEmbeddings(config)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embeddings(pixels)  # (B, D, rows, columns)
        rows, columns = patches.shape[-2:]
        tokens = patches.flatten(2).transpose(1, 2)  # (B, rows * columns, D)
        cls = self.cls_token.expand(tokens.shape[0], -1, -1)
        return torch.cat([cls, tokens], dim=1) + self.positions(rows, columns)

    def positions(self, rows: int, columns: int) -> Tensor:
        """Position embeddings of a grid of patches, (1, 1 + rows * columns, D).

        The scale factor is 0.1 patch too large, as in DINO's interpolation, and the resampling
        uses it as it is: one computed again from the sizes moves every sample.
        """
        if rows == columns == self.grid:
            return self.position_embeddings
        cls, grid = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        grid = grid.transpose(1, 2).reshape(1, -1, self.grid, self.grid)  # (1, D, grid, grid)
        scale = ((rows + 0.1) / self.grid, (columns + 0.1) / self.grid)
        resized = F.interpolate(
            grid,
            scale_factor=scale,
            mode="bicubic",
            align_corners=False,
            recompute_scale_factor=False,
        )  # (1, D, rows, columns)
        return torch.cat([cls, resized.flatten(2).transpose(1, 2)], dim=1)


class SelfAttention(nn.Module):
    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        size = config.hidden_size
        self.query = nn.Linear(size, size, bias=config.qkv_bias)
        self.key = nn.Linear(size, size, bias=config.qkv_bias)
        self.value = nn.Linear(size, size, bias=config.qkv_bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.query.weight.dtype)
        q, k, v = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, h, N, D / h)
            for layer in (self.query, self.key, self.value)
        )
        y = attend(q, k, v)
        return y.transpose(1, 2).flatten(2)  # (B, N, D)


class Dense(nn.Module):
    """A linear layer under the name `dense`, with an optional activation."""

    def __init__(self, size_in: int, size_out: int, activation_name: str = "identity") -> None:
        super().__init__()
        self.dense = nn.Linear(size_in, size_out)
        self.activation = activation(activation_name)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.dense(x.to(self.dense.weight.dtype)))


class Attention(nn.Module):
    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.output = Dense(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.attention(x))


class Layer(nn.Module):
    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.layer_norm_eps
        self.attention = Attention(config)
        self.intermediate = Dense(size, config.intermediate_size, config.hidden_act)
        self.output = Dense(config.intermediate_size, size)
        self.layernorm_before = nn.LayerNorm(size, eps=eps)
        self.layernorm_after = nn.LayerNorm(size, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.layernorm_before(x))
        return x + self.output(self.intermediate(self.layernorm_after(x)))


class Encoder(nn.Module):
    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x)
        return x


class Vit(nn.Module):
    """Pixels (B, 3, H, W), normalised → tokens (B, 1 + patches, D), the class token first.

    The pooler is in the checkpoint and takes no part.
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = Dense(config.hidden_size, config.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layernorm(self.encoder(self.embeddings(pixels)))
