"""Pictures of several jobs that are redrawn in one call of the model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dna_pipeline.providers.base import RedrawsSeveral
from dna_pipeline.providers.device_errors import is_device_fault

if TYPE_CHECKING:
    from PIL import Image

    from dna_pipeline.providers.base import ImageToImage, ImageToImageRequest, StepCallback


ALONE = "{} pictures could not be redrawn at once, so each was redrawn alone: {}"

Retry = Literal["together", "alone"]


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
        retry: how the piece, which has neither picture nor error, is to ask for another turn;
            None if it has one of them.
    """

    picture: Image.Image | None
    error: Exception | None
    batch_size: int
    remarks: list[str]
    retry: Retry | None = None

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
    """Redraw all pieces at once, as far as the model can.

    Where one job is cancelled, the turn ends, and the others are to share another one. Where a call
    fails, as for lack of memory, each piece is to have a turn alone. A model that takes one picture
    at a time redraws the first piece, and the others are to have turns alone. So a cancelled job
    ends at once, and each redrawing has a time limit of its own.

    Raises:
        Exception: the device reported a fault.
    """
    if len(pieces) == 1:
        return [_redrawn(model, pieces[0])]
    if not isinstance(model, RedrawsSeveral):
        first, *others = pieces
        return [_redrawn(model, first), *(_unfinished("alone") for _ in others)]
    stopped: dict[int, Exception] = {}
    try:
        results = _at_once(model, pieces, stopped)
    except Exception as error:
        if is_device_fault(error):
            raise
        if not stopped:
            why = ALONE.format(len(pieces), error)[:500]
            return [_unfinished("alone", why) for _ in pieces]
        results = [stopped.get(number) for number in range(len(pieces))]
    return [
        _unfinished("together")
        if result is None
        else _outcome(result, len(pieces), model.remarks(piece.request))
        for piece, result in zip(pieces, results, strict=True)
    ]


def _at_once(
    model: RedrawsSeveral, pieces: Sequence[Piece], stopped: dict[int, Exception]
) -> Sequence[Image.Image | Exception | None]:
    """Redraw the pieces in one call.

    Args:
        stopped: gets the errors of jobs that do not go on, by the numbers of their pieces; the call
            ends with one then.
    """

    def on_step(step: int, steps: int) -> None:
        for number, piece in enumerate(pieces):
            try:
                piece.on_step(step, steps)
            except Exception as error:
                stopped[number] = error
        if stopped:
            raise next(iter(stopped.values()))

    images = [piece.image for piece in pieces]
    requests = [piece.request for piece in pieces]
    return model.redraw_several(images, requests, on_step)


def _redrawn(model: ImageToImage, piece: Piece) -> Outcome:
    """Redraw one piece."""
    try:
        result: Image.Image | Exception = model.redraw(piece.image, piece.request, piece.on_step)
    except Exception as error:
        if is_device_fault(error):
            raise
        result = error
    return _outcome(result, 1, model.remarks(piece.request))


def _outcome(result: Image.Image | Exception, batch_size: int, remarks: list[str]) -> Outcome:
    if isinstance(result, Exception):
        return Outcome(None, result, batch_size, remarks)
    return Outcome(result, None, batch_size, remarks)


def _unfinished(retry: Retry, *remarks: str) -> Outcome:
    """The outcome of a piece that needs another turn."""
    return Outcome(None, None, 1, list(remarks), retry)
