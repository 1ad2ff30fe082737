"""Makes plans. Changes no file; the claims, the commands and `check` use it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import (
    Failure,
    ImageMissing,
    JobError,
    ParameterInvalid,
    PathEscapesInbox,
)
from dna_pipeline.base.files import sha256_of_inputs
from dna_pipeline.base.naming import printable, safe_stem
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.batch import (
    BATCH_KEYS,
    Row,
    axes_of,
    combinations,
    count_of,
    default_result_name,
    head_of,
    patterns_of,
    request_text,
    rows_of_job_file,
    rows_of_table,
)
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.problems import joined
from dna_pipeline.config.row_numbers import RowNumbers
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sidecar import JobSpec, parse_sidecar, resolve
from dna_pipeline.config.tables import MAX_BYTES, parse_table
from dna_pipeline.config.yaml12 import Document, is_mapping
from dna_pipeline.intake.discovery.candidates import Candidate
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.companion_files import (
    CompanionFiles,
    asking_keys,
    find_needed,
    missing_masks,
)
from dna_pipeline.intake.planning.file_identities import FileIdentities, ModelIdentities
from dna_pipeline.intake.planning.image_texts import ImageTexts
from dna_pipeline.intake.planning.named_images import NamedImages, Source
from dna_pipeline.intake.planning.plan import Plan, PlanItem
from dna_pipeline.intake.planning.wildcards import WildcardFiles
from dna_pipeline.ledger.store import new_id
from dna_pipeline.stages import companions

_MOST_FAULTS = 100
"""Most combinations of one document whose faults are collected."""

_SAMPLES = (
    JobContext("a.png", "a", "a", "a", 1, "0" * 64),
    JobContext("b.png", "b", "b", "b", 2, "1" * 64),
)
"""Contexts of two images that have nothing in common."""


class Planner:
    """Makes the plans of one inbox.

    Args:
        look: tells whether a folder outside of the inbox can be reached.
    """

    def __init__(self, config: Config, inbox: Inbox, look: Look = look_directly) -> None:
        self._look = look
        self._config = config
        self._inbox = inbox
        self._wildcards = WildcardFiles(config.wildcards)
        self._image_texts = ImageTexts()
        self._files = FileIdentities(config)

    # --- one image ---

    def plan_image(
        self,
        folder: str,
        name: str,
        document: Document | None,
        sha256: str | None,
        draw: Callable[[], int] = job_rows.draw_seed,
        file: Path | None = None,
    ) -> Plan:
        """Plan the jobs that an image's sidecar (None: no sidecar) asks for.

        Raises `JobError` if anything is wrong with any of them.
        """
        if document is None and self._plain is not None:
            items = [PlanItem(_LONE_ROW, outcome=self._plain)]
            return Plan("image", folder, name, "", items)
        document = document or _NOTHING
        context = job_rows.context_of(self._inbox, folder, name, sha256, file)
        try:
            head = head_of(document)
            specs = self._specs(document, context, draw)
        except JobError as error:
            raise self._with_other_faults(error, document, context) from None
        items = [
            PlanItem(Row(number, None, each), outcome=spec)
            for number, (each, spec) in enumerate(specs, 1)
        ]
        kind = "image" if len(items) == 1 else "matrix"
        axes = axes_of(document) if kind == "matrix" else []
        return Plan(kind, folder, name, "", items, head, axes=axes)

    def plan_claimed(
        self,
        folder: str,
        name: str,
        data: bytes | None,
        sha256: str | None,
        error: Failure | None,
        file: Path | None = None,
    ) -> Plan:
        """As `plan_image`, but an error makes one job, which fails with it."""
        if error is None:
            try:
                return self.plan_image(folder, name, document_of(data), sha256, file=file)
            except JobError as reason:
                error = reason.failure()
        return Plan("image", folder, name, "", [PlanItem(_LONE_ROW, outcome=error)])

    def _specs(
        self,
        document: Document,
        context: JobContext,
        draw: Callable[[], int],
        seeds: Mapping[str, int] | None = None,
    ) -> list[tuple[Document, JobSpec]]:
        """Resolve the combinations of a document's matrix and count, or else the document."""
        if document.value.get("matrix") is None and count_of(document) == 1:
            return [(document, self._resolve(document, draw, context, seeds))]
        batch = context.fields()["stem"]
        context = replace(context, result_name=default_result_name(document))
        specs: list[tuple[Document, JobSpec]] = []
        errors: list[JobError] = []
        for number, each in enumerate(combinations(document), 1):
            try:
                of_row = replace(context, batch=batch, row=number)
                specs.append((each, self._resolve(each, draw, of_row, seeds)))
            except JobError as error:
                errors.append(error)
                if len(errors) == _MOST_FAULTS:
                    break
        if errors:
            raise joined(errors)
        return specs

    def _with_other_faults(
        self, error: JobError, document: Document, context: JobContext
    ) -> JobError:
        """The error of a document, with the faults that it hid."""
        errors = [error]
        for check in (head_of, combinations):
            try:
                check(document)
            except JobError as other:
                errors.append(other)
        # Without its axes, a document may seem to lack what only they say.
        if not is_mapping(matrix := document.value.get("matrix")) or "pipeline" not in matrix:
            rest = {k: v for k, v in document.value.items() if k not in BATCH_KEYS}
            try:
                self._resolve(Document(rest, document.lines, document.unit), lambda: 0, context)
            except JobError as other:
                errors.append(other)
        return joined(errors)

    def resolve_one(
        self,
        data: bytes | None,
        context: JobContext,
        draw: Callable[[], int] = job_rows.draw_seed,
        seeds: Mapping[str, int] | None = None,
    ) -> JobSpec:
        """Resolve the one job that a sidecar's bytes (or none) ask for. Raises `JobError`."""
        document = document_of(data) or _NOTHING
        head_of(document)  # its keys concern other jobs, but wrong values are an error here too
        (_, spec), *more = self._specs(document, context, draw, seeds)
        if more:
            key = "count" if document.value.get("matrix") is None else "matrix"
            raise ParameterInvalid(
                f"{key}: asks for several jobs, but this image has become one job already",
                hint="Drop the image again, with its YAML beside it.",
                where=key,
            )
        return spec

    def outcome(self, data: bytes | None, context: JobContext) -> JobSpec | Failure:
        """As `resolve_one`, but a Failure if the sidecar makes no job."""
        try:
            return self.resolve_one(data, context)
        except JobError as error:
            return error.failure()

    @cached_property
    def _plain(self) -> JobSpec | None:
        """Job of an image without a sidecar; None if it depends on the image, on chance or
        on a file."""
        sources: list[str] = []

        def draw() -> int:
            sources.append("chance")
            return 0

        def lines(name: str) -> Sequence[str]:
            sources.append(name)
            return self._wildcards.lines(name)

        def texts() -> Mapping[str, str]:
            sources.append("texts")
            return self._image_texts.of(None)

        def sample(context: JobContext) -> JobSpec:
            return resolve(self._config, self._inbox, None, draw, context, None, lines, texts)

        try:
            one, other = map(sample, _SAMPLES)
        except JobError:
            return None
        return one if one == other and not sources else None

    # --- job files and tables ---

    def plan(self, candidate: Candidate) -> Plan:
        """Plan a batch by its files where they lie now; its images are not probed yet.

        Raises:
            JobError: the batch as a whole is wrong.
            OSError: a file cannot be read.
        """
        document: Document | None = None
        text: str | None = None
        if candidate.sidecar is not None:
            data = job_rows.read_sidecar(self._inbox.path / candidate.sidecar)
            document, text = parse_sidecar(data), job_rows.as_text(data)
        folder, _, name = (candidate.table or candidate.sidecar or "").rpartition("/")
        plan = Plan("table", folder, name, printable(name.rpartition(".")[0]), [])
        images = NamedImages(self._inbox, candidate, folder)
        if candidate.table is not None:
            self._read_table(plan, images, document, candidate.rows)
        else:
            assert document is not None
            plan.kind, plan.text = "job_file", text or ""
            _read_job_file(plan, images, document)
        plan.head = head_of(document)
        files = self.companion_files(folder)
        for item in plan.items:
            errors = [item.error, self.row_error(plan, item, files)]
            if errors := [error for error in errors if error is not None]:
                item.error = joined(errors)
        used = [item.source for item in plan.items if item.source and item.error is None]
        plan.sources = list(dict.fromkeys(used))
        named = (s for item in plan.items if item.error is None for s in item.named.values())
        plan.companions = list(dict.fromkeys([*(s.mask for s in plan.sources if s.mask), *named]))
        return plan

    def _read_table(
        self, plan: Plan, images: NamedImages, common: Document | None, chosen: RowNumbers
    ) -> None:
        with (self._inbox.path / plan.file).open("rb") as file:
            content = parse_table(self._config.pipelines, plan.file, file.read(MAX_BYTES + 1))
        sources: dict[str, Source] = {}
        # All rows are read, since copies by `count` are numbered behind the last one. The document
        # of a copy has the number of the row that it comes from.
        rows = rows_of_table(content.rows, common)
        plan.items = [
            _table_item(row, images, sources) for row in rows if row.document.line(()) in chosen
        ]
        plan.dialect = content.dialect

    def row_error(
        self, plan: Plan, item: PlanItem, files: CompanionFiles | None = None
    ) -> JobError | None:
        """Error of a row that does not depend on its image; None if there is none.

        Args:
            files: finds the companions of the row; None to leave them out.
        """
        document = item.row.document
        try:
            spec = self._resolve(document, lambda: 0, self._context(plan, item, None))
        except JobError as error:
            missing = [] if files is None else missing_masks(files, document)
            return joined([_with_row(item.row, each) for each in (error, *missing)])
        if files is None or item.source is None:
            return None
        item.asked_by = asking_keys(spec, document)
        try:
            item.named = find_needed(files, spec, item.source, item.asked_by)
        except JobError as error:
            return _with_row(item.row, error)
        return None

    def _resolve(
        self,
        document: Document,
        draw: Callable[[], int],
        context: JobContext,
        seeds: Mapping[str, int] | None = None,
    ) -> JobSpec:
        lines, texts = self._wildcards.lines, partial(self._image_texts.of, context.file)
        return resolve(self._config, self._inbox, document, draw, context, seeds, lines, texts)

    def preview(self, plan: Plan, item: PlanItem, sha256: str) -> JobSpec:
        """Resolve a row without drawing seeds at random."""
        return self._resolve(item.row.document, lambda: 0, self._context(plan, item, sha256))

    def _context(self, plan: Plan, item: PlanItem, sha256: str | None) -> JobContext:
        source = None if sha256 is None else item.source
        file = None if source is None else source.claimed or source.file
        context = job_rows.context_of(self._inbox, *plan.place(item), sha256, file)
        return replace(context, batch=plan.batch, row=item.row.number, result_name=plan.result_name)

    def companion_files(self, folder: str, homes: Sequence[Path] = ()) -> CompanionFiles:
        """Finder of the companions that a file in that folder of the inbox names."""
        return CompanionFiles(self._config, self._inbox, folder, homes, look=self._look)

    # --- rows of the ledger ---

    def batch_row(self, plan: Plan) -> dict[str, Any]:
        """Make the row of a new batch."""
        return {
            "id": new_id(), "inbox": self._inbox.name, "folder": printable(plan.folder),
            "name": printable(plan.name), "stem": safe_stem(plan.name), "kind": plan.kind,
            "originals": self._inbox.originals, "max_failures": plan.head.max_failures,
            "paused": None, "rows": 0, "wrong": 0, "created_at": utcnow(), "finished_at": None,
            "axes": [asdict(axis) for axis in plan.axes] or None,
        }  # fmt: skip

    def add_job(
        self,
        plan: Plan,
        item: PlanItem,
        drop_id: str,
        sha256: str | None,
        batch: Mapping[str, Any] | None,
    ) -> None:
        """Make the ledger's row of an item's job; `batch` is the row of its batch."""
        outcome = item.outcome
        if outcome is None:
            context = self._context(plan, item, sha256)
            try:
                outcome = self._resolve(item.row.document, job_rows.draw_seed, context)
            except JobError as error:  # the image's own texts are wrong
                outcome = _with_row(item.row, error).failure()
        item.job = job_rows.job_row(self._inbox, *plan.place(item), drop_id, outcome)
        if batch is not None:
            request = request_text(item.row.document)
            item.job |= {"batch": batch["id"], "key": item.key, "request": request}

    # --- dedup keys ---

    def model_identities(self) -> ModelIdentities:
        """A function that identifies models; see `FileIdentities.models`."""
        return self._files.models()

    def dedup_key(
        self,
        plan: Plan,
        item: PlanItem,
        sha256: str,
        models: ModelIdentities,
        beside: Iterable[Mapping[str, Any]] | None = None,
    ) -> str | None:
        """The dedup key: equal for jobs that do the same with the same bytes; None for a job that
        is impossible.

        Random choices, the priority and `not_before` do not count. With `from_metadata`, the
        image's hash stands for its texts, since the image may be in an archive by now.

        Args:
            beside: the companions of its image, those of other rows too.
        """
        context = replace(self._context(plan, item, sha256), file=None)
        try:
            preview = self._resolve(item.row.document, lambda: 0, context)
        except JobError:
            return None
        spec = preview.identity()
        del spec["priority"], spec["not_before"]
        used = {s["params"].get("model") for s in spec["stages"]} - {None}
        used_files = companions.of_job(beside, spec["stages"])
        inputs = [("image", sha256), *((file["role"], file["sha256"]) for file in used_files)]
        content = [sha256_of_inputs(inputs), spec, {name: models(name) for name in sorted(used)}]
        if files := self._files.extra_files(preview.stages):
            content.append(files)
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def version_key(
        self,
        folder: str,
        name: str,
        data: bytes | None,
        sha256: str | None,
        error: str | None,
        content: str | None = None,
        file: Path | None = None,
    ) -> str:
        """A hash, equal for versions of a kept image with the same bytes and the same job specs.

        Random choices do not count.

        Args:
            error: code of an error that does not come from the sidecar.
            content: hash of the image with its companions; that of the image if it has none.
            file: the image itself, where it lies now.
        """
        if data is None and self._plain is not None:
            text = self._plain_text
        else:
            try:
                plan = self.plan_image(folder, name, document_of(data), sha256, lambda: 0, file)
                text = _identities(item.outcome for item in plan.items)
            except JobError:
                text = hashlib.sha256(data or b"").hexdigest()
        return hashlib.sha256(f"{content or sha256}\n{error}\n{text}".encode()).hexdigest()

    @cached_property
    def _plain_text(self) -> str:
        return _identities([self._plain])

    def batch_version_key(
        self,
        plan: Plan,
        hashes: Mapping[Source, str],
        files: Mapping[Source, Iterable[Mapping[str, Any]] | None],
    ) -> str:
        """A hash, equal for versions of a kept batch with the same rows and the same images.

        Args:
            hashes: the hashes of the images.
            files: their companions.
        """

        def row(item: PlanItem) -> str:
            if item.error is not None or item.source is None:
                return item.error.code if item.error is not None else ""
            sha256, others = hashes[item.source], files[item.source]
            return self.dedup_key(plan, item, sha256, lambda _: None, others) or ""

        rows = [(item.row.number, plan.shown_image(item), row(item)) for item in plan.items]
        return hashlib.sha256(f"{plan.head}\n{rows}".encode()).hexdigest()


_NOTHING = Document({}, {})
"""The document of an image without a sidecar."""

_LONE_ROW = Row(1, None, _NOTHING)
"""The row of the one job of such an image."""


def document_of(data: bytes | None) -> Document | None:
    """Parse a sidecar's bytes; None if there is none. Raises `JobError`."""
    return None if data is None else parse_sidecar(data)


def _identities(outcomes: Iterable[JobSpec | Failure | None]) -> str:
    identities = [spec.identity() for spec in outcomes if isinstance(spec, JobSpec)]
    return json.dumps(identities, sort_keys=True, default=str)


def _read_job_file(plan: Plan, images: NamedImages, document: Document) -> None:
    sources: dict[str, Source] = {}
    for pattern in patterns_of(document):
        for source in images.matching(pattern):
            sources.setdefault(str(source.path), source)
    for row in rows_of_job_file(document, sources):
        source = sources[row.image or ""]
        plan.items.append(PlanItem(row, source, source.error))
    names = [printable(source.relative or source.path.name) for source in sources.values()]
    plan.axes = axes_of(document, names)
    plan.result_name = default_result_name(document)


def _table_item(row: Row, images: NamedImages, sources: dict[str, Source]) -> PlanItem:
    """The item of a row. A row with an error keeps its image, so that no other file gets it."""
    if row.image is None:
        return PlanItem(row, None, row.error)
    where = row.document.place(("image",))
    try:
        source = images.image(row.image.strip())
    except (ImageMissing, PathEscapesInbox) as error:
        wrong = type(error)(f"{where}: {error.detail}", where="image")
        return PlanItem(row, None, row.error or wrong)
    return PlanItem(row, sources.setdefault(str(source.path), source), row.error)


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
