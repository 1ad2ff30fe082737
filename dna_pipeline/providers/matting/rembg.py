"""Cuts a subject from any background with rembg's networks, from files that are already here.

rembg builds its sessions from files that it downloads when they are missing. Here a session class
of rembg is given our own path instead, so that nothing ever goes to the network.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import structlog
from pydantic import Field, field_validator, model_validator

from dna_pipeline.base.errors import (
    EmptyForeground,
    NonFiniteOutput,
    OutOfMemory,
    ParameterInvalid,
    WeightsMismatch,
)
from dna_pipeline.providers.base import Device, Provider, WeightsPath
from dna_pipeline.providers.device_errors import is_device_fault, is_out_of_memory
from dna_pipeline.weights import slots
from dna_pipeline.weights.pins import Pins, Placement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

log = structlog.get_logger()

RELEASE = "https://github.com/danielgatis/rembg/releases/download/v0.0.0/"
"""Address of the files that rembg publishes."""

CUDA = "CUDAExecutionProvider"
COREML = "CoreMLExecutionProvider"
CPU = "CPUExecutionProvider"
_PROVIDERS = {"cuda": CUDA, "mps": COREML}
"""onnxruntime's execution provider for a kind of device, as torch names it; the CPU's for others.
"""
_WAY = (
    "Install the build of onnxruntime that has it (`onnxruntime-gpu` for CUDA, with the CUDA and "
    "cuDNN that it was built for), or set device: auto or cpu in the model's entry."
)

MATTING_PX = 2_000_000
"""Alpha matting solves for each pixel; larger pictures are matted on a copy of that many."""


OPAQUE = 245
"""Least alpha of the networks' that counts as opaque: they hardly ever reach 255, and a subject
would be a little transparent all over."""
_SOLIDIFIED = [255 if value >= OPAQUE else value for value in range(256)]


MODELS: Mapping[str, str | None] = {
    "u2net": "u2net.onnx",
    "u2netp": "u2netp.onnx",
    "u2net_human_seg": "u2net_human_seg.onnx",
    "silueta": "silueta.onnx",
    "isnet-general-use": "isnet-general-use.onnx",
    "isnet-anime": "isnet-anime.onnx",
    "birefnet-general": "BiRefNet-general-epoch_244.onnx",
    "birefnet-general-fp16": None,
    "birefnet-general-lite": "BiRefNet-general-bb_swin_v1_tiny-epoch_232.onnx",
    "birefnet-portrait": "BiRefNet-portrait-epoch_150.onnx",
    "birefnet-dis": "BiRefNet-DIS-epoch_590.onnx",
    "birefnet-hrsod": "BiRefNet-HRSOD_DHU-epoch_115.onnx",
    "birefnet-cod": "BiRefNet-COD-epoch_125.onnx",
    "birefnet-massive": "BiRefNet-massive-TR_DIS5K_TR_TEs-epoch_420.onnx",
    "bria-rmbg": "bria-rmbg-2.0.onnx",
    "u2net_custom": None,
    "dis_custom": None,
    "ben_custom": None,
}
"""The models that give one mask from one picture, by rembg's names, and the name of each one's
file in rembg's release; None where there is none to fetch."""


_IDENTITY = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12'
    b"\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x02\x10\r"
)
"""ONNX model (IR 8, operators 13) of one node, which gives its input `x`, one float32, as `y`."""


class Rembg(Provider):
    """One of rembg's networks, read from `path`; never fetched."""

    name_in_config: ClassVar[str] = "rembg"
    stages: ClassVar[frozenset[str]] = frozenset({"remove_background"})
    machine_options: ClassVar[frozenset[str]] = frozenset({"device"})

    name: str = Field(
        description="rembg's name of the model, e.g. u2net or isnet-general-use",
        json_schema_extra={"enum": list(MODELS)},
    )
    path: WeightsPath = Field(
        Path("models"),
        description="the .onnx file",
        json_schema_extra={"default_words": "models/<name>.onnx"},
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?|coreml)$",
        description="device of the network; auto: the worker's, where onnxruntime can use it",
        json_schema_extra={"values": "auto, cpu, cuda, cuda:N, coreml"},
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        entry = cast("dict[str, Any]", data)
        name = str(entry.get("name"))
        return {"path": f"models/{name}.onnx"} | entry

    @property
    def needs_device(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """False on the CPU, where the worker need not look for a device."""
        return self.device != "cpu"

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in MODELS:
            close = get_close_matches(name, MODELS, n=1)
            raise ValueError(
                (f"did you mean {close[0]!r}? " if close else "")
                + f"rembg's models are {', '.join(MODELS)}"
            )
        return name

    def missing(self) -> str | None:
        if self.path.is_file():
            return None
        if self.path.is_dir():
            return (
                f"{self.path} is a folder, and {self.name} is one file; move the folder away and "
                "put the file there, or let `path` name the file"
            )
        file = MODELS[self.name]
        what = f"download {RELEASE}{file}" if file else f"take your {self.name} model as ONNX"
        way = self.way_to_get(f"{what} and put it there under that name")
        return f"{self.path} is not there; {way}"

    def published(self, pins: Pins) -> list[Placement]:
        model = pins.file_named(self.name_in_config, f"{self.name}.onnx")
        return [] if model is None else [Placement(model, self.path)]

    def mismatch(self) -> str | None:
        return slots.mismatch(self.path, slots.ONNX)

    def weights(self) -> tuple[Path, list[Path]]:
        return self.path, [self.path]

    def place_on(self, device: Device) -> Device:
        """The device that onnxruntime is asked for: the CPU where its build knows no better."""
        try:
            first = execution_providers(device, self.device)[0]
        except (ImportError, ParameterInvalid):  # `load` reports it
            first = CPU
        if first == CPU:
            return _place(CPU, self.name)
        provider, options = first
        return _place(provider, self.name, options.get("device_id", 0))

    def load(self, device: Device) -> RembgMatting:
        """Raises `WeightsMismatch` if the file is not a network that onnxruntime can run, and
        `ParameterInvalid` if it cannot compute on the device that the entry names."""
        requested = execution_providers(device, self.device)
        model = RembgMatting(self.path, _session(self.name, self.path, requested))
        if self.device not in ("auto", "cpu") and model.computes_on.name == "cpu":
            raise ParameterInvalid(
                f"device: {self.device}, but onnxruntime went back to the CPU for {self.path.name}",
                hint=_WAY,
            )
        return model


class RembgMatting:
    """A loaded network; a `Matting`. Its session is built once."""

    def __init__(self, path: Path, session: Any) -> None:
        self._path = path
        self._session = session
        self._is_compiled = False

    @property
    def is_compiled(self) -> bool:
        """True if `alpha_matting` takes only its own time."""
        return self._is_compiled

    def compile_matting(self) -> None:
        """Load and compile what `alpha_matting` needs: a minute where numba's cache is cold, else
        seconds."""
        from PIL import Image

        gradient = Image.linear_gradient("L").resize((48, 48))
        edge = gradient.point([0] * 120 + [128] * 16 + [255] * 120)
        _matted(gradient.convert("RGB"), edge)
        self._is_compiled = True

    @property
    def computes_on(self) -> Device:
        """The device that onnxruntime took, which may not be the one that was asked for, and what
        it multiplies in there. On the CPU it computes networks of float16 in float32; CoreML
        chooses among Apple's processors, and may round to 16 bits there."""
        inner = self._session.inner_session
        provider, name = inner.get_providers()[0], self._session.model_name
        if provider != CUDA:
            return _place(provider, name)
        return _place(CUDA, name, inner.get_provider_options()[CUDA].get("device_id", "0"))

    def alpha(self, image: Image.Image, *, alpha_matting: bool = False) -> Image.Image:
        """RGB in; mode L of the same size out, with `OPAQUE` and more made 255.

        Args:
            alpha_matting: solve for the alpha of each pixel near the mask's edge, as
                `rembg -a` does; slow, better for hair and fur. Where the mask leaves nothing
                to solve, it is returned as it is.

        Raises:
            EmptyForeground: the network sees no difference between subject and background.
            NonFiniteOutput: it gives values that are not numbers.
            WeightsMismatch: the file is not the network that the model's name says.
            OutOfMemory: of the device.
        """
        rgb = image.convert("RGB")
        mask = self._mask(rgb)
        return (_matted(rgb, mask) if alpha_matting else mask).point(_SOLIDIFIED)

    def _mask(self, rgb: Image.Image) -> Image.Image:
        import numpy as np

        try:
            # rembg stretches the output to 0..1, which divides by zero where it is flat.
            with np.errstate(invalid="raise", divide="raise", over="ignore", under="ignore"):
                return self._session.predict(rgb)[0]
        except FloatingPointError as error:
            if "divide" in str(error):
                raise EmptyForeground("the network sees no subject in this picture") from error
            raise NonFiniteOutput("the network's mask holds values that are not numbers") from error
        except Exception as error:
            _raise_mapped(error, self._path)
            raise


def _raise_mapped(error: Exception, path: Path) -> None:
    """Raise what an error of onnxruntime or of rembg's reading of its output means, if known. A
    failed device is raised as it is: it says nothing of the file."""
    text = str(error).strip().partition("\n")[0]
    if is_out_of_memory(error):
        raise OutOfMemory(text) from error
    if is_device_fault(error):
        raise error
    if type(error).__name__ == "InvalidArgument" or isinstance(error, IndexError | ValueError):
        raise WeightsMismatch(f"{path} is not the network its name says: {text}") from error


def _matted(rgb: Image.Image, mask: Image.Image) -> Image.Image:
    bg: Any = importlib.import_module("rembg.bg")
    scale = min(1.0, (MATTING_PX / (rgb.width * rgb.height)) ** 0.5)
    size = (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))
    try:
        # rembg's own defaults: sure foreground, sure background, px of doubt on either side
        cutout = bg.alpha_matting_cutout(rgb.resize(size), mask.resize(size), 240, 10, 10)
    except ValueError:
        return mask
    return cutout.getchannel("A").resize(rgb.size)


def _session(name: str, path: Path, requested: list[Any]) -> Any:
    """A session of rembg's class for that model, on our file."""
    options: Any = _onnxruntime().SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = _threads()
    base: Any = _session_classes()[name]

    class OnOurFile(base):
        @classmethod
        def download_models(cls, *_: object, **__: object) -> str:
            return str(path)

        def _warn_on_provider_fallback(self, requested: object) -> None:
            """Do nothing: `_warn_fallback` logs an event instead of rembg's warning."""

    try:
        session: Any = OnOurFile(name, options, providers=requested, model_path=str(path))
    except Exception as error:
        _raise_mapped(error, path)
        text = str(error).strip().partition("\n")[0]
        raise WeightsMismatch(f"{path} cannot be read as {name}: {text}") from error
    _warn_fallback(name, requested, session.inner_session.get_providers())
    return session


def _onnxruntime() -> Any:
    """`onnxruntime`: loaded when first used, and without types of its own."""
    return importlib.import_module("onnxruntime")


def execution_providers(device: Device, requested: str = "auto") -> list[Any]:
    """The execution providers to ask onnxruntime for, the fastest first; the CPU's is the last.

    Args:
        device: that of the worker.
        requested: `device` of the model's entry: auto is the worker's device, and the CPU where
            onnxruntime's build knows no better.

    Raises:
        ParameterInvalid: this build of onnxruntime cannot compute on a device that is named. The
            job fails and is not held, since others, with other models, can run.
    """
    name = {"auto": device.name, "coreml": "mps"}.get(requested, requested)
    kind, _, index = name.partition(":")
    provider = _PROVIDERS.get(kind)
    if provider is None:
        return [CPU]
    if provider not in _onnxruntime().get_available_providers():
        if requested == "auto":
            return [CPU]
        raise ParameterInvalid(f"device: {requested}, but onnxruntime has no {provider}", hint=_WAY)
    options = {"device_id": int(index or 0)} if provider == CUDA else {}
    return [(provider, options), CPU]


def _place(provider: str, network: str, card: int | str = 0) -> Device:
    """Device and number type of a network of rembg in an execution provider."""
    if provider == COREML:
        return Device("coreml", "float32")
    if provider != CUDA:
        return Device("cpu", "float32")
    return Device(f"cuda:{card}", "float16" if network.endswith("-fp16") else "float32")


def try_out(device: Device) -> dict[str, str]:
    """Run a network of one node, to see what rembg's networks would run on.

    Returns onnxruntime's `version`, and the execution `provider` that it took for the device. Any
    error of onnxruntime is raised.
    """
    options: Any = _onnxruntime().SessionOptions()
    options.log_severity_level = 3
    requested = execution_providers(device)
    session: Any = _onnxruntime().InferenceSession(_IDENTITY, options, providers=requested)
    import numpy as np

    one = np.ones(1, np.float32)
    (result,) = session.run(None, {"x": one})
    if result != one:
        raise RuntimeError(f"onnxruntime computes {result} where 1 is right")
    return {"version": _onnxruntime().__version__, "provider": session.get_providers()[0]}


def _warn_fallback(name: str, requested: list[Any], active: list[str]) -> None:
    if len(requested) > len(active):
        log.warning("session.fell_back", model=name, active=active)


def _threads() -> int:
    """Threads of onnxruntime: one for each core, and no more than OMP_NUM_THREADS says."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(_cores(), max(int(limit), 1)) if limit.isdecimal() else _cores()


def _cores() -> int:
    """Cores this process may use; onnxruntime counts those of the whole machine."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _session_classes() -> Mapping[str, Any]:
    """rembg's session classes by model name, without all that `import rembg` brings.

    `rembg/__init__` imports pymatting, and numba compiles that for the better part of a minute
    wherever its cache is cold or cannot be written. The sessions need none of it: while they load,
    a bare module that knows the package's folder stands in for the package.
    """
    spec = importlib.util.find_spec("rembg")
    if "rembg" not in sys.modules and spec is not None:
        sys.modules["rembg"] = importlib.util.module_from_spec(spec)
        try:
            return importlib.import_module("rembg.sessions").sessions
        except (ImportError, AttributeError):  # a rembg whose sessions need the package itself
            for name in [name for name in sys.modules if name.startswith("rembg.")]:
                del sys.modules[name]
        finally:
            del sys.modules["rembg"]
    return importlib.import_module("rembg.sessions").sessions
