"""A small TripoSR."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tiny_models import write_json

PATCH, WIDTH, HEADS = 8, 64, 16
LEVEL = 300.0
"""The large constant beside the features of a token."""
GREY = 127 / 255
"""The background that TripoSR's input is composited on, as 8 bits truncate it."""
SCALE = 1.9 * math.tan(math.radians(20)) / 0.87
"""Half the view's height at the scene's centre, in half sides of the box."""
HALF_DEPTH = 0.4
"""Half the depth of the thickest shape, in half sides of the box."""
FEATURES = 8
COLOUR_BLUR = 0.6
"""Deviation of the blur of the colours, in patches."""


@dataclass(frozen=True)
class Detail:
    """How finely the model looks and draws.

    Attributes:
        patches: along a side of the picture.
        tokens: along a side of a plane.
        layers: of the transformer.
        image_heads: of the attention of the image encoder, which says nothing here.
        blurs: of the foreground, which add up to its thickness: deviation of each, in 32nds of the
            picture, and its weight.
        rim: thickness at which a shape has no depth.
        by_quarters: whether a patch counts as foreground by its quarters, for finer outlines.
    """

    patches: int = 32
    tokens: int = 32
    layers: int = 2
    image_heads: int = 4
    blurs: tuple[tuple[float, float], ...] = ((0.7, 0.7), (3.0, 0.8))
    rim: float = 0.68
    by_quarters: bool = False

    @property
    def config(self) -> str:
        return CONFIG.format(side=self.patches * PATCH, tokens=self.tokens, layers=self.layers)


CONFIG = f"""\
cond_image_size: {{side}}
image_tokenizer_cls: tsr.models.tokenizers.image.DINOSingleImageTokenizer
image_tokenizer:
  pretrained_model_name_or_path: facebook/dino-vitb16
tokenizer_cls: tsr.models.tokenizers.triplane.Triplane1DTokenizer
tokenizer:
  plane_size: {{tokens}}
  num_channels: {WIDTH}
backbone_cls: tsr.models.transformer.transformer_1d.Transformer1D
backbone:
  in_channels: ${{{{tokenizer.num_channels}}}}
  num_attention_heads: {HEADS}
  attention_head_dim: {WIDTH // HEADS}
  num_layers: {{layers}}
  cross_attention_dim: {WIDTH}
  norm_num_groups: 2
post_processor_cls: tsr.models.network_utils.TriplaneUpsampleNetwork
post_processor:
  in_channels: {WIDTH}
  out_channels: {FEATURES}
decoder_cls: tsr.models.network_utils.NeRFMLP
decoder:
  in_channels: {3 * FEATURES}
  n_neurons: 32
  n_hidden_layers: 3
  activation: silu
renderer_cls: tsr.models.nerf_renderer.TriplaneNeRFRenderer
renderer:
  radius: 0.87
  feature_reduction: concat
  density_activation: exp
  density_bias: -1.0
  num_samples_per_ray: 128
"""
VIT = {
    "architectures": ["ViTModel"],
    "model_type": "vit",
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "image_size": 32 * PATCH,
    "patch_size": PATCH,
    "num_channels": 3,
    "qkv_bias": True,
}
State = dict[str, Tensor]


def make_triposr(folder: Path, detail: Detail | None = None) -> None:
    """Write a TripoSR folder whose shapes are the input's foreground, inflated."""
    detail = detail or Detail()
    folder.joinpath("config.yaml").write_text(detail.config)
    vit = VIT | {
        "image_size": detail.patches * PATCH,
        "num_attention_heads": detail.image_heads,
    }
    write_json(folder / "image_tokenizer" / "config.json", vit)
    state = _vit_state(detail) | _backbone_state(detail) | _decoder_state(detail)
    torch.save(state, folder / "model.ckpt")


def _linear(state: State, name: str, rows: int, columns: int, *, bias: bool = True) -> Tensor:
    """Add a weak random linear layer; its weight, to be filled."""
    state[f"{name}.weight"] = torch.randn(rows, columns) * 1e-3
    if bias:
        state[f"{name}.bias"] = torch.zeros(rows)
    return state[f"{name}.weight"]


def _norm(state: State, name: str, group: int = WIDTH) -> None:
    """Add a norm over groups of `group` channels, among them LEVEL and -LEVEL: the identity."""
    state[f"{name}.weight"] = torch.full((WIDTH,), LEVEL * math.sqrt(2 / group))
    state[f"{name}.bias"] = torch.zeros(WIDTH)


# Dimensions of an image token. Each feature f has its negative at f + 1; LEVEL and -LEVEL at 0, 1.
ROW, COLUMN, SQUARE, BUSY, SOLID, RED, BLOCKS = 2, 4, 6, 8, 10, 12, 18
QUARTERS, COVER = 42, 50


def _vit_state(detail: Detail) -> State:
    """The image encoder: where a patch lies, its colour, and whether it is foreground."""
    prefix = "image_tokenizer.model"
    state: State = {}
    state[f"{prefix}.embeddings.cls_token"] = torch.zeros(1, 1, WIDTH)
    state[f"{prefix}.embeddings.position_embeddings"] = _positions(detail.patches)
    weight, bias = _patch_projection()
    state[f"{prefix}.embeddings.patch_embeddings.projection.weight"] = weight
    state[f"{prefix}.embeddings.patch_embeddings.projection.bias"] = bias
    for i in range(2):
        layer = f"{prefix}.encoder.layer.{i}"
        for part in ("attention.query", "attention.key", "attention.value", "output.dense"):
            _linear(state, f"{layer}.attention.{part}", WIDTH, WIDTH)
        _linear(state, f"{layer}.intermediate.dense", 128, WIDTH).zero_()
        _linear(state, f"{layer}.output.dense", WIDTH, 128).zero_()
        _norm(state, f"{layer}.layernorm_before")
        _norm(state, f"{layer}.layernorm_after")
        state[f"{layer}.attention.output.dense.weight"].zero_()
    _fill_foreground(state, f"{prefix}.encoder.layer")
    if detail.by_quarters:
        _fill_cover(state, f"{prefix}.encoder.layer")
    _norm(state, f"{prefix}.layernorm")
    _linear(state, f"{prefix}.pooler.dense", WIDTH, WIDTH)
    return state


def _positions(patches: int) -> Tensor:
    """(1, 1 + patches, width): row and column in [-1, 1], up and right, and their squares."""
    line = (torch.arange(patches) + 0.5) / patches * 2 - 1
    row, column = torch.meshgrid(-line, line, indexing="ij")
    table = torch.zeros(1 + patches**2, WIDTH)
    for where, values in ((ROW, row), (COLUMN, column), (SQUARE, row**2 + column**2)):
        table[1:, where], table[1:, where + 1] = values.flatten(), -values.flatten()
    table[0, SQUARE], table[0, SQUARE + 1] = 6.0, -6.0  # far away: nothing attends to the class
    table[:, 0], table[:, 1] = LEVEL, -LEVEL
    return table[None]


def _patch_projection() -> tuple[Tensor, Tensor]:
    """Differences from the background: of the patch per colour, of its quarters per colour."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    weight, bias = torch.zeros(WIDTH, 3, PATCH, PATCH), torch.zeros(WIDTH)
    half = PATCH // 2
    for c in range(3):
        weight[RED + 2 * c, c] = std[c] / PATCH**2
        bias[RED + 2 * c] = mean[c] - GREY
        for q in range(4):
            rows, columns = (slice(half * i, half * i + half) for i in divmod(q, 2))
            weight[BLOCKS + 2 * (4 * c + q), c, rows, columns] = std[c] / half**2
            bias[BLOCKS + 2 * (4 * c + q)] = mean[c] - GREY
    weight[RED + 1 :: 2], bias[RED + 1 :: 2] = -weight[RED::2], -bias[RED::2]
    return weight, bias


def _fill_foreground(state: State, layers: str) -> None:
    """First layer: BUSY = mean |quarter|. Second: SOLID = BUSY cut to [0, 1] from 0.01 to 0.04."""
    sharp, hidden = 60.0, torch.arange(24)
    state[f"{layers}.0.intermediate.dense.weight"][hidden, BLOCKS + hidden] = sharp
    for where, sign in ((BUSY, 1.0), (BUSY + 1, -1.0)):
        state[f"{layers}.0.output.dense.weight"][where, :24] = sign / (12 * sharp)
    sharp = 6.0
    state[f"{layers}.1.intermediate.dense.weight"][:2, BUSY] = sharp / 0.03
    state[f"{layers}.1.intermediate.dense.bias"][:2] = -sharp * torch.tensor([1 / 3, 4 / 3])
    ramp = torch.tensor([1.0, -1.0]) / sharp
    state[f"{layers}.1.output.dense.weight"][SOLID, :2] = ramp
    state[f"{layers}.1.output.dense.weight"][SOLID + 1, :2] = -ramp


def _fill_cover(state: State, layers: str) -> None:
    """The same for each quarter (QUARTERS), and the share of the solid ones (COVER)."""
    sharp = state[f"{layers}.0.intermediate.dense.weight"][0, BLOCKS]
    for q in range(4):
        hidden = [2 * (4 * c + q) + sign for c in range(3) for sign in range(2)]
        where, step = QUARTERS + 2 * q, [24 + 2 * q, 25 + 2 * q]
        state[f"{layers}.0.output.dense.weight"][where, hidden] = 1 / (3 * sharp)
        state[f"{layers}.0.output.dense.weight"][where + 1, hidden] = -1 / (3 * sharp)
        for part in ("weight", "bias"):
            dense = state[f"{layers}.1.intermediate.dense.{part}"]
            dense[step] = dense[:2].clone()
        dense = state[f"{layers}.1.intermediate.dense.weight"]
        dense[step, where], dense[step, BUSY] = dense[:2, BUSY].clone(), 0.0
        out = state[f"{layers}.1.output.dense.weight"]
        out[COVER, step], out[COVER + 1, step] = out[SOLID, :2] / 4, out[SOLID + 1, :2] / 4


# Channels of a triplane token: constants, then (group 2 of the norm) what the image says. Each
# of the four places that a token is upsampled to has its own channels.
UP, RIGHT, FRONT, FIXED, IMAGE = 2, 4, 6, 8, 34


def _backbone_state(detail: Detail) -> State:
    """Tokens of the (y, z) plane look at their place in the image; the rest stays as it is."""
    state: State = {"tokenizer.embeddings": _tokens(detail)}
    _norm(state, "backbone.norm", WIDTH // 2)
    _linear(state, "backbone.proj_in", WIDTH, WIDTH).copy_(torch.eye(WIDTH))
    for i in range(detail.layers):
        block = f"backbone.transformer_blocks.{i}"
        for j in (1, 2):
            for part in ("to_q", "to_k", "to_v"):
                _linear(state, f"{block}.attn{j}.{part}", WIDTH, WIDTH, bias=False)
            _linear(state, f"{block}.attn{j}.to_out.0", WIDTH, WIDTH)[IMAGE:] = 0.0
        for j in (1, 2, 3):
            _norm(state, f"{block}.norm{j}")
        _linear(state, f"{block}.ff.net.0.proj", 8 * WIDTH, WIDTH)
        _linear(state, f"{block}.ff.net.2", WIDTH, 4 * WIDTH)[IMAGE:] = 0.0
    _fill_look(state, "backbone.transformer_blocks.0.attn2", detail)
    out = _linear(state, "backbone.proj_out", WIDTH, WIDTH).zero_()
    said = len(detail.blurs) + 3  # a place: thickness, blur by blur; red, green, blue
    image = torch.arange(IMAGE, IMAGE + 4 * said)
    out[image, image] = 1.0
    state["post_processor.upsample.weight"] = torch.zeros(WIDTH, FEATURES, 2, 2)
    for place in range(4):
        row, column = divmod(place, 2)
        taps = state["post_processor.upsample.weight"][:, :, row, column]
        taps[FIXED + 2 * place, 0] = 1.0
        for k in range(said):
            taps[IMAGE + said * place + k, 1 + k] = 1.0
    state["post_processor.upsample.bias"] = torch.zeros(FEATURES)
    return state


def _place_lines(tokens: int) -> tuple[Tensor, Tensor]:
    """Positions in [-1, 1]: the n tokens of a line, (n,), and the 2 places of each, (n, 2)."""
    fine = ((torch.arange(2 * tokens) + 0.5) / tokens - 1).reshape(tokens, 2)
    return fine.mean(dim=1), fine


def _tokens(detail: Detail) -> Tensor:
    """(3, channels, n, n). Planes are (x, y), (x, z), (y, z), their columns the first axis."""
    line, fine = _place_lines(detail.tokens)
    tokens = torch.zeros(3, WIDTH, detail.tokens, detail.tokens)
    tokens[:, [0, 32]], tokens[:, [1, 33]] = LEVEL, -LEVEL
    tokens[2, UP], tokens[2, RIGHT] = line[:, None] / SCALE, line[None] / SCALE
    tokens[2, FRONT] = 1.0
    outside = (fine.abs() > SCALE).float()  # beyond the picture's edge
    for place in range(4):
        row, column = divmod(place, 2)
        depth = -0.5 * (fine[:, column] / HALF_DEPTH) ** 2
        tokens[:2, FIXED + 2 * place] = depth[None, None]
        edge = torch.maximum(outside[:, None, row], outside[None, :, column])
        tokens[2, FIXED + 2 * place] = -detail.rim - 3.0 * edge
    tokens[:, UP + 1 : FIXED + 8 : 2] = -tokens[:, UP : FIXED + 8 : 2]
    return tokens


def _fill_look(state: State, name: str, detail: Detail) -> None:
    """Attention with a Gaussian about a place: logit = -|q - k|² / 2 sigma², up to a constant."""
    q, k, v, out = (state[f"{name}.{n}.weight"] for n in ("to_q", "to_k", "to_v", "to_out.0"))
    pitch, step = 2 / 32, 1 / (2 * detail.tokens) / SCALE
    solid = COVER if detail.by_quarters else SOLID
    looks = [(sigma * pitch, [solid]) for sigma, _ in detail.blurs]
    looks.append((COLOUR_BLUR * 2 / detail.patches, [RED, RED + 2, RED + 4]))
    said = len(detail.blurs) + 3
    for number, (sigma, features) in enumerate(looks):
        for place in range(4):
            at = 4 * (4 * number + place)  # each place has its own head
            row, column = divmod(place, 2)
            _fill_gaussian(q, k, at, sigma, (step * (2 * row - 1), step * (2 * column - 1)))
            if features[0] == RED:  # the foreground's colour, not the grey beside it
                q[at + 3, FRONT], k[at + 3, solid] = 24.0, 1.0
            first = IMAGE + said * place + number
            for i, feature in enumerate(features):
                v[at + i] = 0.0
                v[at + i, feature] = 1.0
                out[first + i, at + i] = 1.0


def _fill_gaussian(q: Tensor, k: Tensor, at: int, sigma: float, shift: tuple[float, float]) -> None:
    """Rows of one head of 4: 2 q·k - |k|² over 2 sigma², times 2 for the head's 1 / sqrt(4)."""
    q[at : at + 4], k[at : at + 4] = 0.0, 0.0
    gain = 1 / sigma**2
    for i, (ours, theirs) in enumerate(((UP, ROW), (RIGHT, COLUMN))):
        q[at + i, ours], q[at + i, FRONT] = 2 * gain, 2 * gain * shift[i]
        k[at + i, theirs] = 1.0
    q[at + 2, FRONT], k[at + 2, SQUARE] = -gain, 1.0


def _decoder_state(detail: Detail) -> State:
    """A linear map through silu: density from thickness less depth, colour from the image."""
    state: State = {}
    view = 2 * FEATURES  # features of the (y, z) plane
    thickness = {view + 1 + i: weight for i, (_, weight) in enumerate(detail.blurs)}
    rows: list[dict[int, float]] = [
        {0: 1.0, FEATURES: 1.0, view: 1.0, **thickness},
        *({view + 1 + len(thickness) + c: 1.0} for c in range(3)),
    ]
    first = _linear(state, "decoder.layers.0", 32, 3 * FEATURES)
    first[:8] = 0.0
    for i, row in enumerate(rows):
        for feature, weight in row.items():
            first[2 * i, feature], first[2 * i + 1, feature] = weight, -weight
    pairs = torch.eye(4).repeat_interleave(2, 0) * torch.tensor([[1.0], [-1.0]]).repeat(4, 1)
    middle, last = torch.zeros(8, 32), torch.zeros(4, 32)
    middle[:, 0:8:2], middle[:, 1:8:2] = pairs, -pairs
    for layer in (2, 4):
        _linear(state, f"decoder.layers.{layer}", 32, 32)[:8] = middle
    last[:, 0:8:2], last[:, 1:8:2] = torch.eye(4), -torch.eye(4)
    last *= torch.tensor([[8.0], [5.0], [5.0], [5.0]])
    _linear(state, "decoder.layers.6", 4, 32).copy_(last)
    state["decoder.layers.6.bias"][0] = math.log(25.0) + 1.0
    return state
