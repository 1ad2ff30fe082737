"""Files that people drop on the page: images, each perhaps with a YAML and a mask of its name.

Each image becomes a job of its own, so that a wrong one keeps no other back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from dna_pipeline.base.errors import ConfigError, JobError
from dna_pipeline.base.naming import name_of
from dna_pipeline.config.prompt_file import is_prompt_file
from dna_pipeline.config.sidecar import parse_sidecar
from dna_pipeline.config.tables import is_table_name
from dna_pipeline.config.yaml12 import MAX_BYTES
from dna_pipeline.intake.discovery.mask_names import is_mask_name, masks_of
from dna_pipeline.intake.discovery.names import MATCHES
from dna_pipeline.intake.discovery.scan import is_image_name, is_passed_over, is_yaml_name
from dna_pipeline.operations.lookup import explain
from dna_pipeline.operations.serving.drops import DropRequest, Drops, PlannedDrop, QueuedJob, Upload
from dna_pipeline.operations.submit import Refused


@dataclass(frozen=True, slots=True)
class DroppedFile:
    """A file as a browser sent it; its name may begin with folders of the sender's machine."""

    name: str
    stream: IO[bytes]


@dataclass(frozen=True, slots=True)
class FormDrop:
    """Files and settings that a form has sent.

    Attributes:
        sidecar: the settings of the form as the text of a sidecar, for images without one.
        pipeline: for images whose sidecar names none.
        token: of the form; the same image with the same settings makes one job.
    """

    files: Sequence[DroppedFile]
    sidecar: str
    pipeline: str
    token: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Fate of a file.

    Attributes:
        state: `queued`, `known` (the same was sent before), `checked`, or `refused`.
        settings_from: name of the YAML that the image came with.
        code, sentence, hint, where: of a refusal; `where` is the key that causes it.
        seconds: of a checked image's jobs, as far as earlier runs tell.
    """

    name: str
    state: str
    jobs: Sequence[QueuedJob] = ()
    number: int = 0
    settings_from: str = ""
    code: str = ""
    sentence: str = ""
    hint: str = ""
    where: str = ""
    seconds: float | None = None
    stages: Sequence[str] = ()


@dataclass(slots=True)
class _Sorted:
    """Files by what they are: images with the place of their YAML and mask, and the refused."""

    images: list[DroppedFile] = field(default_factory=list[DroppedFile])
    sidecars: dict[str, DroppedFile] = field(default_factory=dict[str, DroppedFile])
    masks: dict[str, DroppedFile] = field(default_factory=dict[str, DroppedFile])
    refused: list[Outcome] = field(default_factory=list[Outcome])


def drop(drops: Drops, form: FormDrop, *, is_check: bool) -> list[Outcome]:
    """Check or queue all images of a form, one after the other; say what became of each file.

    Args:
        is_check: True to queue nothing, and to say what would be queued.

    Raises:
        ConfigError: the ledger cannot be used, before anything is queued.
    """
    files = _sort(form.files)
    return [*(_one(drops, form, files, image, is_check) for image in files.images), *files.refused]


def _one(
    drops: Drops, form: FormDrop, files: _Sorted, image: DroppedFile, is_check: bool
) -> Outcome:
    sidecar = files.sidecars.get(image.name)
    source = sidecar.name if sidecar else ""
    try:
        request = _request(form, image, sidecar, files.masks.get(image.name))
        if is_check:
            return _planned(image.name, source, drops.check(request))
        queued = drops.queue(request)
    except Refused as error:
        return _refused(image.name, error.error, source)
    except (ConfigError, OSError) as error:
        return Outcome(
            image.name, "refused", settings_from=source, code=getattr(error, "code", ""),
            sentence=explain(name_of(image.name), error),
        )  # fmt: skip
    state = "queued" if queued.is_new else "known"
    return Outcome(image.name, state, queued.jobs, len(queued.jobs), source)


def _request(
    form: FormDrop, image: DroppedFile, sidecar: DroppedFile | None, mask: DroppedFile | None
) -> DropRequest:
    text, pipeline = form.sidecar, None
    if sidecar is not None:
        text, pipeline = _text_of(sidecar), form.pipeline
        try:
            if "pipeline" in parse_sidecar(text.encode("utf-8", "replace")).value:
                pipeline = None
        except JobError as error:
            raise Refused(error) from None
    streams = [image.stream, *([mask.stream] if mask else [])]
    token = _token(form.token, [image.name, text, pipeline or ""], streams)
    upload = Upload(name_of(image.name), image.stream)
    return DropRequest([upload], mask and mask.stream, text, pipeline, None, token)


def _text_of(sidecar: DroppedFile) -> str:
    sidecar.stream.seek(0)
    try:
        return sidecar.stream.read(MAX_BYTES + 1).decode("utf-8-sig")
    except UnicodeDecodeError:
        name = name_of(sidecar.name)
        raise ConfigError(f"{name} is no text in UTF-8; save it as UTF-8") from None


def _token(form_token: str, texts: Sequence[str], streams: Sequence[IO[bytes]]) -> str:
    digest = hashlib.sha256("\0".join([form_token, *texts]).encode("utf-8", "backslashreplace"))
    for stream in streams:
        stream.seek(0)
        digest.update(hashlib.file_digest(stream, "sha256").digest())  # pyright: ignore[reportArgumentType]
        stream.seek(0)
    return digest.hexdigest()


def _planned(name: str, source: str, plan: PlannedDrop) -> Outcome:
    timed = [job.seconds for job in plan.jobs if job.seconds is not None]
    seconds = sum(timed) if len(timed) == len(plan.jobs) else None
    stages = [stage.id for stage in plan.jobs[0].spec.stages] if plan.jobs else []
    return Outcome(
        name, "checked", number=len(plan.jobs), settings_from=source, seconds=seconds,
        stages=stages,
    )  # fmt: skip


def _refused(name: str, error: JobError, source: str) -> Outcome:
    sentence = error.detail or error.sentence
    return Outcome(
        name, "refused", settings_from=source, code=error.code, sentence=sentence,
        hint=error.hint or (error.sentence if error.detail else ""), where=error.where,
    )  # fmt: skip


def _sort(files: Sequence[DroppedFile]) -> _Sorted:
    groups = _Sorted()
    named: dict[str, DroppedFile] = {}
    for file in files:
        path = file.name.replace("\\", "/")
        if named.setdefault(path, file) is not file:
            text = "Another file of this name was dropped with it, and is taken."
            groups.refused.append(_other(path, "name_taken", text, "Drop this one by itself."))
    plain = {
        path: file
        for path, file in named.items()
        if not any(is_passed_over(part) for part in path.split("/"))
    }
    pictures = [path for path in plain if is_image_name(path)]
    masks = masks_of(pictures).mask_of
    groups.images = [plain[path] for path in pictures if not is_mask_name(path)]
    groups.masks = {plain[image].name: plain[mask] for image, mask in masks.items()}
    paired = set(masks.values())
    groups.refused += [
        _other(name, "mask_missing", "It is a mask, and no image of its name is among the files.",
               "Choose the image together with it.")
        for name in pictures
        if is_mask_name(name) and name not in paired
    ]  # fmt: skip
    images = [path for path in pictures if not is_mask_name(path)]
    for path in plain:
        if is_yaml_name(path):
            _pair(groups, path, plain, images)
        elif not is_image_name(path):
            groups.refused.append(_not_taken(path))
    return groups


def _pair(groups: _Sorted, path: str, plain: dict[str, DroppedFile], images: Sequence[str]) -> None:
    for of_image, of_sidecar in MATCHES:
        fitting = [image for image in images if of_image(image) == of_sidecar(path)]
        if len(fitting) > 1:
            groups.refused.append(
                _other(path, "sidecar_ambiguous", "Several images share its name.",
                       f"Name it after one of them, like {name_of(fitting[0])}.yaml.")
            )  # fmt: skip
            return
        if fitting:
            image = plain[fitting[0]].name
            if image in groups.sidecars:
                text = f"The image has {name_of(groups.sidecars[image].name)} already."
                groups.refused.append(
                    _other(path, "sidecar_ambiguous", text, "Keep one of the two.")
                )
            else:
                groups.sidecars[image] = plain[path]
            return
    groups.refused.append(
        _other(path, "image_missing", "No image of its name is among the files.",
               "Choose the image together with it, or put a job file into an inbox folder, "
               "beside the images that it names.")
    )  # fmt: skip


def _not_taken(path: str) -> Outcome:
    if is_table_name(path):
        return _other(
            path, "table_not_taken", "A table is not taken here.",
            "Put it into an inbox folder, together with the images that it names: each of its rows "
            "becomes a job there.",
        )  # fmt: skip
    if is_prompt_file(path):
        return _other(path, "not_an_image", "A text file is not taken here.",
                      "Write its text into the field prompt, or into a YAML.")  # fmt: skip
    return _other(path, "not_an_image", "It is neither an image nor a YAML.",
                  "Save it as PNG, JPEG, WebP or TIFF.")  # fmt: skip


def _other(name: str, code: str, sentence: str, hint: str) -> Outcome:
    return Outcome(name, "refused", code=code, sentence=sentence, hint=hint)


def problems_by_field(
    outcomes: Sequence[Outcome], names: frozenset[str]
) -> Iterator[tuple[str, str]]:
    """Give the refusals that a field of the form causes, by the field's name."""
    for outcome in outcomes:
        if outcome.where in names and not outcome.settings_from:
            yield outcome.where, outcome.sentence
