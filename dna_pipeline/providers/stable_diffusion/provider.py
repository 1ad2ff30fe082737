"""Stable Diffusion 1.5 through the Diffusers library: redraws an image under a prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from pydantic import Field, PrivateAttr

from dna_pipeline.base.errors import WeightsMismatch, WeightsMissing
from dna_pipeline.providers.base import Device, Provider, WeightsPath
from dna_pipeline.providers.hardware import DtypeKey, are_small, chosen_dtype
from dna_pipeline.providers.stable_diffusion import compilation, loading
from dna_pipeline.providers.stable_diffusion.folder import SdFolder, some
from dna_pipeline.providers.stable_diffusion.model import StableDiffusion, make_scheduler
from dna_pipeline.providers.stable_diffusion.single_file import SdFile
from dna_pipeline.weights import slots
from dna_pipeline.weights.pins import Pins, Placement

CHECKPOINT_SUFFIXES = (".safetensors", ".ckpt")
"""Endings of checkpoints in one file."""


class Diffusers(Provider):
    """A Stable Diffusion 1.5, read from a folder in the Diffusers format or from a checkpoint in
    one file. Never online."""

    name_in_config: ClassVar[str] = "diffusers"
    stages: ClassVar[frozenset[str]] = frozenset({"img2img"})

    path: WeightsPath = Field(
        description="folder in the Diffusers format, or a checkpoint in one file"
    )
    single_file: WeightsPath | None = Field(
        None,
        description="weights in one file, converted to `path` when that is not there",
        json_schema_extra={"default_words": "none"},
    )
    vae: WeightsPath | None = Field(
        None,
        description="file of a VAE in place of the model's own",
        json_schema_extra={"default_words": "none"},
        exclude_if=lambda value: value is None,  # identities of jobs from before it are kept
    )
    tokenizer: WeightsPath = Field(
        Path("models/clip-tokenizer"),
        description="folder whose merges.txt is taken for `single_file` in place of CLIP's own",
    )
    safety_checker: bool = Field(
        False, description="blank what the model's own checker takes for unsafe"
    )
    dtype: DtypeKey = Field(
        "auto",
        description="number type in which the model computes",
        exclude_if=lambda value: value == "auto",
    )
    compile: bool = Field(
        False,
        description="let torch compile the UNet: minutes once, less time in each job after it",
        exclude_if=lambda value: not value,
    )
    _device_dtype: str | None = PrivateAttr(None)
    """Number type on the device that the entry is for; None where no device is known."""

    def is_small(self) -> bool:
        return are_small(self.weights()[1])

    def dtype_on(self, device: Device) -> str:
        """The entry's own dtype, else that of `runtime.dtype`, else the fastest on a CPU.

        A GPU keeps its float16, whose pictures are nearer to float32's than those of bfloat16.
        """
        return chosen_dtype(self.dtype, device, lambda: device.name != "cpu" or self.is_small())

    def for_device(self, device: Device) -> Diffusers:
        entry = self.model_copy()
        entry._device_dtype = self.dtype_on(device)
        return entry

    @property
    def preparation_s(self) -> float:
        return compilation.COMPILE_S if self.compile else 0.0

    @property
    def _folder(self) -> SdFolder:
        dtype = self._device_dtype or self.dtype
        return SdFolder(
            self.path,
            self.safety_checker,
            has_vae=self.vae is None,
            prefers_fp16=dtype == "float16",
        )

    @property
    def _file(self) -> Path | None:
        """The checkpoint that the model is loaded or converted from; None where a folder is."""
        if self.path.is_file():
            return self.path
        return self.single_file if self._is_to_be_converted() else None

    def missing(self) -> str | None:
        if self.vae is not None and self.vae.is_dir():
            return f"{self.vae} is a folder, and `vae` takes one file; name the file in it"
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
        form = "one file" if self.path.suffix in CHECKPOINT_SUFFIXES else "Diffusers format"
        way = f"put a Stable Diffusion 1.5 in {form} there"
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
        if (model := pins.file_named(self.name_in_config, self.path.name)) is not None:
            return [Placement(model, self.path)]
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
        """Convert `single_file` if `path` is not there; True if it was converted. False as well if
        another worker did so meanwhile.

        Raises:
            WeightsMismatch: the file is not a Stable Diffusion 1.5.
        """
        if self.single_file is None or not self._is_to_be_converted():
            return False
        from dna_pipeline.providers.stable_diffusion.convert import convert

        _hush()
        try:
            convert(self.single_file, self.path, tokenizer=self.tokenizer, vae=self.vae)
        except OSError:
            if not self.path.exists():
                raise
            return False
        return True

    def load(self, device: Device) -> StableDiffusion:
        """Raises `WeightsMissing`, `WeightsMismatch`, or `CompilerMissing`."""
        self.convert()
        if not self.path.exists():
            raise WeightsMissing(self._how_to_get())
        return self.for_device(device)._load(device)

    def _load(self, device: Device) -> StableDiffusion:
        if (why := self.mismatch()) is not None:
            raise WeightsMismatch(why)
        _hush()
        if self.path.is_file():
            source = SdFile(self.path, self.vae, self.tokenizer)
        else:
            source = self._folder
            source.check()
        if self.compile:
            compilation.require(device.name.partition(":")[0])
        config = source.scheduler_config()
        pipeline = loading.load_pipeline(
            source,
            replace(device, dtype=self.dtype_on(device)),
            self.vae,
            make_scheduler(config, "euler", "normal"),
        )
        if self.compile:
            pipeline.unet.compile()  # when it is first called; it takes most of a job's time
        return StableDiffusion(pipeline, config)


def _hush() -> None:
    """Keep the libraries from writing to standard error; what matters is raised or logged."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
