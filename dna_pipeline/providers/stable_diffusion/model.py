"""A loaded Stable Diffusion, which redraws pictures under prompts."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dna_pipeline.base.errors import (
    BlackImage,
    ContentFiltered,
    JobError,
    NonFiniteOutput,
    OutOfMemory,
    ParameterInvalid,
    WeightsMismatch,
)
from dna_pipeline.providers.base import Device, ImageToImageRequest, StepCallback, device_of
from dna_pipeline.providers.device_errors import is_out_of_memory
from dna_pipeline.providers.stable_diffusion import decoding, prompt_syntax, tiles
from dna_pipeline.providers.stable_diffusion.adapters import Adapters
from dna_pipeline.providers.stable_diffusion.decoding import Decoded
from dna_pipeline.providers.stable_diffusion.folder import INPAINTING_CHANNELS
from dna_pipeline.providers.stable_diffusion.inversions import InversionFiles, identity
from dna_pipeline.providers.stable_diffusion.prompts.conditioning import Conditioner, PromptText
from dna_pipeline.providers.stable_diffusion.prompts.emphasis import PromptError, refused
from dna_pipeline.providers.stable_diffusion.samplers import SAMPLERS

if TYPE_CHECKING:
    import torch
    from PIL import Image

DECODED_AGAIN = (
    "The picture came out wrong in {} ({}), so it was decoded once more with the VAE in float32."
)
TILED = "The picture was encoded and decoded in tiles of at most {} px, to need less memory."


@dataclass(frozen=True, slots=True)
class _Conditioned:
    """A picture to be redrawn, with the embeddings of both its prompts and the names of the textual
    inversions in them; `number` is its place among those of one call."""

    number: int
    image: Image.Image
    request: ImageToImageRequest
    embeds: tuple[torch.Tensor, torch.Tensor]
    used: list[str]


class StableDiffusion:
    """A loaded model; an `ImageToImage`."""

    def __init__(self, pipeline: Any, scheduler_config: dict[str, Any]) -> None:
        self._pipeline = pipeline
        self._scheduler_config = scheduler_config
        self._conditioner = Conditioner(pipeline.tokenizer, pipeline.text_encoder)
        self._inversions = InversionFiles(pipeline.text_encoder.config.hidden_size)
        self._adapters = Adapters(pipeline)

    @property
    def computes_on(self) -> Device:
        """Device and dtype of the UNet."""
        return device_of(self._pipeline.unet.device, self._pipeline.unet.dtype)

    def redraw(
        self, image: Image.Image, request: ImageToImageRequest, on_step: StepCallback
    ) -> Image.Image:
        """RGB in, RGB of the same size out. Both sides are multiples of 8.

        `on_step` counts to the steps that really run, int(steps x strength). The noise is drawn
        on the CPU whatever the device, so that a seed means the same everywhere. On the CPU in
        float32 the result is bit for bit that of `diffusers.StableDiffusionImg2ImgPipeline`, or
        with a mask that of `diffusers.StableDiffusionInpaintPipeline`, for prompts of one block
        without weights, and without tiles; `lms` is that of Diffusers at strength 1 alone. Pixels
        outside of the mask went through the VAE and are nearly, but not exactly, those of the
        picture.

        A picture that is black or no number in a shorter type is decoded once more, with the VAE
        in float32; then a remark in its `info` says so, as one does of the VAE's own tiles.

        Raises:
            NonFiniteOutput, BlackImage, ContentFiltered, OutOfMemory: as their names say.
            ParameterInvalid: the model can only repaint, and there is no mask.
            WeightsMissing, WeightsMismatch: of a LoRA or a textual inversion.
            Whatever `on_step` raises.
        """
        try:
            tiles = _tiles(self._pipeline) if request.saves_memory else nullcontext()
            used = self._use_embeddings(request)
            with tiles, self._with_loras(request):
                one = _Conditioned(0, image, request, self._embeddings(request), used)
                (decoded,), latents = self._run([one], on_step)
                picture = self._finished(one, decoded, latents)
            if self._is_tiled_by_vae(image.size, request):
                remark = TILED.format(self._pipeline.vae.tile_sample_min_size)
                picture.info.setdefault("remarks", []).append(remark)
            picture.info |= {"embeddings": used} if used else {}
            return picture
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            _free_device_memory()
            raise OutOfMemory(f"{image.width} x {image.height}: {error}"[:500]) from error

    def redraw_several(
        self,
        images: Sequence[Image.Image],
        requests: Sequence[ImageToImageRequest],
        on_step: StepCallback,
    ) -> list[Image.Image | Exception]:
        """See `RedrawsSeveral`. Prompts of different lengths need calls of their own, so that none
        is read with more empty blocks than alone."""
        try:
            with self._with_loras(requests[0]):
                return self._pictures(images, requests, on_step)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            _free_device_memory()
            size = f"{len(images)} pictures of {images[0].width} x {images[0].height}"
            raise OutOfMemory(f"{size}: {error}"[:500]) from error

    def _pictures(
        self,
        images: Sequence[Image.Image],
        requests: Sequence[ImageToImageRequest],
        on_step: StepCallback,
    ) -> list[Image.Image | Exception]:
        results: dict[int, Image.Image | Exception] = {}
        by_length: dict[int, list[_Conditioned]] = {}
        for number, (image, request) in enumerate(zip(images, requests, strict=True)):
            try:
                used = self._use_embeddings(request)
                embeds = self._embeddings(request)
            except JobError as error:
                results[number] = error
                continue
            one = _Conditioned(number, image, request, embeds, used)
            by_length.setdefault(embeds[0].shape[1], []).append(one)
        for group in by_length.values():
            decoded, latents = self._run(group, on_step)
            for at, (one, pixels) in enumerate(zip(group, decoded, strict=True)):
                try:
                    picture = self._finished(one, pixels, latents[at : at + 1])
                    picture.info |= {"embeddings": one.used} if one.used else {}
                    results[one.number] = picture
                except JobError as error:
                    results[one.number] = error
        return [results[number] for number in range(len(images))]

    @contextmanager
    def _with_loras(self, request: ImageToImageRequest) -> Generator[None]:
        """Put the LoRAs on the model inside the block; no others stay in memory if it is short.

        torch compiles a model as it is without them, and would compile it anew for each LoRA, so
        that the UNet runs as it was written meanwhile.
        """
        unet = self._pipeline.unet
        compiled = unet._compiled_call_impl
        with self._adapters.active(request.loras, saves_memory=request.saves_memory) as state:
            self._conditioner.state = state
            unet._compiled_call_impl = None if request.loras else compiled
            try:
                yield
            finally:
                self._conditioner.state = ""
                unet._compiled_call_impl = compiled

    def remarks(self, request: ImageToImageRequest) -> list[str]:
        tokenizer = self._pipeline.tokenizer
        limit = tokenizer.model_max_length
        texts = {"prompt": request.prompt, "negative prompt": request.negative_prompt}
        is_plain = request.prompt_syntax == "plain"
        counts = {name: len(tokenizer(text).input_ids) for name, text in texts.items() if is_plain}
        too_long = [
            f"The {name} has {count - 2} tokens, of which only the first {limit - 2} were read."
            for name, count in counts.items()
            if count > limit
        ]
        unread = {
            name: prompt_syntax.unread(text, weights=is_plain) for name, text in texts.items()
        }
        why = "prompt_syntax is plain, so" if is_plain else "they are not understood here, so"
        as_text = [
            f"The {name} holds {' and '.join(phrases)}; {why} they were read as text."
            for name, phrases in unread.items()
            if phrases
        ]
        return [*too_long, *as_text]

    def _is_tiled_by_vae(self, size: tuple[int, int], request: ImageToImageRequest) -> bool:
        """True if the VAE itself works in tiles on a picture of that size, or on a tile of it."""
        longest = max(size) if request.tile is None else min(max(size), request.tile)
        return request.saves_memory and longest > self._pipeline.vae.tile_sample_min_size

    def _use_embeddings(self, request: ImageToImageRequest) -> list[str]:
        """Prepare the textual inversions; names of those that the prompts use.

        Raises:
            WeightsMismatch: the prompts use one that does not fit the model.
        """
        import torch

        files = request.embeddings
        read = {name: self._inversions.vectors(path) for name, path in files.items()}
        wrong = {name: error for name, error in read.items() if isinstance(error, WeightsMismatch)}
        stand_in = torch.zeros(1, 1)
        vectors = {n: v if isinstance(v, torch.Tensor) else stand_in for n, v in read.items()}
        names = "\n".join(f"{name} {identity(path)}" for name, path in files.items())
        self._conditioner.use(vectors, names)
        used = self._embeddings_in(request) if files else []
        for name in used:
            if name in wrong:
                raise WeightsMismatch(f"{wrong[name]}; the prompt names it: {name}")
        return used

    def _embeddings_in(self, request: ImageToImageRequest) -> list[str]:
        """Names of the textual inversions that the prompts use, each once."""
        names: dict[str, None] = {}
        for parameter, prompt in _prompts(request).items():
            with _refusing(parameter):
                names |= dict.fromkeys(self._conditioner.inversions_in(prompt))
        return list(names)

    def _embeddings(self, request: ImageToImageRequest) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of the prompt and the negative prompt. Raises `ParameterInvalid`."""
        layers = self._pipeline.text_encoder.config.num_hidden_layers
        if request.clip_skip > layers:
            raise ParameterInvalid(
                f"clip_skip: the model's text encoder has {layers} layers, so at most {layers} "
                f"makes sense, not {request.clip_skip}"
            )
        prompts = _prompts(request)
        for parameter, prompt in prompts.items():
            with _refusing(parameter):
                self._conditioner.encode(prompt)
        return self._conditioner.pair(prompts["prompt"], prompts["negative_prompt"])

    def _finished(self, one: _Conditioned, decoded: Decoded, latents: torch.Tensor) -> Image.Image:
        """The picture of what was decoded from those latents (1, 4, h, w)."""
        try:
            return self._checked(decoded)
        except (NonFiniteOutput, BlackImage) as error:
            if not decoding.is_worthwhile(self._pipeline, latents):
                raise
            flaw = str(error)
        pipeline = tiles.tiled(self._pipeline, one.image.size, one.request.tile)
        picture = self._checked(decoding.decode_in_float32(pipeline, latents))
        picture.info["remarks"] = [DECODED_AGAIN.format(self.computes_on.dtype, flaw)]
        return picture

    def _run(
        self, group: Sequence[_Conditioned], on_step: StepCallback
    ) -> tuple[list[Decoded], torch.Tensor]:
        """The pictures, and the latents (n, 4, h, w) that they were decoded from. Each has noise of
        its own, that of its seed."""
        import torch

        request, size = group[0].request, group[0].image.size
        latents: list[torch.Tensor] = []

        def report(pipeline: Any, index: int, _time: object, tensors: Any) -> dict[str, Any]:
            latents[:] = [tensors["latents"]]
            # Samplers of the second order call the model twice a step, and once in the last one.
            calls, order = index + 1, pipeline.scheduler.order
            if calls % order == 0 or calls == pipeline.num_timesteps:
                on_step(-(-calls // order), -(-pipeline.num_timesteps // order))
            return {}

        scheduler = make_scheduler(self._scheduler_config, request.sampler, request.schedule)
        pipeline, mask = self._pipeline_for(request, size)
        pipeline.scheduler = scheduler
        images = [one.image for one in group]
        noises = [torch.Generator("cpu").manual_seed(one.request.seed) for one in group]
        result = tiles.tiled(pipeline, size, request.tile)(
            **mask,
            prompt_embeds=torch.cat([one.embeds[0] for one in group]),
            negative_prompt_embeds=torch.cat([one.embeds[1] for one in group]),
            image=images[0] if len(group) == 1 else images,
            num_inference_steps=request.steps,
            strength=request.strength,
            guidance_scale=request.guidance_scale,
            generator=noises[0] if len(group) == 1 else noises,
            callback_on_step_end=report,
            callback_on_step_end_tensor_inputs=["latents"],
            output_type="np",
        )
        blocked: list[bool] = result.nsfw_content_detected or [False] * len(group)
        decoded = [
            Decoded(result.images[at : at + 1], bool(is_blocked))
            for at, is_blocked in enumerate(blocked)
        ]
        return decoded, latents[0]

    def _pipeline_for(
        self, request: ImageToImageRequest, size: tuple[int, int]
    ) -> tuple[Any, dict[str, Any]]:
        """The pipeline for a request, and its arguments about the mask. Raises
        `ParameterInvalid`."""
        if request.mask is not None:
            width, height = size
            return self._inpainting, {"mask_image": request.mask, "width": width, "height": height}
        if self._pipeline.unet.config.in_channels == INPAINTING_CHANNELS:
            raise ParameterInvalid(
                "mask: the model is an inpainting model, which needs a mask",
                hint="Set mask: file or mask: alpha, or use a model for text and images.",
            )
        return self._pipeline, {}

    @cached_property
    def _inpainting(self) -> Any:
        """The pipeline that repaints under a mask. It shares all parts, so it costs no memory."""
        cls: Any = import_module("diffusers").StableDiffusionInpaintPipeline
        pipeline = cls(**self._pipeline.components, requires_safety_checker=False)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _checked(self, decoded: Decoded) -> Image.Image:
        """The picture, if it is one. Values are checked before 8 bits hide what is not a number."""
        import numpy as np

        pixels = decoded.pixels
        bad = pixels.size - int(np.isfinite(pixels).sum())
        if bad:
            raise NonFiniteOutput(f"{bad} of {pixels.size} values are not finite")
        if decoded.is_blocked:
            raise ContentFiltered("the safety checker found a concept that it blocks")
        picture = self._pipeline.image_processor.numpy_to_pil(pixels)[0]
        if picture.getbbox() is None:
            raise BlackImage("every pixel is black")
        return picture


def _prompts(request: ImageToImageRequest) -> dict[str, PromptText]:
    """Both prompts, by the names of their parameters."""
    texts = {"prompt": request.prompt, "negative_prompt": request.negative_prompt}
    return {
        name: PromptText(text, request.prompt_syntax, request.clip_skip)
        for name, text in texts.items()
    }


@contextmanager
def _refusing(parameter: str) -> Generator[None]:
    """Turn the error of a prompt inside the block into `ParameterInvalid`."""
    try:
        yield
    except PromptError as error:
        raise refused(parameter, error) from None


def make_scheduler(config: dict[str, Any], sampler: str, schedule: str) -> Any:
    """A new scheduler from the model's own configuration, which is left as it is.

    Args:
        config: as it was written, never as an instance gives it back.
        sampler: one of `SAMPLERS`.
        schedule: one of `SCHEDULES`.
    """
    chosen = SAMPLERS[sampler]
    options = chosen.scheduler_options(schedule)
    cls = getattr(import_module(chosen.module), chosen.scheduler)
    return cls.from_config(dict(config), **options)


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


def _free_device_memory() -> None:
    """Give back what the failed call left in the cache, so that a smaller job can run."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
