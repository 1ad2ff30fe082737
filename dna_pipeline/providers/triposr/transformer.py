"""The backbone: a transformer that writes the image tokens into the triplane tokens.

Shapes: B pictures, N triplane tokens, M image tokens, C channels, h heads. A block's linear
layers may compute in half precision; what runs from block to block stays float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dna_pipeline.providers.triposr.attention import attend
from dna_pipeline.providers.triposr.config import BackboneConfig

_CPU_ROWS = 1024
"""Tokens that pass the wide layer at once: its 8192 channels take 16 MB then."""


class Attention(nn.Module):
    """Attention of x to a context (to itself if none is given)."""

    def __init__(self, config: BackboneConfig, context_dim: int) -> None:
        super().__init__()
        inner, bias = config.inner_dim, config.attention_bias
        self.heads = config.num_attention_heads
        self.to_q = nn.Linear(inner, inner, bias=bias)
        self.to_k = nn.Linear(context_dim, inner, bias=bias)
        self.to_v = nn.Linear(context_dim, inner, bias=bias)
        # The second place held dropout in training.
        self.to_out = nn.ModuleList([nn.Linear(inner, inner), nn.Identity()])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x.to(self.to_q.weight.dtype)
        context = x if context is None else context.to(x.dtype)
        q, k, v = (
            y.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, h, N or M, C / h)
            for y in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        y = attend(q, k, v)
        return self.to_out[0](y.transpose(1, 2).flatten(2))  # (B, N, C)


class Geglu(nn.Module):
    """A linear layer gated by the GELU of another (Shazeer 2020, "GLU Variants")."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(size_in, 2 * size_out)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x.to(self.proj.weight.dtype)).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        # The second place held dropout in training.
        self.net = nn.Sequential(Geglu(size, 4 * size), nn.Identity(), nn.Linear(4 * size, size))

    def forward(self, x: Tensor) -> Tensor:
        rows = _CPU_ROWS if x.device.type == "cpu" else x.shape[1]
        return torch.cat([self.net(part) for part in torch.split(x, rows, dim=1)], dim=1)


class Block(nn.Module):
    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        inner = config.inner_dim
        self.norm1 = nn.LayerNorm(inner)
        self.attn1 = Attention(config, inner)
        self.norm2 = nn.LayerNorm(inner)
        self.attn2 = Attention(config, config.cross_attention_dim)
        self.norm3 = nn.LayerNorm(inner)
        self.ff = FeedForward(inner)

    def forward(self, x: Tensor, image_tokens: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), image_tokens)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    """Tokens (B, C, N) and image tokens (B, M, cross_attention_dim) → tokens (B, C, N)."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(config.norm_num_groups, config.in_channels, eps=1e-6)
        self.proj_in = nn.Linear(config.in_channels, config.inner_dim)
        self.transformer_blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.proj_out = nn.Linear(config.inner_dim, config.in_channels)

    def forward(self, tokens: Tensor, image_tokens: Tensor) -> Tensor:
        x = self.proj_in(self.norm(tokens).transpose(1, 2))  # (B, N, inner)
        for block in self.transformer_blocks:
            x = block(x, image_tokens)
        return self.proj_out(x).transpose(1, 2) + tokens  # (B, C, N)
