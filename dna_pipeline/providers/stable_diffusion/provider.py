"""Stable Diffusion 1.5 through the Diffusers library: redraws an image under a prompt."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from dna_pipeline.base.errors import (
    BlackImage,
    ContentFiltered,
    NonFiniteOutput,
    OutOfMemory,
    WeightsMismatch,
    WeightsMissing,
)
from dna_pipeline.providers.base import (
    Device,
    ImageToImageRequest,
    Provider,
    StepCallback,
    WeightsPath,
    device_of,
)
from dna_pipeline.providers.device_errors import is_out_of_memory
from dna_pipeline.providers.stable_diffusion import folder as sd_folder
from dna_pipeline.providers.stable_diffusion import prompt_syntax, single_file
from dna_pipeline.providers.stable_diffusion.folder import SdFolder, some
from dna_pipeline.providers.stable_diffusion.samplers import SAMPLERS
from dna_pipeline.providers.stable_diffusion.single_file import SdFile
from dna_pipeline.weights import slots
from dna_pipeline.weights.pins import Pins, Placement

if TYPE_CHECKING:
    import torch
    from PIL import Image

TILED = "The picture was encoded and decoded in tiles of at most {} px, to need less memory."


class Diffusers(Provider):
    """A Stable Diffusion 1.5, read from a folder in the Diffusers format. Never online."""

    name_in_config: ClassVar[str] = "diffusers"
    stages: ClassVar[frozenset[str]] = frozenset({"img2img"})

    path: WeightsPath = Field(
        description="folder in the Diffusers format, or a checkpoint in one file"
    )
    single_file: WeightsPath | None = Field(
        None, description="weights in one file, converted to `path` when that is not there"
    )
    vae: WeightsPath | None = Field(
        None,
        description="file of a VAE in place of the model's own",
        exclude_if=lambda value: value is None,  # identities of jobs from before it are kept
    )
    tokenizer: WeightsPath = Field(
        Path("models/clip-tokenizer"),
        description="folder whose merges.txt is taken for `single_file` in place of CLIP's own",
    )
    safety_checker: bool = Field(
        False, description="blank what the model's own checker takes for unsafe"
    )

    @property
    def _folder(self) -> SdFolder:
        return SdFolder(self.path, self.safety_checker, has_vae=self.vae is None)

    @property
    def _file(self) -> Path | None:
        """The checkpoint that the model is loaded or converted from; None where a folder is."""
        if self.path.is_file():
            return self.path
        return self.single_file if self._is_to_be_converted() else None

    def missing(self) -> str | None:
        if self.vae is not None and not self.vae.is_file():
            return f"{self.vae} is not there; put the VAE that `vae` names there, or take `vae` out"
        if self._file is not None:
            return None
        if not self.path.exists():
            return self._how_to_get()
        if absent := self._folder.absent():
            way = self.way_to_get("copy the folder again")
            return f"{self.path} is not complete, it lacks {some(absent)}; {way}"
        return None

    def mismatch(self) -> str | None:
        wrong = None if self.vae is None else slots.mismatch(self.vae, slots.VAE)
        if wrong is not None or self.missing() is not None:
            return wrong
        if (file := self._file) is not None:
            return slots.mismatch(file, self._file_slot) or self._lack_of_checker(file)
        try:
            self._folder.check()
        except WeightsMismatch as error:
            return str(error)
        return self._folder.mismatch()

    @property
    def _file_slot(self) -> slots.Slot:
        return slots.CHECKPOINT if self.vae is None else slots.CHECKPOINT_AND_VAE

    def _lack_of_checker(self, file: Path) -> str | None:
        if not self.safety_checker or file != self.path:
            return None
        return (
            f"{file} is one file, which holds no safety checker; set `safety_checker: false`, or "
            "name a folder in Diffusers format that has one"
        )

    def _how_to_get(self) -> str:
        way = "put a Stable Diffusion 1.5 in Diffusers format there"
        if self.single_file is not None:
            way += f", or its weights in one file at {self.single_file}"
        return f"{self.path} is not there; {self.way_to_get(way)}"

    def published(self, pins: Pins) -> list[Placement]:
        if (one := self.single_file) is not None and not self.path.exists():
            if (model := pins.file_named(self.name_in_config, one.name)) is not None:
                return [Placement(model, one)]
            if one.is_file():
                return []
        if self.path.is_file():
            return []
        model = pins.folder_named(self.name_in_config, self.path.name)
        options = frozenset({"safety_checker"} if self.safety_checker else ())
        return [] if model is None else [Placement(model, self.path, options)]

    def _is_to_be_converted(self) -> bool:
        one = self.single_file
        return one is not None and one.is_file() and not self.path.exists()

    def weights(self) -> tuple[Path, list[Path]]:
        if (file := self._file) is not None:
            root, files = file, [file]
        else:
            root, files = self.path, self._folder.files()
        return root, files if self.vae is None else [*files, self.vae]

    def convert(self) -> bool:
        """Convert `single_file` if `path` is not there; True if it was converted.

        Raises:
            WeightsMismatch: the file is not a Stable Diffusion 1.5.
        """
        if self.single_file is None or not self._is_to_be_converted():
            return False
        from dna_pipeline.providers.stable_diffusion.convert import convert

        _hush()
        convert(self.single_file, self.path, tokenizer=self.tokenizer, vae=self.vae)
        return True

    def load(self, device: Device) -> StableDiffusion:
        self.convert()
        if not self.path.exists():
            raise WeightsMissing(self._how_to_get())
        if (why := self.mismatch()) is not None:
            raise WeightsMismatch(why)
        _hush()
        if self.path.is_file():
            source = SdFile(self.path, self.vae, self.tokenizer)
        else:
            source = self._folder
            source.check()
        return StableDiffusion(_pipeline(source, device, self.vae), source.scheduler_config())


class StableDiffusion:
    """A loaded model; an `ImageToImage`."""

    def __init__(self, pipeline: Any, scheduler_config: dict[str, Any]) -> None:
        self._pipeline = pipeline
        self._scheduler_config = scheduler_config

    @property
    def computes_on(self) -> Device:
        """Device and dtype of the UNet."""
        return device_of(self._pipeline.unet.device, self._pipeline.unet.dtype)

    def redraw(
        self, image: Image.Image, request: ImageToImageRequest, on_step: StepCallback
    ) -> Image.Image:
        """RGB in, RGB of the same size out. Both sides are multiples of 8.

        `on_step` counts to the steps that really run, int(steps x strength). The noise is drawn
        on the CPU whatever the device, so that a seed means the same everywhere. On the CPU the
        result is bit for bit that of `diffusers.StableDiffusionImg2ImgPipeline`.

        Raises:
            NonFiniteOutput, BlackImage, ContentFiltered, OutOfMemory: as their names say.
            Whatever `on_step` raises.
        """
        try:
            with _tiles(self._pipeline) if request.saves_memory else nullcontext():
                result = self._run(image, request, on_step)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            _free_device_memory()
            raise OutOfMemory(f"{image.width} x {image.height}: {error}"[:500]) from error
        return self._checked(result)

    def remarks(self, request: ImageToImageRequest) -> list[str]:
        tokenizer = self._pipeline.tokenizer
        limit = tokenizer.model_max_length
        texts = {"prompt": request.prompt, "negative prompt": request.negative_prompt}
        counts = {name: len(tokenizer(text).input_ids) for name, text in texts.items()}
        too_long = [
            f"The {name} has {count - 2} tokens, of which only the first {limit - 2} were read."
            for name, count in counts.items()
            if count > limit
        ]
        unread = {name: prompt_syntax.unread(text) for name, text in texts.items()}
        as_text = [
            f"The {name} holds {' and '.join(phrases)}: they are not understood here and were "
            "read as plain text."
            for name, phrases in unread.items()
            if phrases
        ]
        tiled = (
            [TILED.format(self._pipeline.vae.tile_sample_min_size)] if request.saves_memory else []
        )
        return [*too_long, *as_text, *tiled]

    def _run(self, image: Image.Image, request: ImageToImageRequest, on_step: StepCallback) -> Any:
        import torch

        def report(pipeline: Any, index: int, _time: object, _tensors: object) -> dict[str, Any]:
            # Samplers of the second order call the model twice a step, and once in the last one.
            calls, order = index + 1, pipeline.scheduler.order
            if calls % order == 0 or calls == pipeline.num_timesteps:
                on_step(-(-calls // order), -(-pipeline.num_timesteps // order))
            return {}

        self._pipeline.scheduler = make_scheduler(
            self._scheduler_config, request.sampler, request.schedule
        )
        return self._pipeline(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            image=image,
            num_inference_steps=request.steps,
            strength=request.strength,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator("cpu").manual_seed(request.seed),
            callback_on_step_end=report,
            callback_on_step_end_tensor_inputs=[],
            output_type="np",
        )

    def _checked(self, result: Any) -> Image.Image:
        """The picture, if it is one. Values are checked before 8 bits hide what is not a number."""
        import numpy as np

        pixels = result.images  # (1, h, w, 3) float32 in [0, 1]
        bad = pixels.size - int(np.isfinite(pixels).sum())
        if bad:
            raise NonFiniteOutput(f"{bad} of {pixels.size} values are not finite")
        if any(result.nsfw_content_detected or []):
            raise ContentFiltered("the safety checker found a concept that it blocks")
        picture = self._pipeline.image_processor.numpy_to_pil(pixels)[0]
        if picture.getbbox() is None:
            raise BlackImage("every pixel is black")
        return picture


def make_scheduler(config: dict[str, Any], sampler: str, schedule: str) -> Any:
    """A new scheduler from the model's own configuration, which is left as it is.

    Args:
        config: as it was written, never as an instance gives it back.
        sampler: one of `SAMPLERS`.
        schedule: one of `SCHEDULES`.
    """
    chosen = SAMPLERS[sampler]
    options = chosen.scheduler_options(schedule)
    return getattr(import_module("diffusers"), chosen.scheduler).from_config(
        dict(config), **options
    )


@contextmanager
def _tiles(pipeline: Any) -> Generator[None]:
    """Let the VAE work in tiles inside the block.

    Attention is not sliced: torch computes it without the matrix of weights, which slices would
    build, so that they would need more memory and not less.
    """
    pipeline.vae.enable_slicing()
    pipeline.vae.enable_tiling()
    try:
        yield
    finally:
        pipeline.vae.disable_tiling()
        pipeline.vae.disable_slicing()


def _pipeline(folder: SdFolder | SdFile, device: Device, vae: Path | None) -> Any:
    import torch
    from transformers import CLIPTextModel

    diffusers: Any = import_module("diffusers")
    dtype = getattr(torch, device.dtype)
    parts: dict[str, Any] = {
        "vae": _vae(folder, vae, dtype),
        "text_encoder": folder.model(sd_folder.TEXT, CLIPTextModel, dtype),
        "unet": folder.model(sd_folder.UNET, diffusers.UNet2DConditionModel, dtype),
        "tokenizer": folder.tokenizer(),
        **_safety(folder, dtype),
    }
    _check_fit(folder, parts)
    scheduler = make_scheduler(folder.scheduler_config(), "euler", "normal")
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(
        **parts, scheduler=scheduler, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device.name)


def _vae(folder: SdFolder | SdFile, file: Path | None, dtype: torch.dtype) -> Any:
    """The model's own VAE, or that of a file, in the configuration of the model's own."""
    cls: Any = import_module("diffusers").AutoencoderKL
    if file is None or isinstance(folder, SdFile):
        return folder.model(sd_folder.VAE, cls, dtype)
    config = folder.vae_config()
    tensors = single_file.read_vae(file, config)
    return single_file.build_part(sd_folder.VAE, cls, config, tensors, dtype)


def _safety(folder: SdFolder | SdFile, dtype: torch.dtype) -> dict[str, Any]:
    if not folder.with_safety:
        return {"safety_checker": None, "feature_extractor": None}
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    return {
        "safety_checker": folder.model(sd_folder.SAFETY, StableDiffusionSafetyChecker, dtype),
        "feature_extractor": folder.feature_extractor(),
    }


def _check_fit(folder: SdFolder | SdFile, parts: dict[str, Any]) -> None:
    """Raise `WeightsMismatch` where parts are whole but not of one model."""
    text, unet, vae = (parts[name].config for name in ("text_encoder", "unet", "vae"))
    tokenizer = parts["tokenizer"]
    demands = {
        "the UNet reads other latents than the VAE makes": unet.in_channels == vae.latent_channels,
        "the UNet reads another text encoder": unet.cross_attention_dim == text.hidden_size,
        "the tokenizer has tokens that the text encoder lacks": len(tokenizer) <= text.vocab_size,
        "the tokenizer makes longer texts than the text encoder reads": (
            tokenizer.model_max_length <= text.max_position_embeddings
        ),
    }
    if broken := [text for text, holds in demands.items() if not holds]:
        raise WeightsMismatch(f"{folder.root}: {some(broken)}")


def _hush() -> None:
    """Keep the libraries from writing to standard error; what matters is raised or logged."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _free_device_memory() -> None:
    """Give back what the failed call left in the cache, so that a smaller job can run."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
