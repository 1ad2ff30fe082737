"""The places in pipeline.yaml that take a model's file, and sentences about wrong files in them.

A sentence says what the file is, what is needed in its place, and where the file belongs instead.
It is made from the header alone, so that a wrong file is named before gigabytes are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dna_pipeline.weights.architectures import SD1, SD2
from dna_pipeline.weights.headers import Format
from dna_pipeline.weights.recognise import Kind, ModelFile, recognise


@dataclass(frozen=True, slots=True)
class Slot:
    """A place that takes one file.

    Attributes:
        needs: noun phrase for the file that is needed.
        kinds: kinds of files that fit.
        architectures: families of models that fit; empty if that does not matter. A file whose
            family is not known fits: loading compares all names and shapes.
        parts: parts that a checkpoint must have.
        takes_unknown: True if a file that is not recognised may fit, since loading decides.
    """

    needs: str
    kinds: frozenset[Kind]
    architectures: frozenset[str] = frozenset()
    parts: frozenset[str] = frozenset()
    takes_unknown: bool = False


_STABLE_DIFFUSION = frozenset({SD1, SD2})
_USABLE_CHANNELS = (None, 4, 9)
"""Channels of the UNets that can be used: for text and images, and for inpainting under a mask."""

CHECKPOINT = Slot(
    f"a {SD1} in one file",
    frozenset({Kind.CHECKPOINT, Kind.UNET}),
    frozenset({SD1}),
    frozenset({"unet", "text_encoder", "vae"}),
)
CHECKPOINT_AND_VAE = Slot(
    CHECKPOINT.needs, CHECKPOINT.kinds, CHECKPOINT.architectures, CHECKPOINT.parts - {"vae"}
)
"""A checkpoint whose VAE another file replaces."""
VAE = Slot(f"a VAE of a {SD1} in one file", frozenset({Kind.VAE}))
FOLDER_UNET = Slot(
    f"the UNet of a {SD1}", frozenset({Kind.UNET}), _STABLE_DIFFUSION, takes_unknown=True
)
FOLDER_VAE = Slot(f"the VAE of a {SD1}", frozenset({Kind.VAE}), takes_unknown=True)
FOLDER_TEXT = Slot(
    f"the text encoder of a {SD1}",
    frozenset({Kind.TEXT_ENCODER}),
    _STABLE_DIFFUSION,
    takes_unknown=True,
)
FOLDER_SAFETY = Slot("a safety checker", frozenset({Kind.SAFETY_CHECKER}), takes_unknown=True)
TRIPOSR = Slot("a checkpoint of TripoSR", frozenset({Kind.TRIPOSR}), takes_unknown=True)
LORA = Slot(f"a LoRA for a {SD1}", frozenset({Kind.LORA}), frozenset({SD1}))
ONNX = Slot("a network in ONNX format", frozenset({Kind.ONNX}))

_CHANNELS = {
    5: "a depth model (its UNet reads 5 channels, not 4)",
    7: "an upscaling model (its UNet reads 7 channels, not 4)",
    8: "an InstructPix2Pix model (its UNet reads 8 channels, not 4)",
    9: "an inpainting model (its UNet reads 9 channels, not 4)",
}
_PARTS = {"unet": "UNet", "text_encoder": "text encoder", "vae": "VAE"}
_FETCH = "download the file itself"


def mismatch(path: Path, slot: Slot) -> str | None:
    """A sentence about the file at `path` if it does not fit the slot; None if it may fit.

    A file that is not there, and one that cannot be read, are no mismatch.
    """
    try:
        file = recognise(path)
    except OSError:
        return None
    if file.kind is Kind.NO_WEIGHTS:
        return f"{path} is {_no_weights(path, file)}"
    if file.damage:
        return f"{path} is damaged: {file.damage}; {_ADVICE_DAMAGED}"
    why = _difference(file, slot)
    return None if why is None else f"{path} {why}"


_ADVICE_DAMAGED = "download or copy it again"


def _difference(file: ModelFile, slot: Slot) -> str | None:
    if file.kind is Kind.UNKNOWN:
        return None if slot.takes_unknown else _unknown(file, slot)
    if file.kind not in slot.kinds:
        return _wrong(file, slot, _belongs(file))
    if file.in_channels not in _USABLE_CHANNELS and slot.kinds & {Kind.CHECKPOINT, Kind.UNET}:
        return _wrong(file, slot, "; take the family's model for text and images")
    if file.architecture and slot.architectures and file.architecture not in slot.architectures:
        return _wrong(file, slot)
    if file.latent_channels not in (None, 4) and Kind.VAE in slot.kinds:
        return _wrong(file, slot)
    if Kind.CHECKPOINT in slot.kinds:
        return _incomplete(file, slot)
    return None


def _wrong(file: ModelFile, slot: Slot, advice: str = "") -> str:
    return f"is {describe(file)}; needed here is {slot.needs}{advice}"


def _incomplete(file: ModelFile, slot: Slot) -> str | None:
    lacking = [_PARTS[part] for part in ("unet", "text_encoder", "vae")
               if part in slot.parts - file.parts]  # fmt: skip
    if not lacking:
        return None
    if file.layout != "ldm":
        return _wrong(file, slot, "; a part in Diffusers format belongs into a model's folder")
    sentence = f"has no {' and no '.join(lacking)}"
    if lacking == [_PARTS["vae"]]:
        return f"{sentence}; name a file of one at the model's key `vae`"
    return f"{sentence}; needed here is {slot.needs} with all its parts"


def _unknown(file: ModelFile, slot: Slot) -> str:
    names, needs = list(file.header.tensors), f"needed here is {slot.needs}"
    match file.header.format:
        case Format.TORCHSCRIPT:
            return f"is a TorchScript program, which is never run here; {needs}"
        case Format.UNKNOWN:
            return f"is in no format of weights that is known here; {needs}"
        case _ if not names:
            is_pickle = file.header.format is Format.PICKLE
            return f"holds no tensors{' outside of its own code' * is_pickle}; {needs}"
        case _:
            count = f"{len(names)} tensors" if len(names) > 1 else "one tensor"
            return f"is no model that is known here ({count}, such as {names[0][:80]!r}); {needs}"


def describe(file: ModelFile) -> str:
    """Noun phrase for a file, such as `a LoRA for Stable Diffusion XL`."""
    name, family = file.kind.value, file.architecture
    match file.kind:
        case Kind.CHECKPOINT | Kind.UNET:
            return _describe_model(file)
        case Kind.VAE if file.latent_channels not in (None, 4):
            return f"a VAE of another model (its latents have {file.latent_channels} channels)"
        case Kind.LORA | Kind.LYCORIS | Kind.CONTROLNET | Kind.IP_ADAPTER | Kind.EMBEDDING:
            article = "an" if file.kind is Kind.IP_ADAPTER else "a"
            return f"{article} {name}{_for(family)}"
        case Kind.TEXT_ENCODER:
            return f"the text encoder of {family}" if family else "a text encoder"
        case Kind.TRIPOSR:
            return "a checkpoint of TripoSR"
        case Kind.UPSCALER | Kind.ONNX | Kind.IMAGE_ENCODER:
            return f"an {name}"
        case _:
            return f"a {name}"


def _for(family: str) -> str:
    return f" for {family}" if family else ""


def _describe_model(file: ModelFile) -> str:
    family = file.architecture or "a diffusion model of an unknown kind"
    special = _CHANNELS.get(file.in_channels or 4, "")
    if file.in_channels not in (None, 4) and not special:
        special = f"a model whose UNet reads {file.in_channels} channels, not 4"
    if special:
        return f"{special} of the family {family}" if file.architecture else special
    if file.kind is Kind.UNET:
        return f"the diffusion model alone of {family}, without text encoder and VAE"
    return f"a checkpoint of {family}" if file.architecture else family


_BELONGS = {
    Kind.VAE: "a VAE belongs at the key `vae` of a model with `provider: diffusers`",
    Kind.LORA: "a LoRA changes a model and is none by itself",
    Kind.LYCORIS: "a LyCORIS changes a model and is none by itself",
    Kind.CONTROLNET: "a ControlNet steers a model and is none by itself",
    Kind.T2I_ADAPTER: "a T2I-Adapter steers a model and is none by itself",
    Kind.IP_ADAPTER: "an IP-Adapter steers a model and is none by itself",
    Kind.EMBEDDING: "a textual inversion is one word for a prompt and no model",
    Kind.MOTION_MODULE: "a motion module makes films with a model and is none by itself",
    Kind.TRIPOSR: "TripoSR belongs into the folder of a model with `provider: triposr`",
    Kind.ONNX: "an ONNX model belongs at `path` of a model with `provider: rembg`",
    Kind.GGUF: "GGUF files cannot be used; take the model as .safetensors",
    Kind.UPSCALER: "no stage uses one",
    Kind.CHECKPOINT: "a checkpoint belongs at `path` of a model with `provider: diffusers`",
}


def _belongs(file: ModelFile) -> str:
    if file.kind is Kind.CHECKPOINT and (
        file.architecture != SD1 or file.in_channels not in _USABLE_CHANNELS
    ):
        return ""  # no place takes it
    text = _BELONGS.get(file.kind, "")
    return f"; {text}" if text else ""


def _no_weights(path: Path, file: ModelFile) -> str:
    note = file.header.note
    match file.header.format:
        case Format.WEB_PAGE:
            return (
                "a web page and no weights; the site answered with it in place of the file, as "
                f"sites do that want a login: {_FETCH}"
            )
        case Format.LFS_POINTER:
            size = f" of {int(note):,} bytes" if note else ""
            return (
                f"a Git LFS pointer, which stands for the real file{size}: run `git lfs pull` "
                f"where it was cloned, or {_FETCH}"
            )
        case Format.TEXT:
            return f"a text that begins with {note!r} and no weights; {_FETCH}"
        case Format.ARCHIVE:
            return f"an archive ({note}) and no weights; unpack it and name the file that was in it"
        case Format.IMAGE:
            return f"a picture ({note}) and no weights; {_FETCH}"
        case Format.EMPTY:
            return f"empty; {_ADVICE_DAMAGED}"
        case Format.ZEROS:
            return f"filled with zeros, as after a download that was cut off; {_ADVICE_DAMAGED}"
        case _:
            return f"no weights; {_FETCH} {path.name}"
