"""Recognition of a model's file by the names and shapes of its tensors.

A checkpoint, a VAE and a LoRA have the same endings and are offered on the same pages, so that
people put the one where the other belongs. The names of tensors are those of the programs that
trained the models: of the original Stable Diffusion ("LDM"), of Diffusers, of kohya's scripts,
LyCORIS and PEFT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dna_pipeline.weights.architectures import (
    SD1,
    SD2,
    SDXL,
    UNET_PREFIXES,
    Shapes,
    architecture_of_adapter,
    context_width,
    diffusion_model,
    family_of_width,
)
from dna_pipeline.weights.headers import Format, Header, read_header


class Kind(StrEnum):
    """The purpose of a file; the value is its name in sentences."""

    CHECKPOINT = "checkpoint"
    UNET = "diffusion model"
    VAE = "VAE"
    TEXT_ENCODER = "text encoder"
    SAFETY_CHECKER = "safety checker"
    IMAGE_ENCODER = "image encoder"
    LORA = "LoRA"
    LYCORIS = "LyCORIS"
    CONTROLNET = "ControlNet"
    T2I_ADAPTER = "T2I-Adapter"
    IP_ADAPTER = "IP-Adapter"
    MOTION_MODULE = "motion module"
    EMBEDDING = "textual inversion"
    UPSCALER = "upscaler"
    TRIPOSR = "TripoSR"
    ONNX = "ONNX model"
    GGUF = "GGUF file"
    NO_WEIGHTS = "no weights"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file as `recognise` describes it.

    Attributes:
        architecture: name of the model or of the family of models that it belongs to, such as
            `SD1`; "" if that is not known.
        layout: whose names its tensors have, `ldm` or `diffusers`; "" if that does not matter.
        parts: of a checkpoint, those of `unet`, `vae`, `text_encoder` that it has.
        in_channels: number of channels that its UNet reads; None if it has none.
        latent_channels: number of channels of a VAE's latents; None if it is none.
        header: the facts that the answer comes from.
    """

    kind: Kind
    header: Header
    architecture: str = ""
    layout: str = ""
    parts: frozenset[str] = frozenset()
    in_channels: int | None = None
    latent_channels: int | None = None

    @property
    def damage(self) -> str:
        """A clause that says how the file is damaged; "" if nothing is known to be wrong."""
        return self.header.damage


def recognise(path: Path) -> ModelFile:
    """Recognise a file by its header. Raises OSError if it cannot be read."""
    return recognise_header(read_header(path))


def recognise_header(header: Header) -> ModelFile:
    """Recognise a file by the facts in its header."""
    if header.format is Format.ONNX:
        return ModelFile(Kind.ONNX, header)
    if header.format is Format.GGUF:
        return ModelFile(Kind.GGUF, header)
    if header.format in (Format.SAFETENSORS, Format.PICKLE, Format.UNKNOWN, Format.TORCHSCRIPT):
        answers = (rule(header) for rule in _RULES)
        return next((a for a in answers if a is not None), ModelFile(Kind.UNKNOWN, header))
    return ModelFile(Kind.NO_WEIGHTS, header)


# --- rules, each of which gives an answer or None ---


def _ip_adapter(header: Header) -> ModelFile | None:
    if not _starts(header.tensors, "ip_adapter.", "image_proj."):
        return None
    width = context_width(header.tensors, "to_k_ip")
    return ModelFile(Kind.IP_ADAPTER, header, family_of_width(width))


def _controlnet(header: Header) -> ModelFile | None:
    names = header.tensors
    is_one = _starts(names, "control_model.", "controlnet_") or any(
        f"{prefix}{name}" in names
        for prefix in ("", "module.")
        for name in ("input_hint_block.0.weight", "zero_convs.0.0.weight", "lora_controlnet")
    )
    if not is_one:
        return None
    return ModelFile(Kind.CONTROLNET, header, family_of_width(context_width(names)))


_LYCORIS = ("hada_w1_a", "lokr_w1", "lokr_w2", "oft_blocks", "oft_diag", "on_input", ".b1.weight")
_LORA = (
    ".lora_down.", ".lora_up.", ".lora_A.", ".lora_B.", ".lora.down.", ".lora.up.",
    "_lora.down.", "_lora.up.", "lora_linear_layer.", ".lora_mid.", ".dora_scale", ".diff_b",
)  # fmt: skip


def _lora(header: Header) -> ModelFile | None:
    names = header.tensors
    is_foreign = not _starts(names, "lora_", "lycoris_", "oft_", "unet.", "text_encoder.")
    is_lycoris = any(word in name for name in names for word in _LYCORIS)
    if is_lycoris and not (is_foreign and not _has(names, "hada_w1_a", "lokr_w")):
        return ModelFile(Kind.LYCORIS, header, architecture_of_adapter(names))
    if _has(names, *_LORA) or (not is_foreign and _ends(names, ".diff")):
        return ModelFile(Kind.LORA, header, architecture_of_adapter(names))
    return None


def _t2i_adapter(header: Header) -> ModelFile | None:
    marks = ("body.0.block1.weight", "body.0.in_conv.weight", "body.0.resnets.0.block1.weight",
             "body.0.body.0.block1.weight")  # fmt: skip
    is_one = any(
        f"{prefix}{mark}" in header.tensors for prefix in ("", "adapter.") for mark in marks
    )
    return ModelFile(Kind.T2I_ADAPTER, header) if is_one else None


def _motion_module(header: Header) -> ModelFile | None:
    is_one = _has(header.tensors, "motion_modules.") and not _starts(header.tensors, *_LDM_PARTS)
    return ModelFile(Kind.MOTION_MODULE, header) if is_one else None


def _triposr(header: Header) -> ModelFile | None:
    names = header.tensors
    is_one = _starts(names, "image_tokenizer.") and _starts(names, "post_processor.", "backbone.")
    return ModelFile(Kind.TRIPOSR, header) if is_one else None


_EMBEDDING_NAMES = {"emb_params", "string_to_param.*", "clip_l", "clip_g", "t5xxl"}
_TEXT_WIDTHS = {768: SD1, 1024: SD2, 1280: SDXL}
_EMBEDDING_WIDTHS = {**_TEXT_WIDTHS, 2048: SDXL}


def _embedding(header: Header) -> ModelFile | None:
    names = header.tensors
    own = _EMBEDDING_NAMES & names.keys() or {n for n in names if n.startswith("string_to_param")}
    is_single = len(names) == 1 and all("." not in name for name in names)
    if not own and not is_single:
        return None
    shape = names[next(iter(own or names))]
    if not own and not (len(shape) in (1, 2) and shape[-1] in _EMBEDDING_WIDTHS):
        return None
    architecture = SDXL if "clip_g" in names else _EMBEDDING_WIDTHS.get(shape[-1], "")
    return ModelFile(Kind.EMBEDDING, header, architecture)


_TEXT_PREFIXES = ("cond_stage_model.", "conditioner.", "text_encoders.")
_VAE_PREFIXES = ("first_stage_model.", "vae.")
_LDM_PARTS = (*UNET_PREFIXES[:1], *_TEXT_PREFIXES, *_VAE_PREFIXES)


def _checkpoint(header: Header) -> ModelFile | None:
    names = header.tensors
    parts = frozenset(
        part
        for part, prefixes in (
            ("unet", ("model.diffusion_model.",)),
            ("text_encoder", _TEXT_PREFIXES),
            ("vae", _VAE_PREFIXES),
        )
        if _starts(names, *prefixes)
    )
    if "unet" not in parts:
        return None
    model = diffusion_model(names, "model.diffusion_model.")
    kind = Kind.UNET if len(parts) == 1 else Kind.CHECKPOINT
    return ModelFile(kind, header, model.architecture, "ldm", parts, model.in_channels)


def _bare_diffusion_model(header: Header) -> ModelFile | None:
    for prefix in UNET_PREFIXES:
        model = diffusion_model(header.tensors, prefix)
        if model.layout:
            return ModelFile(
                Kind.UNET, header, model.architecture, model.layout, frozenset({"unet"}),
                model.in_channels,
            )  # fmt: skip
    return None


def _vae(header: Header) -> ModelFile | None:
    for prefix in ("", *_VAE_PREFIXES, "model."):
        inner = {
            n.removeprefix(prefix): s for n, s in header.tensors.items() if n.startswith(prefix)
        }
        is_ldm = _starts(inner, "decoder.up.0.block.", "encoder.down.0.block.")
        is_diffusers = _starts(inner, "decoder.up_blocks.", "encoder.down_blocks.")
        if not is_ldm and not is_diffusers:
            continue
        shape = inner.get("decoder.conv_in.weight", ())
        latents = shape[1] if len(shape) > 1 else None
        layout = "ldm" if is_ldm else "diffusers"
        return ModelFile(Kind.VAE, header, layout=layout, latent_channels=latents)
    return None


def _text_encoder(header: Header) -> ModelFile | None:
    names = header.tensors
    if "concept_embeds" in names:
        return ModelFile(Kind.SAFETY_CHECKER, header)
    widths = {
        shape[-1]: name
        for name, shape in names.items()
        if name.endswith(("token_embedding.weight", "shared.weight")) and shape
    }
    if widths and _has(names, "self_attn.", "resblocks.", "SelfAttention."):
        width = next(iter(widths))
        is_clip = widths[width].endswith("token_embedding.weight")
        family = _TEXT_WIDTHS.get(width, "") if is_clip else "T5"
        return ModelFile(Kind.TEXT_ENCODER, header, family)
    if _has(names, "vision_model.", "visual.transformer."):
        return ModelFile(Kind.IMAGE_ENCODER, header)
    return None


def _upscaler(header: Header) -> ModelFile | None:
    marks = ("model.1.sub.0.", "body.0.rdb1.", "RRDB_trunk.0.", "layers.0.residual_group.",
             "body.0.RDB1.")  # fmt: skip
    names = header.tensors
    is_compact = {"body.0.weight", "body.1.weight", "body.2.weight"} <= names.keys()
    is_one = _starts(names, *marks, *(f"module.{mark}" for mark in marks)) or is_compact
    return ModelFile(Kind.UPSCALER, header) if is_one else None


_RULES: tuple[Callable[[Header], ModelFile | None], ...] = (
    _ip_adapter,
    _controlnet,
    _lora,
    _t2i_adapter,
    _triposr,
    _motion_module,
    _embedding,
    _checkpoint,
    _bare_diffusion_model,
    _vae,
    _text_encoder,
    _upscaler,
)
"""In this order, since a ControlNet, say, holds copies of a UNet's tensors."""


def _starts(names: Shapes, *starts: str) -> bool:
    return any(name.startswith(starts) for name in names)


def _ends(names: Shapes, *ends: str) -> bool:
    return any(name.endswith(ends) for name in names)


def _has(names: Shapes, *parts: str) -> bool:
    return any(part in name for name in names for part in parts)
