"""config.yaml and image_tokenizer/config.json: what is read, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dna_pipeline.providers.triposr.config import (
    FULL,
    ConfigError,
    TsrConfig,
    VitConfig,
    load_config,
)

Change = Callable[[dict[str, Any]], object]


def rewrite(folder: Path, change: Change) -> TsrConfig:
    path = folder / "config.yaml"
    document = yaml.safe_load(path.read_text())
    change(document)
    path.write_text(yaml.safe_dump(document))
    return load_config(folder)


def test_the_small_model(tiny_folder: Path) -> None:
    config = load_config(tiny_folder)
    assert config.cond_image_size == 96
    assert config.backbone.in_channels == 32  # an interpolation of tokenizer.num_channels
    assert config.backbone.norm_num_groups == 8
    assert config.decoder.n_hidden_layers == 4
    assert config.renderer.num_samples_per_ray == 48
    assert config.image_tokenizer.hidden_size == 48
    assert config.image_tokenizer.image_size == 64


def test_the_published_model_as_published(tmp_path: Path) -> None:
    """What the published config.yaml says, and leaves out, is FULL."""
    (tmp_path / "config.yaml").write_text("""\
cond_image_size: 512
image_tokenizer_cls: tsr.models.tokenizers.image.DINOSingleImageTokenizer
image_tokenizer: {pretrained_model_name_or_path: facebook/dino-vitb16}
tokenizer_cls: tsr.models.tokenizers.triplane.Triplane1DTokenizer
tokenizer: {plane_size: 32, num_channels: 1024}
backbone_cls: tsr.models.transformer.transformer_1d.Transformer1D
backbone:
  in_channels: ${tokenizer.num_channels}
  num_attention_heads: 16
  attention_head_dim: 64
  num_layers: 16
  cross_attention_dim: 768
post_processor_cls: tsr.models.network_utils.TriplaneUpsampleNetwork
post_processor: {in_channels: 1024, out_channels: 40}
decoder_cls: tsr.models.network_utils.NeRFMLP
decoder: {in_channels: 120, n_neurons: 64, n_hidden_layers: 9, activation: silu}
renderer_cls: tsr.models.nerf_renderer.TriplaneNeRFRenderer
renderer:
  radius: 0.87
  feature_reduction: concat
  density_activation: exp
  density_bias: -1.0
  num_samples_per_ray: 128
""")
    assert load_config(tmp_path) == FULL


def test_numbers_that_yaml_reads_as_text(tiny_copy: Path) -> None:
    assert rewrite(tiny_copy, lambda d: d["renderer"].update(radius="5e-1")).renderer.radius == 0.5


def test_the_encoder_without_a_file_is_dino(tiny_copy: Path) -> None:
    (tiny_copy / "image_tokenizer" / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"cross_attention_dim must be 768 .* not 48"):
        load_config(tiny_copy)
    config = rewrite(tiny_copy, lambda d: d["backbone"].update(cross_attention_dim=768))
    assert config.image_tokenizer == VitConfig()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(decoder_cls="os.system"), "decoder_cls: expected tsr.models.* 'os.sys"),
        (lambda d: d.pop("renderer_cls"), "renderer_cls: expected .* found None"),
        (lambda d: d.update(image_tokenizer_cls="tsr.Other"), "image_tokenizer_cls"),
        (lambda d: d.update(surprise=1), "unknown keys surprise"),
        (lambda d: d["decoder"].update(width=3), "decoder: unknown keys width"),
        (lambda d: d["decoder"].pop("n_neurons"), "decoder: missing keys n_neurons"),
        (lambda d: d["decoder"].update(n_neurons="many"), "decoder.n_neurons: expected int"),
        (lambda d: d["decoder"].update(n_neurons=True), "decoder.n_neurons: expected int"),
        (lambda d: d["decoder"].update(n_neurons=0), "decoder.n_neurons must be at least 1"),
        (lambda d: d["decoder"].update(in_channels=40), "decoder.in_channels must be 36"),
        (lambda d: d["post_processor"].update(in_channels=16), "post_processor.in_channels"),
        (lambda d: d["backbone"].update(norm_num_groups=5), "not a multiple of norm_num_groups"),
        (lambda d: d["backbone"].update(activation_fn="gelu"), "only 'geglu' is supported"),
        (lambda d: d["renderer"].update(radius=-1), "radius must be positive"),
        (lambda d: d["renderer"].update(feature_reduction="sum"), "must be concat or mean"),
        (lambda d: d["backbone"].update(in_channels="${tokenizer.size}"), "names nothing"),
        (
            lambda d: d["backbone"].update(in_channels="${backbone.in_channels}"),
            "cannot resolve",
        ),
        (lambda d: d.update(decoder=[1]), "decoder: expected a mapping"),
    ],
)
def test_refused(tiny_copy: Path, change: Change, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        rewrite(tiny_copy, change)
    assert str(tiny_copy / "config.yaml") in str(raised.value)


def test_yaml_that_would_run_code(tiny_copy: Path) -> None:
    proof = tiny_copy / "proof"
    (tiny_copy / "config.yaml").write_text(f"a: !!python/object/apply:os.mkdir ['{proof}']")
    with pytest.raises(ConfigError, match="not YAML"):
        load_config(tiny_copy)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a JSON object"),
        ("[]", "expected a mapping"),
        (json.dumps({"model_type": "dinov2"}), "model_type must be vit"),
        (json.dumps({"hidden_size": 50, "num_attention_heads": 3}), "not a multiple"),
        (json.dumps({"num_channels": 1}), "num_channels must be 3"),
    ],
)
def test_refused_encoder(tiny_copy: Path, text: str, message: str) -> None:
    (tiny_copy / "image_tokenizer" / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tiny_copy)


def test_a_missing_file_is_not_a_wrong_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "aliases"),
        ("a: &a {b: *a}", "aliases"),
        ("#" * (64 << 10) + "\n", "larger than 64 KiB"),
        ("[" * 20_000, "levels"),
        ("a: !!python/object/apply:os.mkdir [x]", "not YAML"),
    ],
    ids=["laughs", "circle", "size", "depth", "code"],
)
def test_what_a_hostile_config_holds(tiny_copy: Path, text: str, said: str) -> None:
    (tiny_copy / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_config(tiny_copy)


def test_a_deep_image_tokenizer(tiny_copy: Path) -> None:
    (tiny_copy / "image_tokenizer" / "config.json").write_text("[" * 200_000)
    with pytest.raises(ConfigError, match="not a JSON object"):
        load_config(tiny_copy)
