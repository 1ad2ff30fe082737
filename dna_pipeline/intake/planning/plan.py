"""Make the plan of a job file or a table: its rows, their images, and their errors.

Changes no file; the claims of batches and `check` use it.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import ImageMissing, JobError, PathEscapesInbox
from dna_pipeline.config.batch import (
    BatchHead,
    Row,
    head_of,
    patterns_of,
    rows_of_job_file,
    rows_of_table,
)
from dna_pipeline.config.dialect import Dialect
from dna_pipeline.config.image_paths import (
    Place,
    is_pattern,
    matches,
    places,
    slashed,
)
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sidecar import JobSpec, parse_sidecar, resolve
from dna_pipeline.config.tables import MAX_BYTES, parse_table
from dna_pipeline.config.yaml12 import Document, is_mapping
from dna_pipeline.intake.discovery.candidates import Candidate
from dna_pipeline.intake.discovery.names import fold
from dna_pipeline.intake.discovery.probe import NotReadable, Probed, Prober
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.nearest_images import NearestImages
from dna_pipeline.intake.planning.references import escape_error
from dna_pipeline.intake.planning.source_roots import (
    literal_file,
    obstacle,
    source_root_files,
    unreachable_reason,
)
from dna_pipeline.weights.fingerprint import Fingerprints

ModelIdentities = Callable[[str], Any]
"""Values that identify the model of a name, for dedup keys."""


@dataclass(slots=True, eq=False)
class Source:
    """An image that rows name.

    Attributes:
        path: its path, absolute.
        relative: its path in the inbox; None for an image in a source root.
        probed: its size, once it was probed.
        error: error of its rows, if it cannot be used.
        real: the file itself if `path`, in a source root, may lead to it by symbolic links.
        unreachable: reason why nobody could look for it, such as a missing permission; else "".
    """

    path: Path
    relative: str | None
    probed: Probed | None = None
    error: JobError | None = None
    real: Path | None = None
    unreachable: str = ""

    @property
    def file(self) -> Path:
        """The file to read: never a symbolic link."""
        return self.real or self.path

    @property
    def folder(self) -> str:
        """Folder of the image in the inbox."""
        return (self.relative or "").rpartition("/")[0]

    def probe(self, prober: Prober) -> Probed | JobError:
        answer = NotReadable(self.unreachable) if self.unreachable else prober.probe(self.file)
        if isinstance(answer, JobError):
            self.error = answer
        else:
            self.probed = answer
        return answer


@dataclass(slots=True, eq=False)
class PlanItem:
    """A row with its image, or with its error."""

    row: Row
    source: Source | None = None
    error: JobError | None = None


@dataclass(slots=True)
class Plan:
    """The jobs that a job file or a table asks for.

    Attributes:
        batch_file: the path of the table or the job file, relative to the inbox.
        head: the settings that hold for the batch as a whole.
        items: its rows, in order.
        text: the job file as written; None for a table.
        dialect: form of the table, which `batch.csv` has too.
        sources: the images of rows without errors, each once.
    """

    batch_file: str
    head: BatchHead
    items: list[PlanItem]
    text: str | None
    dialect: Dialect = field(default_factory=Dialect)
    sources: list[Source] = field(default_factory=list[Source])

    @property
    def kind(self) -> str:
        return "job_file" if self.text is not None else "table"


class Planner:
    """Makes the plans of one inbox."""

    def __init__(self, config: Config, inbox: Inbox) -> None:
        self._config = config
        self._inbox = inbox
        self.batch = ""
        """The name of the present batch, for templates."""
        self._folder = ""
        self._nearest = NearestImages()
        self._claimed_by_others: Mapping[str, str] = {}

    def plan(self, candidate: Candidate) -> Plan:
        """Read a batch's files where they lie now; its images are not probed yet.

        Raises:
            JobError: the batch as a whole is wrong.
            OSError: a file cannot be read.
        """
        self._folder, _, name = (candidate.table or candidate.sidecar or "").rpartition("/")
        self.batch = job_rows.printable(name.rpartition(".")[0])
        self._nearest = NearestImages()
        self._claimed_by_others = {
            fold(image): other for image, other in candidate.claimed_by_others
        }
        document: Document | None = None
        text: str | None = None
        if candidate.sidecar is not None:
            data = job_rows.read_sidecar(self._inbox.path / candidate.sidecar)
            document, text = parse_sidecar(data), job_rows.as_text(data)
        plan = (
            self._of_job_file(candidate, document, text)
            if candidate.table is None
            else self._of_table(candidate.table, candidate, document)
        )
        for item in plan.items:
            if item.error is None:
                item.error = self.row_error(item)
        self._gather(plan)
        return plan

    def _of_job_file(
        self, candidate: Candidate, document: Document | None, text: str | None
    ) -> Plan:
        assert candidate.sidecar is not None
        assert document is not None
        folder = candidate.sidecar.rpartition("/")[0]
        sources: dict[str, Source] = {}
        there = _by_name(candidate.images)
        for pattern in patterns_of(document):
            for source in self._matching(pattern, folder, there):
                sources.setdefault(str(source.path), source)
        rows = rows_of_job_file(document, sources)
        items = [PlanItem(row, sources[row.image or ""]) for row in rows]
        for item in items:
            if item.source is not None and item.source.error is not None:
                item.error = item.source.error
        return Plan(candidate.sidecar, head_of(document), items, text or "")

    def _matching(self, pattern: str, folder: str, there: Mapping[str, str]) -> Iterable[Source]:
        """Images that an entry of a job file names; none for a glob that fits no image."""
        is_glob = is_pattern(pattern)
        options = places(self._inbox, folder, pattern)
        escaping: Source | None = None
        for place in options:
            # A file's name may look like a glob, so an entry is tried as a name before as a glob.
            if (source := self._literal(place, there)) is not None:
                if source.error is None:
                    return [source]
                escaping = escaping or source
            if is_glob and (fitting := self._globbed(place, there)):
                return fitting
        if escaping is not None:
            return [escaping]
        if is_glob:
            return []
        if (source := self._unreachable(options)) is not None:
            return [source]
        path = self._inbox.path / folder / pattern
        was_waited_for = options[0].root is None
        text = (
            f"{pattern} did not come within an hour" if was_waited_for else f"there is no {pattern}"
        )
        if why := self._obstacle(options):
            text = f"{pattern} {why}"
        if other := self.other_owner(options):
            text = f"{pattern} goes to {other}, which names it too"
        return [Source(path, None, error=ImageMissing(text, where="images"))]

    def _globbed(self, place: Place, there: Mapping[str, str]) -> list[Source]:
        if place.root is not None:
            files = source_root_files(place, self._inbox.source_roots)
            return [Source(file.path, None, real=file.real) for file in files]
        fitting = {image for image in there.values() if matches(image, place.path)}
        return [Source(self._inbox.path / image, image) for image in sorted(fitting)]

    def _of_table(self, table: str, candidate: Candidate, common: Document | None) -> Plan:
        with (self._inbox.path / table).open("rb") as file:
            content = parse_table(self._config.pipelines, table, file.read(MAX_BYTES + 1))
        sources: dict[str, Source] = {}
        folder = table.rpartition("/")[0]
        rows = rows_of_table(content.rows, common)
        there = _by_name(candidate.images)
        items = [self._table_item(row, folder, there, sources) for row in rows]
        return Plan(table, head_of(common), items, None, content.dialect)

    def _table_item(
        self, row: Row, folder: str, there: Mapping[str, str], sources: dict[str, Source]
    ) -> PlanItem:
        """The item of a row. A row with an error keeps its image, so that no other file gets it."""
        if row.image is None:
            return PlanItem(row, None, row.error)
        where = row.document.place(("image",))
        try:
            source = self._named_image(folder, row.image.strip(), there)
        except (ImageMissing, PathEscapesInbox) as error:
            wrong = type(error)(f"{where}: {error.detail}", where="image")
            return PlanItem(row, None, row.error or wrong)
        return PlanItem(row, sources.setdefault(str(source.path), source), row.error)

    def _named_image(self, folder: str, text: str, there: Mapping[str, str]) -> Source:
        """The first image that a path leads to. Raises `ImageMissing` and `PathEscapesInbox`."""
        options = places(self._inbox, folder, text)
        sources = [s for place in options if (s := self._literal(place, there)) is not None]
        for source in sorted(sources, key=lambda source: source.error is not None):
            if source.error is not None:
                raise source.error
            return source
        if (source := self._unreachable(options)) is not None:
            return source
        raise ImageMissing(f"image: {self._why_missing(options, text)}")

    def _why_missing(self, options: list[Place], text: str) -> str:
        """Sentence about an image that a table names and that is not there."""
        if other := self.other_owner(options):
            return f"{text!r} goes to {other}, which names it too; put both into one table"
        if why := self._obstacle(options):
            return f"{text!r} {why}"
        if is_pattern(text):
            wrong = f"there is no {text!r}; a table names single images"
            return f"{wrong}; globs are for job files (`images:`)"
        near = (self._nearest.like(self._inbox.path / place.path) for place in options)
        name = next(filter(None, near), "")
        folder, slash, _ = slashed(text).rpartition("/")
        hint = f"; did you mean {job_rows.printable(folder + slash + name)!r}?" if name else ""
        return f"there is no {text!r}{hint}"

    def other_owner(self, options: Iterable[Place]) -> str:
        """The other file that names an image at one of the places and gets it; "" if none."""
        inside = (place.path for place in options if place.root is None)
        return next((t for path in inside if (t := self._claimed_by_others.get(fold(path)))), "")

    def _literal(self, place: Place, there: Mapping[str, str]) -> Source | None:
        """The image at a path, not read as a glob; with an error if it leads out of the roots."""
        if place.root is not None:
            if (file := literal_file(place, self._inbox.source_roots)) is None:
                return None
            error = escape_error(file) if file.real is None else None
            return Source(file.path, None, error=error, real=file.real)
        image = there.get(place.path) or there.get(fold(place.path))
        return None if image is None else Source(self._inbox.path / image, image)

    def _unreachable(self, options: Iterable[Place]) -> Source | None:
        """An image that may lie in the first place that cannot be looked at; None without one."""
        for place in options:
            path = self._inbox.path / place.path
            if why := unreachable_reason(path, through_links=place.root is not None):
                return Source(path, None, unreachable=why)
        return None

    def _obstacle(self, options: Iterable[Place]) -> str:
        """Thing that lies in place of an image, as the end of a sentence; "" if none does."""
        reasons = (obstacle(self._inbox.path / place.path) for place in options)
        return next(filter(None, reasons), "")

    def row_error(self, item: PlanItem) -> JobError | None:
        """Error of a row that does not depend on its image; None if there is none."""
        try:
            self.resolve(item.row.document, lambda: 0, self.context(item, None))
        except JobError as error:
            return _with_row(item.row, error)
        return None

    def _gather(self, plan: Plan) -> None:
        used = [item.source for item in plan.items if item.source and item.error is None]
        plan.sources = list(dict.fromkeys(used))

    def resolve(self, document: Document, draw: Callable[[], int], context: JobContext) -> JobSpec:
        return resolve(self._config, self._inbox, document, draw, context)

    def context(self, item: PlanItem, sha256: str | None) -> JobContext:
        """The job context of a row."""
        folder, name = self.place(item)
        context = job_rows.context_of(self._inbox, folder, name, sha256)
        return replace(context, batch=self.batch, row=item.row.number)

    def place(self, item: PlanItem) -> tuple[str, str]:
        """Folder in the inbox and name of a row's image, even if the image is not there."""
        if item.source is not None:
            return item.source.folder, item.source.path.name
        text = slashed((item.row.image or "").strip())
        folder, _, name = posixpath.normpath(posixpath.join(self._folder, text)).rpartition("/")
        return folder, name

    # --- dedup keys ---

    def model_identities(self) -> ModelIdentities:
        """A function that identifies a model by its name in the config, its settings and its files.

        It reads a model when it is first asked about it, since reading a large one for the first
        time takes a while.
        """
        prints = Fingerprints(self._config.data)

        @cache
        def identity(name: str) -> Any:
            if (provider := self._config.models.get(name)) is None:
                return None
            content = None
            with suppress(OSError):  # the worker will report it
                content = None if provider.missing() else prints.of(provider)
            return [provider.name_in_config, provider.model_dump(mode="json"), content]

        return identity

    def dedup_key(self, document: Document, context: JobContext, models: ModelIdentities) -> str:
        """The dedup key: equal for jobs that do the same with the same bytes.

        Random choices, the priority and `not_before` do not count.
        """
        spec = self.resolve(document, lambda: 0, context).identity()
        del spec["priority"], spec["not_before"]
        used = {s["params"].get("model") for s in spec["stages"]} - {None}
        content = [context.sha256, spec, {name: models(name) for name in sorted(used)}]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _by_name(images: Iterable[str]) -> dict[str, str]:
    """Images by their own paths, and by equivalent paths at which no other image lies."""
    images = list(images)
    return {fold(image): image for image in images} | {image: image for image in images}


def _with_row(row: Row, error: JobError) -> JobError:
    """Add the row of a table to an error, and the first column of a stage that is wrong as a whole,
    since people look for these in the table."""
    if row.document.unit == "row":
        start = f"row {row.number}: "
        error.detail = error.detail if error.detail.startswith(start) else start + error.detail
        inner = row.document.value.get(error.where)
        if is_mapping(inner) and inner:
            error.where += f".{next(iter(inner))}"
    return error


def image_error(item: PlanItem) -> JobError | None:
    """Error of a row after its image was probed; None if there is none."""
    source = item.source
    if item.error is not None or source is None or source.error is None:
        return item.error
    unit = item.row.document.place(("image",)) if item.row.document.unit == "row" else ""
    text = f"{unit}: image: {source.error.detail}" if unit else source.error.detail
    return type(source.error)(text, hint=source.error.hint, where="image")


def shown_image(item: PlanItem) -> str:
    """A row's image as the batch report names it: by its path in the inbox, or else as written."""
    path = item.source.relative if item.source is not None else None
    return job_rows.printable(path or (item.row.image or "").strip())
