"""A Stable Diffusion 1.5 folder in the Diffusers format: which files it has, and reading them.

The folder is somebody else's data. The classes that it names are compared with those below and
never imported by name; code that it brings along is ignored; a tensor that is missing or has
another shape is an error, where the libraries would fill in random numbers and go on.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dna_pipeline.base.errors import WeightsMismatch
from dna_pipeline.weights import slots
from dna_pipeline.weights.pins import is_weights

if TYPE_CHECKING:
    import torch

INDEX = "model_index.json"
SD15_CONFIG = Path(__file__).with_name("sd15_config")
"""Folder with the configuration of each part, which a single file does not hold."""

_PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
)
INPAINTING_CHANNELS = 9
"""Channels that the UNet of an inpainting model reads: 4 of the latent, 1 of the mask, and 4 of the
picture without the masked part."""
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Part:
    """One component and the files that it may be read from.

    Attributes:
        name: of its folder, and of its key in model_index.json.
        library: that model_index.json must name.
        classes: names it may have there.
        files: small files, all of them needed; alternatives stand in one tuple.
        weights: the weights' file name without its extension; "" if it has none.
        pickled: the same for the old format.
    """

    name: str
    library: str
    classes: tuple[str, ...]
    files: tuple[tuple[str, ...], ...]
    weights: str = ""
    pickled: str = ""


_CONFIG = (("config.json",),)
_DIFFUSERS_WEIGHTS = ("diffusion_pytorch_model", "diffusion_pytorch_model")
_TRANSFORMERS_WEIGHTS = ("model", "pytorch_model")
UNET = Part("unet", "diffusers", ("UNet2DConditionModel",), _CONFIG, *_DIFFUSERS_WEIGHTS)
VAE = Part("vae", "diffusers", ("AutoencoderKL",), _CONFIG, *_DIFFUSERS_WEIGHTS)
TEXT = Part("text_encoder", "transformers", ("CLIPTextModel",), _CONFIG, *_TRANSFORMERS_WEIGHTS)
TOKENIZER = Part(
    "tokenizer",
    "transformers",
    ("CLIPTokenizer", "CLIPTokenizerFast"),
    (
        ("tokenizer_config.json",),
        ("vocab.json", "tokenizer.json"),
        ("merges.txt", "tokenizer.json"),
    ),
)
SCHEDULER = Part(
    "scheduler",
    "diffusers",
    (
        "DDIMScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "LCMScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "UniPCMultistepScheduler",
    ),
    (("scheduler_config.json",),),
)
SAFETY = Part(
    "safety_checker",
    "stable_diffusion",
    ("StableDiffusionSafetyChecker",),
    _CONFIG,
    *_TRANSFORMERS_WEIGHTS,
)
FEATURES = Part(
    "feature_extractor",
    "transformers",
    ("CLIPFeatureExtractor", "CLIPImageProcessor", "CLIPImageProcessorPil"),
    (("preprocessor_config.json",),),
)
NEEDED = (TEXT, TOKENIZER, UNET, VAE, SCHEDULER)

_SLOTS = {
    UNET.name: slots.FOLDER_UNET,
    VAE.name: slots.FOLDER_VAE,
    TEXT.name: slots.FOLDER_TEXT,
    SAFETY.name: slots.FOLDER_SAFETY,
}


@dataclass(frozen=True, slots=True)
class SdFolder:
    """The folder at `root`, with or without its safety checker and its VAE.

    Attributes:
        has_vae: False if a file elsewhere replaces the VAE, so that the folder need not hold one.
        prefers_fp16: True to read the weights in half precision where the folder holds both.
    """

    root: Path
    with_safety: bool = False
    has_vae: bool = True
    prefers_fp16: bool = False

    @property
    def parts(self) -> tuple[Part, ...]:
        needed = tuple(part for part in NEEDED if self.has_vae or part is not VAE)
        return (*needed, SAFETY, FEATURES) if self.with_safety else needed

    def absent(self) -> list[str]:
        """Names, relative to the folder, of the files that are not there."""
        names = [] if (self.root / INDEX).is_file() else [INDEX]
        for part in self.parts:
            folder = self.root / part.name
            names += [
                f"{part.name}/{choices[0]}"
                for choices in part.files
                if not any((folder / name).is_file() for name in choices)
            ]
            if part.weights and self._weights_of(part) is None:
                names.append(f"{part.name}/{part.weights}.safetensors")
        return names

    def files(self) -> list[Path]:
        """All files that the model is read from, those alone."""
        paths = [self.root / INDEX]
        for part in self.parts:
            folder = self.root / part.name
            paths += [folder / name for choices in part.files for name in choices]
            if part.weights and (chosen := self._weights_of(part)) is not None:
                paths += chosen.files
        if not self.has_vae:
            paths.append(self.root / VAE.name / "config.json")
        if not (self.root / TOKENIZER.name / "tokenizer.json").is_file():
            paths.append(self.root / TOKENIZER.name / "special_tokens_map.json")
        return sorted({path for path in paths if path.is_file()})

    def check(self) -> None:
        """Raise `WeightsMismatch` if a file is missing or names a class that is not expected."""
        if absent := self.absent():
            raise WeightsMismatch(f"{self.root} lacks {some(absent)}")
        index = read_json(self.root / INDEX)
        if index.get("_class_name") not in _PIPELINES:
            _refuse(self.root / INDEX, "_class_name", index.get("_class_name"), _PIPELINES)
        for part in self.parts:
            library, name = _pair(index.get(part.name))
            if library != part.library or name not in part.classes:
                _refuse(self.root / INDEX, part.name, index.get(part.name), part.classes)
            if part.weights:
                self._check_config(part)

    def _check_config(self, part: Part) -> None:
        path = self.root / part.name / "config.json"
        config = read_json(path)
        key = "_class_name" if part.library == "diffusers" else "architectures"
        value: object = config.get(key) or []
        names = cast("list[object]", value if isinstance(value, list) else [value])
        if any(name not in part.classes for name in names):
            _refuse(path, key, names, part.classes)
        if "quantization_config" in config:
            raise WeightsMismatch(f"{path}: quantized weights are not supported")

    def mismatch(self) -> str | None:
        """A sentence about weights that are, by their headers, not those of their part; None if
        there are none."""
        for part in self.parts:
            chosen = self._weights_of(part) if part.name in _SLOTS else None
            for path in chosen.files if chosen else ():
                if is_weights(path) and (why := slots.mismatch(path, _SLOTS[part.name])):
                    return why
        return None

    def model(self, part: Part, cls: Any, dtype: torch.dtype) -> Any:
        """A part with weights, in that dtype, in evaluation mode. Raises `WeightsMismatch`."""
        folder = self.root / part.name
        chosen = self._weights_of(part)
        if chosen is None:
            raise WeightsMismatch(f"{folder} lacks {part.weights}.safetensors")
        dtype_option = "torch_dtype" if part.library == "diffusers" else "dtype"
        with readable(folder):
            model, info = cls.from_pretrained(
                folder,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # all of them are reported below
                **{dtype_option: dtype, **chosen.options},
            )
        wrong = [f"{key} is missing" for key in sorted(info["missing_keys"])]
        wrong += [
            f"{key} is {tuple(shape)} and should be {tuple(expected)}"
            for key, shape, expected in sorted(info["mismatched_keys"])
        ]
        if wrong or info["error_msgs"]:
            raise WeightsMismatch(f"{chosen.files[0]}: {some([*wrong, *info['error_msgs']])}")
        return model.eval()

    def _weights_of(self, part: Part) -> Weights | None:
        return weights_of(self.root / part.name, part, prefers_fp16=self.prefers_fp16)

    def vae_config(self) -> dict[str, Any]:
        """The configuration of the folder's VAE; that of Stable Diffusion 1.5 if it has none."""
        path = self.root / VAE.name / "config.json"
        return read_json(path if path.is_file() else SD15_CONFIG / VAE.name / path.name)

    def tokenizer(self) -> Any:
        """The tokenizer. Raises `WeightsMismatch`."""
        return self._plain(TOKENIZER, "CLIPTokenizer")

    def feature_extractor(self) -> Any:
        """The safety checker's image processor. Raises `WeightsMismatch`."""
        return self._plain(FEATURES, "CLIPImageProcessor")

    def _plain(self, part: Part, name: str) -> Any:
        cls = getattr(import_module("transformers"), name)
        with readable(self.root / part.name):
            return cls.from_pretrained(self.root / part.name, local_files_only=True)

    def scheduler_config(self) -> dict[str, Any]:
        """The scheduler's configuration as it was written.

        Not as an instance gives it back: that adds the class's own defaults (`timestep_spacing`
        above all), which then hold for every other class made from it.
        """
        return read_json(self.root / SCHEDULER.name / "scheduler_config.json")


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of one part: their files, and the arguments of `from_pretrained` that select
    them."""

    files: list[Path]
    options: dict[str, Any]


def weights_of(folder: Path, part: Part, *, prefers_fp16: bool = False) -> Weights | None:
    """The best weights that are there: safetensors, then those in shards, in half precision and
    pickled; None if there are none.

    Args:
        prefers_fp16: take those in half precision first. A model that computes in float16 gets
            equal numbers from them, and half the bytes are read.
    """
    stem, safe = part.weights, {"use_safetensors": True}
    fp16 = folder / f"{stem}.fp16.safetensors"
    if prefers_fp16 and fp16.is_file():
        return Weights([fp16], {**safe, "variant": "fp16"})
    if (path := folder / f"{stem}.safetensors").is_file():
        return Weights([path], safe)
    if (path := folder / f"{stem}.safetensors.index.json").is_file():
        return Weights([path, *sorted(folder.glob(f"{stem}-*-of-*.safetensors"))], safe)
    if fp16.is_file():
        return Weights([fp16], {**safe, "variant": "fp16"})
    if (path := folder / f"{part.pickled}.bin").is_file():
        # Both libraries unpickle with weights_only=True, which runs no code.
        return Weights([path], {"use_safetensors": False})
    return None


@contextmanager
def readable(path: Path) -> Generator[None]:
    """Raise `WeightsMismatch` in place of the libraries' errors on a damaged or strange file.

    Errors of the disk and of memory are raised unchanged.
    """
    try:
        yield
    except (WeightsMismatch, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise WeightsMismatch(f"{path}: {_one_line(error)}") from error
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise WeightsMismatch(f"{path}: {_one_line(error)}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `WeightsMismatch` if it is none."""
    with readable(path):
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise WeightsMismatch(f"{path} is not a JSON object")
        return cast("dict[str, Any]", value)


def some(names: Iterable[str]) -> str:
    """The first few, and how many more."""
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "; ".join(names[:_SHOWN]) + more


def _pair(value: object) -> tuple[object, object]:
    if isinstance(value, list):
        items = cast("list[object]", value)
        if len(items) == 2:
            return items[0], items[1]
    return None, None


def _refuse(path: Path, key: str, value: object, expected: Iterable[str]) -> None:
    usable = " or ".join(expected)
    raise WeightsMismatch(f"{path}: {key} is {value!r}; only {usable} can be used")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
