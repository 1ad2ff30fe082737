"""Images that clients send as drops: checked, or queued all together, and never twice.

A client that lost the answer sends the same request again, with the same token. The ids of its jobs
are made of the token, so that the ledger itself refuses them a second time, whichever process asks
and whenever.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count, takewhile
from typing import IO, Any

from dna_pipeline.base.errors import (
    ConfigError,
    JobError,
    MaskMissing,
    ParameterInvalid,
    SidecarInvalid,
    SidecarMissing,
)
from dna_pipeline.base.naming import safe_stem
from dna_pipeline.config.batch import count_of
from dna_pipeline.config.schema import SUBMIT_INBOX, Config, Inbox
from dna_pipeline.config.sidecar import JobSpec, parse_sidecar
from dna_pipeline.config.yaml12 import Document, is_list, is_mapping
from dna_pipeline.execution.estimate import Estimator
from dna_pipeline.execution.kept_requests import ReuseForecast, inputs_of
from dna_pipeline.intake.claiming.claim import companions_in
from dna_pipeline.intake.claiming.recorder import Entry
from dna_pipeline.ledger.engine import LedgerError
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.operations.history import STATUSES
from dna_pipeline.operations.serving.readers import Readers
from dna_pipeline.operations.serving.submissions import Submissions, safely_named
from dna_pipeline.operations.submit import Refused, Submission, Submitter

MOST_JOBS = 10_000
"""Most jobs that one request may ask for; a request waits until all of them are planned."""


class TokenReused(ConfigError):
    """Other images were sent with this token before."""


class NoSuchInbox(ConfigError):
    """pipeline.yaml has no inbox of that name."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An image as a client sent it; `stream` can be read again from its beginning."""

    name: str
    stream: IO[bytes]


@dataclass(frozen=True, slots=True)
class DropRequest:
    """A request of a client.

    Attributes:
        sidecar: text of a sidecar, YAML or JSON; "" for none.
        pipeline: takes the place of the sidecar's; None: the sidecar's or the inbox's.
        inbox: under whose name and with whose settings the jobs run; None: as `submit` does.
        token: makes sure that a repeated request makes nothing new; None: each makes jobs.
    """

    images: Sequence[Upload]
    mask: IO[bytes] | None = None
    sidecar: str = ""
    pipeline: str | None = None
    inbox: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job of a drop."""

    id: str
    name: str
    batch: str | None


@dataclass(frozen=True, slots=True)
class QueuedDrop:
    """The jobs that a request has made, or had made before (`is_new` is False)."""

    jobs: list[QueuedJob]
    is_new: bool


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that a request would make.

    Attributes:
        seconds: of its stages, as far as earlier runs tell; None if too little is known.
    """

    name: str
    spec: JobSpec
    seconds: float | None


@dataclass(frozen=True, slots=True)
class PlannedDrop:
    """All jobs that a request would make, and the seconds of those that are before them."""

    jobs: list[PlannedJob] = field(default_factory=list[PlannedJob])
    queue_s: float | None = None


class Drops:
    """Checks and queues what clients send. Threads may share it."""

    def __init__(self, config: Config, readers: Readers, submissions: Submissions) -> None:
        self._config = config
        self._readers = readers
        self._submissions = submissions

    def queue(self, request: DropRequest) -> QueuedDrop:
        """Queue the jobs of a request; on return, they and their images are durable.

        Raises:
            NoSuchInbox: the inbox does not exist.
            TokenReused: the token was used for another image.
            Refused: the image or a value is wrong; its `error` says why.
            ConfigError: the ledger cannot be used, or a value is wrong.
            OSError: the images could not be copied into the data folder.
        """
        inbox = self._inbox(request)
        ledger = self._submissions.ledger()
        if (before := self._before(ledger.id, request)) is not None:
            return before
        submitter = self._submitter(request, inbox)
        name_job = request.token and partial(job_id_of, ledger.id, request.token)
        with self._submissions.prober() as prober:
            try:
                ids = submitter.submit_drops(_submissions(request), prober, name_job or None)
            except LedgerError:
                if (before := self._before(ledger.id, request)) is None:
                    raise
                return before  # the same request came twice at once
        with self._readers.lend() as queries:
            return QueuedDrop(_jobs(queries, ids), True)

    def check(self, request: DropRequest) -> PlannedDrop:
        """Say what `queue` would make. Raises as that, and leaves nothing."""
        submitter = self._submitter(request, self._inbox(request))
        with self._submissions.prober() as prober:
            entries = submitter.check(_submissions(request), prober)
        with self._readers.lend() as queries:
            estimator = Estimator(queries, self._config)
            estimator.refresh()
            waiting = estimator.queue()
            forecast = ReuseForecast(self._config)
            jobs = [job for entry in entries for job in _planned(entry, estimator, forecast)]
        return PlannedDrop(jobs, 0.0 if waiting.jobs == 0 else waiting.seconds)

    def find(self, token: str) -> QueuedDrop | None:
        """Find what a request with that token has made; None if there was none."""
        ledger_id = self._submissions.ledger().id
        with self._readers.lend() as queries:
            jobs = _jobs_of_token(queries, ledger_id, token)
        return QueuedDrop(jobs, False) if jobs else None

    # --- parts ---

    def _before(self, ledger_id: str, request: DropRequest) -> QueuedDrop | None:
        """Find what the same request has made before. Raises `TokenReused`."""
        if request.token is None or (before := self.find(request.token)) is None:
            return None
        firsts = (job_id_of(ledger_id, request.token, n, 0) for n in count())
        with self._readers.lend() as queries:
            made: list[str] = [
                queries.job(job)["drop"]["sha256"] for job in takewhile(queries.find, firsts)
            ]
        if made != [_sha256(image.stream) for image in request.images]:
            raise TokenReused(
                f"other images were sent with this client_token before, and became job "
                f"{before.jobs[0].id[:8]} and those after it; give each request a token of its own"
            )
        return before

    def _inbox(self, request: DropRequest) -> Inbox:
        name = request.inbox or SUBMIT_INBOX
        inbox = self._config.inbox(name)
        if inbox is None or (name == SUBMIT_INBOX and request.inbox is not None):
            names = ", ".join(each.name for each in self._config.inboxes) or "none"
            raise NoSuchInbox(f"no inbox is called {request.inbox!r}; there are: {names}")
        return inbox

    def _submitter(self, request: DropRequest, inbox: Inbox) -> Submitter:
        document, text = _document(request)
        if inbox.sidecar_required and not document.value:
            raise Refused(SidecarMissing(f"inbox {inbox.name!r} requires a sidecar"))
        if request.mask is not None and len(request.images) != 1:
            raise Refused(MaskMissing("a mask belongs to one image; send each image by itself"))
        ledger = self._submissions.ledger()
        return Submitter(
            self._config, ledger, document, inbox=inbox, follows_paths=False, text=text
        )


def job_id_of(ledger_id: str, token: str, image: int, place: int) -> str:
    """The id of a job that was sent with a token: 32 hexadecimal digits, as all have.

    Args:
        image: number of its image in the request, from 0.
        place: number of the job among those of its image, from 0.
    """
    text = f"{ledger_id}\n{token}\n{image}\n{place}"
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _jobs_of_token(queries: Queries, ledger_id: str, token: str) -> list[QueuedJob]:
    ids: list[str] = []
    for number in range(MOST_JOBS):
        first = job_id_of(ledger_id, token, number, 0)
        if queries.find(first) is None:
            break
        batch = queries.job(first)["batch"]
        ids += [first] if batch is None else queries.ids(STATUSES, batch=batch)
    return _jobs(queries, ids)


def _jobs(queries: Queries, ids: Sequence[str]) -> list[QueuedJob]:
    return [QueuedJob(**row) for row in queries.job_names(ids)]


def _document(request: DropRequest) -> tuple[Document, bytes | None]:
    """The sidecar of a request with what its other fields say, and its text; None where the text
    cannot say all of it as a person wrote it.

    Raises `Refused`.
    """
    try:
        document = parse_sidecar(request.sidecar.encode("utf-8", "replace"))
        _require_no_images(document)
        if _number_of_jobs(document) * len(request.images) > MOST_JOBS:
            raise ParameterInvalid(
                f"the request asks for more than {MOST_JOBS:,} jobs; send it in parts, or put a "
                "job file or a table into an inbox"
            )
    except JobError as error:
        raise Refused(error) from None
    own: dict[str, Any] = document.value
    value = dict(own)
    if request.pipeline is not None:
        value["pipeline"] = request.pipeline
    if request.mask is not None and not _names_mask(own):
        value["img2img"] = {**_mapping(own, "img2img"), "mask": "file"}
    if value == own:
        return document, request.sidecar.encode()
    return _amended(request.sidecar, own, value) or (
        Document(value, document.lines, document.unit),
        None,
    )


def _amended(
    text: str, own: Mapping[str, Any], value: Mapping[str, Any]
) -> tuple[Document, bytes] | None:
    """The text with lines at its end for what is new in `value`, so that its comments and the
    numbers of its lines stay; None where that would not say the same."""
    new = {key: each for key, each in value.items() if own.get(key) != each}
    lines = "".join(f"{key}: {json.dumps(each)}\n" for key, each in new.items())
    end = "" if not text or text.endswith("\n") else "\n"
    amended = f"{text}{end}{lines}".encode("utf-8", "replace")
    try:
        document = parse_sidecar(amended)
    except JobError:
        return None
    return (document, amended) if document.value == value else None


def _require_no_images(document: Document) -> None:
    """Raise `SidecarInvalid` if the sidecar names images, which the request brings itself."""
    for key in ("image", "images"):
        if key in document.value:
            text = f"{document.place((key,))}: {key}: leave it out; the request brings the image"
            raise SidecarInvalid(text, where=key)


def _number_of_jobs(document: Document) -> int:
    """Number of jobs for each image; 1 for a matrix that is wrong. Raises `ParameterInvalid`."""
    matrix = document.value.get("matrix")
    axes: Sequence[Any] = list(matrix.values()) if is_mapping(matrix) else []
    return count_of(document) * math.prod(len(axis) for axis in axes if is_list(axis))


def _names_mask(values: Mapping[str, Any]) -> bool:
    """True if the sidecar says itself which mask is used, or if `img2img` is no mapping."""
    is_wrong = not is_mapping(values.get("img2img") or {})
    return is_wrong or any("mask" in _mapping(values, key) for key in values)


def _mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = values.get(key)
    return dict(value) if is_mapping(value) else {}


def _submissions(request: DropRequest) -> list[Submission]:
    for upload in request.images:
        upload.stream.seek(0)
    return [
        safely_named(Submission(each.name, each.stream, request.mask)) for each in request.images
    ]


def _planned(entry: Entry, estimator: Estimator, forecast: ReuseForecast) -> Iterator[PlannedJob]:
    (claim,) = entry.claims
    stem, files = safe_stem(entry.plan.name), companions_in(claim)
    size = (claim.probed.width, claim.probed.height) if claim.probed else (None, None)
    for item in entry.plan.items:
        if isinstance(spec := item.outcome, JobSpec):
            inputs = inputs_of(claim.sha256, files, spec.stage_values)
            reuse = forecast.of(spec.stage_values, inputs, stem, list(spec.tags))
            seconds = estimator.stages(spec.stage_values, *size, reuse)
            yield PlannedJob(entry.plan.name, spec, round(sum(seconds), 1) if seconds else None)


def _sha256(stream: IO[bytes]) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()  # pyright: ignore[reportArgumentType]
