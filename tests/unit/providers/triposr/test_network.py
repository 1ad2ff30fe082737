"""From picture to scene codes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dna_pipeline.providers.triposr.activations import activation
from dna_pipeline.providers.triposr.config import ConfigError, TsrConfig, VitConfig
from dna_pipeline.providers.triposr.network import TSR
from dna_pipeline.providers.triposr.vit import Embeddings


@torch.inference_mode()
def test_scene_codes(tiny: TSR, conditioned: torch.Tensor, expected: Mapping[str, Any]) -> None:
    codes = tiny(conditioned).numpy()
    scale = np.abs(expected["scene_codes"]).max()
    np.testing.assert_allclose(codes, expected["scene_codes"], rtol=0, atol=1e-5 * scale)


@torch.inference_mode()
def test_channels_first_and_batches(tiny: TSR, conditioned: torch.Tensor) -> None:
    flipped = conditioned.flip(2)
    both = tiny(torch.cat([conditioned, flipped]).permute(0, 3, 1, 2))
    torch.testing.assert_close(both[:1], tiny(conditioned), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both[1:], tiny(flipped), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both[0], both[1], atol=1e-3)


@pytest.mark.parametrize("shape", [(96, 96, 3), (1, 96, 96, 4), (1, 1, 96, 96)])
def test_other_shapes_are_refused(tiny: TSR, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        tiny(torch.zeros(shape))


@torch.inference_mode()
def test_every_size_comes_from_the_configuration(tiny: TSR) -> None:
    """Sizes unlike the small model's, none dividing another by chance."""
    small = tiny.config
    config = TsrConfig(
        cond_image_size=100,  # no multiple of the patch
        image_tokenizer=VitConfig(
            hidden_size=30,
            num_hidden_layers=1,
            num_attention_heads=3,
            intermediate_size=50,
            image_size=56,
            patch_size=8,
            qkv_bias=False,
            hidden_act="quick_gelu",
        ),
        tokenizer=replace(small.tokenizer, plane_size=5, num_channels=12),
        backbone=replace(
            small.backbone,
            in_channels=12,
            num_attention_heads=2,
            attention_head_dim=7,
            num_layers=3,
            cross_attention_dim=30,
            norm_num_groups=4,
            attention_bias=True,
        ),
        post_processor=replace(small.post_processor, in_channels=12, out_channels=6),
        decoder=replace(small.decoder, in_channels=6, n_neurons=9, n_hidden_layers=1, bias=False),
        renderer=replace(small.renderer, feature_reduction="mean"),
    )
    model = TSR(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    codes = model(torch.rand(2, 40, 70, 3))
    assert codes.shape == (2, 3, 6, 10, 10)
    assert codes.isfinite().all()
    density, color = model.field(codes[1]).density_and_color(torch.zeros(5, 3))
    assert density.shape == (5,)
    assert color.shape == (5, 3)


def test_position_embeddings_of_the_trained_grid_are_used_as_they_are() -> None:
    embeddings = Embeddings(VitConfig(hidden_size=4, num_attention_heads=1, image_size=48))
    torch.nn.init.normal_(embeddings.position_embeddings)
    assert torch.equal(embeddings.positions(3, 3), embeddings.position_embeddings)
    assert embeddings.positions(5, 2).shape == (1, 1 + 5 * 2, 4)


def test_position_embeddings_are_sampled_a_tenth_of_a_patch_too_densely() -> None:
    """A ramp shows where the samples lie, to what the bicubic kernel does to a ramp."""
    grid, rows = 16, 8
    config = VitConfig(hidden_size=1, num_attention_heads=1, image_size=grid * 16)
    embeddings = Embeddings(config)
    ramp = torch.arange(grid, dtype=torch.float32)[:, None].expand(grid, grid)
    embeddings.position_embeddings = torch.nn.Parameter(
        torch.cat([torch.zeros(1), ramp.flatten()])[None, :, None]
    )
    sampled = embeddings.positions(rows, grid)[0, 1:, 0].view(rows, grid)[2:-2, 0]
    where = (torch.arange(rows) + 0.5) * grid / (rows + 0.1) - 0.5
    even = (torch.arange(rows) + 0.5) * grid / rows - 0.5
    torch.testing.assert_close(sampled, where[2:-2], rtol=0, atol=0.04)
    assert (even - where)[2:-2].min() > 0.06


def test_activations() -> None:
    x = torch.tensor([-2.0, 0.0, 3.0])
    assert torch.equal(activation("relu")(x), torch.tensor([0.0, 0.0, 3.0]))
    assert torch.equal(activation("trunc_exp")(x), torch.exp(x))
    torch.testing.assert_close(activation("shifted_softplus")(x), torch.log1p(torch.exp(x - 1)))
    with pytest.raises(ConfigError, match="unknown activation 'eval'"):
        activation("eval")
