"""Pictures of several jobs that are redrawn in one call of the model."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dna_pipeline.providers.base import RedrawsSeveral
from dna_pipeline.providers.device_errors import is_device_fault

if TYPE_CHECKING:
    from PIL import Image

    from dna_pipeline.providers.base import ImageToImage, ImageToImageRequest, StepCallback


ALONE = "{} pictures could not be redrawn at once, so each was redrawn alone: {}"


@dataclass(frozen=True, slots=True)
class Piece:
    """A job's part of the work.

    Attributes:
        on_step: the job's own; raises `Cancelled` where it is to stop.
    """

    image: Image.Image
    request: ImageToImageRequest
    on_step: StepCallback


@dataclass(frozen=True, slots=True)
class Outcome:
    """A piece's picture or error.

    Attributes:
        batch_size: number of the pictures that were redrawn at once.
        remarks: sentences for the manifest about parts of the request that the model ignores.
    """

    picture: Image.Image | None
    error: Exception | None
    batch_size: int
    remarks: list[str]

    def unwrap(self) -> Image.Image:
        """The picture. Raises the error."""
        if self.error is not None:
            raise self.error
        assert self.picture is not None
        return self.picture


def key_of(image: Image.Image, request: ImageToImageRequest) -> Hashable | None:
    """Equal for pieces that one call can redraw; None if no other can be redrawn with it."""
    is_tiled = request.tile is not None and max(image.size) > request.tile
    if request.mask is not None or request.saves_memory or is_tiled:
        return None
    return (
        image.size, request.steps, request.strength, request.guidance_scale, request.sampler,
        request.schedule, request.prompt_syntax, request.clip_skip,
        tuple((str(lora.path), lora.weight) for lora in request.loras),
    )  # fmt: skip


def redraw(model: ImageToImage, pieces: Sequence[Piece]) -> list[Outcome]:
    """Redraw all pieces: at once if the model can, else one after another.

    Where one job is cancelled, the others begin anew without it. Where a call fails, as for lack
    of memory, each piece is redrawn alone.

    Raises:
        Exception: the device reported a fault.
    """
    remarks = [model.remarks(piece.request) for piece in pieces]
    outcomes: dict[int, tuple[Image.Image | Exception, int]] = {}
    left = dict(enumerate(pieces))
    while len(left) > 1 and isinstance(model, RedrawsSeveral):
        stopped: dict[int, Exception] = {}
        try:
            results = _at_once(model, left, stopped)
        except Exception as error:
            if is_device_fault(error):
                raise
            if not stopped:
                why = ALONE.format(len(left), error)[:500]
                remarks = [[*said, why] for said in remarks]
                break
            results = stopped
        outcomes |= {n: (result, len(left)) for n, result in results.items()}
        left = {n: piece for n, piece in left.items() if n not in outcomes}
    outcomes |= {n: (_redrawn(model, piece), 1) for n, piece in left.items()}
    return [_outcome(*outcomes[n], said) for n, said in enumerate(remarks)]


def _at_once(
    model: RedrawsSeveral, pieces: Mapping[int, Piece], stopped: dict[int, Exception]
) -> dict[int, Image.Image | Exception]:
    """Redraw the pieces in one call.

    Args:
        stopped: gets the errors of jobs that do not go on; the call ends with one then.
    """

    def on_step(step: int, steps: int) -> None:
        for number, piece in pieces.items():
            try:
                piece.on_step(step, steps)
            except Exception as error:
                stopped[number] = error
        if stopped:
            raise next(iter(stopped.values()))

    images = [piece.image for piece in pieces.values()]
    requests = [piece.request for piece in pieces.values()]
    return dict(zip(pieces, model.redraw_several(images, requests, on_step), strict=True))


def _redrawn(model: ImageToImage, piece: Piece) -> Image.Image | Exception:
    try:
        return model.redraw(piece.image, piece.request, piece.on_step)
    except Exception as error:
        if is_device_fault(error):
            raise
        return error


def _outcome(result: Image.Image | Exception, batch_size: int, remarks: list[str]) -> Outcome:
    if isinstance(result, Exception):
        return Outcome(None, result, batch_size, remarks)
    return Outcome(result, None, batch_size, remarks)
