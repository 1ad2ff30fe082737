"""The model's dimensions, read from `config.yaml` and `image_tokenizer/config.json`.

Both files are untrusted data: they name classes, and those names are compared, never imported.
The defaults of the dataclasses are the values of the published model.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import yaml

Json = Mapping[str, Any]


class ConfigError(ValueError):
    """The model's configuration cannot be read, or asks for something this library lacks."""


@dataclass(frozen=True)
class VitConfig:
    """The image encoder; defaults are DINO ViT-B/16, which the checkpoint's folder omits."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    qkv_bias: bool = True
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"

    def __post_init__(self) -> None:
        _require_positive("image_tokenizer/config.json", self)
        _require_divides(
            "hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads
        )
        if self.num_channels != 3:
            raise ConfigError(f"image_tokenizer: num_channels must be 3, not {self.num_channels}")
        if self.image_size < self.patch_size:
            raise ConfigError("image_tokenizer: image_size is smaller than patch_size")


@dataclass(frozen=True)
class TriplaneConfig:
    """The learned tokens: three planes of plane_size² tokens."""

    plane_size: int = 32
    num_channels: int = 1024


@dataclass(frozen=True)
class BackboneConfig:
    """The transformer that writes the image into the triplane tokens."""

    in_channels: int = 1024
    num_attention_heads: int = 16
    attention_head_dim: int = 64
    num_layers: int = 16
    cross_attention_dim: int = 768
    norm_num_groups: int = 32
    attention_bias: bool = False

    @property
    def inner_dim(self) -> int:
        return self.num_attention_heads * self.attention_head_dim


@dataclass(frozen=True)
class UpsampleConfig:
    """The transposed convolution that doubles the planes."""

    in_channels: int = 1024
    out_channels: int = 40


@dataclass(frozen=True)
class DecoderConfig:
    """The MLP from plane features to density and colour."""

    in_channels: int = 120
    n_neurons: int = 64
    n_hidden_layers: int = 9
    activation: str = "silu"
    bias: bool = True


@dataclass(frozen=True)
class RendererConfig:
    """How plane features become density and colour, and how rays are sampled.

    `radius` is half the side of the scene's box, in TripoSR's units.
    """

    radius: float = 0.87
    feature_reduction: str = "concat"
    density_activation: str = "exp"
    density_bias: float = -1.0
    color_activation: str = "sigmoid"
    num_samples_per_ray: int = 128

    def __post_init__(self) -> None:
        if self.feature_reduction not in ("concat", "mean"):
            raise ConfigError(
                f"renderer: feature_reduction must be concat or mean, not {self.feature_reduction}"
            )
        if not (math.isfinite(self.radius) and self.radius > 0):
            raise ConfigError(f"renderer: radius must be positive, not {self.radius}")

    @property
    def planes_per_feature(self) -> int:
        """Number of planes whose channels stand side by side in one feature vector."""
        return 3 if self.feature_reduction == "concat" else 1


@dataclass(frozen=True)
class TsrConfig:
    """The whole model. Raises ConfigError if the parts do not fit together."""

    cond_image_size: int = 512
    image_tokenizer: VitConfig = field(default_factory=VitConfig)
    tokenizer: TriplaneConfig = field(default_factory=TriplaneConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    post_processor: UpsampleConfig = field(default_factory=UpsampleConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    renderer: RendererConfig = field(default_factory=RendererConfig)

    def __post_init__(self) -> None:
        for name in ("tokenizer", "backbone", "post_processor", "decoder", "renderer"):
            _require_positive(name, getattr(self, name))
        channels = self.tokenizer.num_channels
        _require_equal("backbone.in_channels", self.backbone.in_channels, channels)
        _require_equal("post_processor.in_channels", self.post_processor.in_channels, channels)
        _require_equal(
            "backbone.cross_attention_dim",
            self.backbone.cross_attention_dim,
            self.image_tokenizer.hidden_size,
        )
        _require_equal(
            "decoder.in_channels",
            self.decoder.in_channels,
            self.post_processor.out_channels * self.renderer.planes_per_feature,
        )
        _require_divides("in_channels", channels, "norm_num_groups", self.backbone.norm_num_groups)
        if self.cond_image_size < self.image_tokenizer.patch_size:
            raise ConfigError("cond_image_size is smaller than one patch")


_SECTIONS: dict[str, tuple[type, str]] = {
    "tokenizer": (TriplaneConfig, "tsr.models.tokenizers.triplane.Triplane1DTokenizer"),
    "backbone": (BackboneConfig, "tsr.models.transformer.transformer_1d.Transformer1D"),
    "post_processor": (UpsampleConfig, "tsr.models.network_utils.TriplaneUpsampleNetwork"),
    "decoder": (DecoderConfig, "tsr.models.network_utils.NeRFMLP"),
    "renderer": (RendererConfig, "tsr.models.nerf_renderer.TriplaneNeRFRenderer"),
}
_IMAGE_TOKENIZER_CLASS = "tsr.models.tokenizers.image.DINOSingleImageTokenizer"

# Keys of the original that matter to training alone.
_INERT = {
    "backbone": {"dropout", "gradient_checkpointing"},
    "decoder": {"weight_init", "bias_init"},
    "renderer": {"randomized"},
    "image_tokenizer": {"pretrained_model_name_or_path", "enable_gradient_checkpointing"},
}
# Keys of the original of which this library knows one value.
_FIXED: dict[str, dict[str, Any]] = {
    "backbone": {
        "activation_fn": "geglu",
        "norm_type": "layer_norm",
        "norm_elementwise_affine": True,
        "only_cross_attention": False,
        "double_self_attention": False,
        "upcast_attention": False,
        "out_channels": None,
    },
}
# Keys that may be left out: there the original's default is the published model's value.
_OPTIONAL = {
    "tokenizer": {"plane_size", "num_channels"},
    "backbone": {"num_attention_heads", "norm_num_groups", "attention_bias"},
    "post_processor": set[str](),
    "decoder": {"bias"},
    "renderer": {member.name for member in fields(RendererConfig)} - {"radius"},
    "image_tokenizer": {member.name for member in fields(VitConfig)},
}
_INTERPOLATION = re.compile(r"\$\{\s*([A-Za-z_][\w.]*)\s*\}")
_MAX_INTERPOLATION_DEPTH = 8
_MAX_BYTES = 64 << 10
_MAX_DEPTH = 8
"""Of config.yaml; the published one has 1 KiB and two levels."""


def load_config(folder: Path) -> TsrConfig:
    """Reads `folder/config.yaml` and, where it exists, `folder/image_tokenizer/config.json`.

    Raises FileNotFoundError if there is no config.yaml, and ConfigError naming the file and the
    key for anything else.
    """
    path = folder / "config.yaml"
    try:
        raw = _load_yaml(path)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    try:
        document = _resolve(_mapping(raw, "the file"))
        return _build(document, _load_vit(folder / "image_tokenizer" / "config.json"))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _load_yaml(path: Path) -> Any:
    """The document of a file that nobody vouches for: small, flat, and no alias in it."""
    with path.open("rb") as file:
        text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise ConfigError(f"{path}: larger than {_MAX_BYTES >> 10} KiB")
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    for event in cast(Any, yaml).parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > _MAX_DEPTH:
            raise ConfigError(f"{path}: aliases, or more than {_MAX_DEPTH} levels, are not read")
    return yaml.load(text, Loader=loader)


def _build(document: Json, vit: VitConfig) -> TsrConfig:
    keys = {"cond_image_size", "image_tokenizer", "image_tokenizer_cls"}
    keys |= {key for name in _SECTIONS for key in (name, f"{name}_cls")}
    _require_known("the file", document, keys)
    _require_class(document, "image_tokenizer", _IMAGE_TOKENIZER_CLASS)
    image_tokenizer = _mapping(document.get("image_tokenizer") or {}, "image_tokenizer")
    _require_known("image_tokenizer", image_tokenizer, _INERT["image_tokenizer"])
    parts: dict[str, Any] = {}
    for name, (kind, class_name) in _SECTIONS.items():
        _require_class(document, name, class_name)
        parts[name] = _section(name, kind, _mapping(document.get(name), name))
    size = _convert("cond_image_size", int, document.get("cond_image_size"))
    return TsrConfig(cond_image_size=size, image_tokenizer=vit, **parts)


def _load_vit(path: Path) -> VitConfig:
    """Reads a transformers ViTConfig; keys that change nothing in inference are left out."""
    if not path.exists():
        return VitConfig()
    try:
        raw = _mapping(json.loads(path.read_text(encoding="utf-8")), "the file")
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not a JSON object: {error}") from error
    if raw.get("model_type", "vit") != "vit":
        raise ConfigError(f"{path}: model_type must be vit, not {raw['model_type']}")
    used = {f.name: raw[f.name] for f in fields(VitConfig) if f.name in raw}
    return _section("image_tokenizer", VitConfig, used)


def _section(name: str, kind: type, values: Json) -> Any:
    """One dataclass from one mapping."""
    types = {member.name: cast(type, member.type) for member in fields(kind)}
    fixed = _FIXED.get(name, {})
    _require_known(name, values, {*types, *_INERT.get(name, ()), *fixed})
    for key, only in fixed.items():
        if values.get(key, only) != only:
            raise ConfigError(f"{name}.{key}: only {only!r} is supported, not {values[key]!r}")
    missing = types.keys() - values.keys() - _OPTIONAL[name]
    if missing:
        raise ConfigError(f"{name}: missing keys {', '.join(sorted(missing))}")
    return kind(
        **{
            key: _convert(f"{name}.{key}", types[key], values[key])
            for key in types
            if key in values
        }
    )


def _convert(name: str, kind: type, value: Any) -> Any:
    """Checks a scalar's type; YAML 1.1 reads `1e-5` as text, so floats may come as text."""
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    elif isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    raise ConfigError(f"{name}: expected {kind.__name__}, found {value!r}")


def _resolve(document: Json) -> Json:
    """Replaces every `${section.key}` by the value that stands there."""

    def value_of(value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            return {k: value_of(v, depth) for k, v in cast(Json, value).items()}
        if not isinstance(value, str) or "${" not in value:
            return value
        reference = _INTERPOLATION.fullmatch(value.strip())
        if reference is None or depth == 0:
            raise ConfigError(f"cannot resolve {value!r}")
        return value_of(_look_up(document, reference[1]), depth - 1)

    return cast(Json, value_of(document, _MAX_INTERPOLATION_DEPTH))


def _look_up(document: Json, dotted: str) -> Any:
    node: Any = document
    for key in dotted.split("."):
        if not isinstance(node, Mapping) or key not in node:
            raise ConfigError(f"${{{dotted}}} names nothing in this file")
        node = cast(Json, node)[key]
    return node


def _mapping(value: Any, name: str) -> Json:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}: expected a mapping, found {value!r}")
    return cast(Json, value)


def _require_class(document: Json, name: str, expected: str) -> None:
    value = document.get(f"{name}_cls")
    if value != expected:
        raise ConfigError(f"{name}_cls: expected {expected}, found {value!r}")


def _require_known(name: str, values: Json, keys: set[str]) -> None:
    unknown = [str(key) for key in values if key not in keys]
    if unknown:
        raise ConfigError(f"{name}: unknown keys {', '.join(unknown)}")


def _require_positive(name: str, part: Any) -> None:
    for member in fields(part):
        value = getattr(part, member.name)
        if isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise ConfigError(f"{name}.{member.name} must be at least 1, not {value}")


def _require_equal(name: str, value: int, expected: int) -> None:
    if value != expected:
        raise ConfigError(f"{name} must be {expected} to fit the other parts, not {value}")


def _require_divides(name: str, value: int, by: str, divisor: int) -> None:
    if value % divisor:
        raise ConfigError(f"{name} {value} is not a multiple of {by} {divisor}")


FULL = TsrConfig()
"""The published model."""
