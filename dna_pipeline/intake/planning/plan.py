"""What a job file or a table comes to: its rows, their images, and what is wrong with which.

Touches nothing; both taking in and `check` ask it.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import ImageMissing, JobError, ParameterInvalid, PathEscapesInbox
from dna_pipeline.base.reachability import Look, look_directly
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
from dna_pipeline.config.job_context import JobFacts
from dna_pipeline.config.schema import Config, Inbox
from dna_pipeline.config.sidecar import JobSpec, parse_sidecar, resolve
from dna_pipeline.config.tables import MAX_BYTES, is_table_name, parse_table, read_table
from dna_pipeline.config.yaml12 import Document, is_mapping
from dna_pipeline.intake.discovery.candidates import Candidate, Names, Told, Unread
from dna_pipeline.intake.discovery.completeness import ZEROS_WAIT_S, lacks_its_end
from dna_pipeline.intake.discovery.names import fold
from dna_pipeline.intake.discovery.probe import NotReadable, Probed, Prober
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.nearest_images import NearestImages
from dna_pipeline.intake.planning.source_roots import (
    Outside,
    is_file,
    lacking_root,
    named,
    outside,
    why_no_image,
    why_unseen,
)
from dna_pipeline.weights.fingerprint import Fingerprints

MAX_GLOBS = 1000
"""Each is held against every image at each look."""

ModelFacts = Callable[[str], Any]


@dataclass(slots=True, eq=False)
class Source:
    """An image that rows name.

    Attributes:
        relative: its path in the inbox; None for one in a source root.
        error: why it cannot be used.
        real: the file itself where `path`, in a source root, may lead to it by symbolic links.
        unseen: why it could not even be looked for, as where a right is lacking.
    """

    path: Path
    relative: str | None
    probed: Probed | None = None
    error: JobError | None = None
    real: Path | None = None
    unseen: str = ""

    @property
    def file(self) -> Path:
        """The file to read: never a symbolic link."""
        return self.real or self.path

    @property
    def folder(self) -> str:
        """Its folder in the inbox."""
        return (self.relative or "").rpartition("/")[0]

    def probe(self, prober: Prober) -> Probed | JobError:
        answer = NotReadable(self.unseen) if self.unseen else prober.probe(self.file)
        if isinstance(answer, JobError):
            self.error = answer
        else:
            self.probed = answer
        return answer


@dataclass(slots=True, eq=False)
class Item:
    """A row with its image."""

    row: Row
    source: Source | None = None
    error: JobError | None = None


@dataclass(slots=True)
class Plan:
    """All that a job file or a table asks for.

    Attributes:
        teller: the path of the table or the job file, relative to the inbox.
        text: the job file as written; None for a table.
        sources: the images that right rows name, each once.
        dialect: form of the table; that of `batch.csv`.
    """

    teller: str
    head: BatchHead
    items: list[Item]
    text: str | None
    dialect: Dialect = field(default_factory=Dialect)
    sources: list[Source] = field(default_factory=list[Source])

    @property
    def kind(self) -> str:
        return "job_file" if self.text is not None else "table"


# --- what is named, for pairing ---


def reference(inbox: Inbox, path: str, look: Look = look_directly) -> Told:
    """What the YAML or the table at that path of the inbox names.

    Args:
        look: says whether a source root can be reached; each is asked about once.
    """
    look = cache(look)
    try:
        if is_table_name(path):
            texts = [row.document.value.get("image") for row in _table(inbox.path / path)]
            named = [text for text in texts if isinstance(text, str)]
            return _names(inbox, path, named, look, is_table=True)
        document = parse_sidecar(job_rows.read_sidecar(inbox.path / path))
        if document.value.get("images") is not None:
            return _names(inbox, path, patterns_of(document), look, is_table=False)
        image = document.value.get("image")
        return _single(inbox, path, image, look) if isinstance(image, str) else None
    except JobError as error:
        if lacks_its_end(inbox.path / path):
            return Unread(
                "it is empty or ends in zeros, and may yet be written", ZEROS_WAIT_S, error
            )
        return error
    except OSError as error:
        return Unread(error.strerror or str(error))


def _single(inbox: Inbox, teller: str, text: str, look: Look) -> str | Names:
    """An `image:` as written where it is one of the inbox. One of a source root makes a batch, that
    copies it and waits for roots that are away. Raises `PathEscapesInbox`."""
    first, *others = found = places(inbox, teller.rpartition("/")[0], text)
    text = slashed(text)
    if first.root is None and (not others or is_file(inbox.path / first.path)):
        return text
    roots = inbox.source_roots
    files = [
        f
        for p in _reachable(found, look)
        if p.root is not None and (f := named(p, roots)) is not None
    ]
    if files and all(file.real is None for file in files):
        raise _leads_out(files[0])
    if files or first.root is not None:
        return Names()
    return text if lacking_root(inbox, look) is None else Names((first.path,))


def _reachable(found: Iterable[Place], look: Look) -> Iterator[Place]:
    """The places whose source roots answer; in the others nothing can be found now."""
    return (place for place in found if place.root is None or not look(place.root).is_silent)


def _leads_out(file: Outside) -> PathEscapesInbox:
    shown = job_rows.printable(str(file.path))
    return PathEscapesInbox(f"{shown} is a link that leads out of the source_roots", where="image")


def _table(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return read_table({}, path.name, file.read(MAX_BYTES + 1))


def _names(inbox: Inbox, teller: str, texts: Iterable[str], look: Look, *, is_table: bool) -> Names:
    """Raises `PathEscapesInbox` and `ParameterInvalid` for a job file; a table's row is only wrong
    for the first."""
    paths: dict[str, None] = {}
    patterns: dict[str, None] = {}
    for text in texts:
        try:
            found = places(inbox, teller.rpartition("/")[0], text)
        except PathEscapesInbox:
            if is_table:
                continue
            raise
        first = found[0]
        if first.root is not None:
            continue
        is_there = is_file(inbox.path / first.path)
        reachable = _reachable(found[1:], look)
        if is_there or not any(outside(place, inbox.source_roots) for place in reachable):
            globs = is_pattern(text) and not is_table and not is_there
            (patterns if globs else paths)[first.path] = None
    if len(patterns) > MAX_GLOBS:
        raise ParameterInvalid(f"images: more than {MAX_GLOBS:,} globs", where="images")
    return Names(tuple(paths), tuple(patterns), patient=not is_table)


# --- rows ---


class Planner:
    """Makes plans for one inbox."""

    def __init__(self, config: Config, inbox: Inbox) -> None:
        self._config = config
        self._inbox = inbox
        self.batch = ""
        """The name of what is planned, as templates may use it."""
        self._folder = ""
        self._nearest = NearestImages()
        self._taken: Mapping[str, str] = {}

    def plan(self, candidate: Candidate) -> Plan:
        """Read the files where they lie now; images not probed yet.

        Raises:
            JobError: nothing at all can be made of them. OSError: the disk.
        """
        self._folder, _, teller = (candidate.table or candidate.sidecar or "").rpartition("/")
        self.batch = job_rows.printable(teller.rpartition(".")[0])
        self._nearest = NearestImages()
        self._taken = {fold(image): other for image, other in candidate.taken}
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
                item.error = self.trial(item)
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
        items = [Item(row, sources[row.image or ""]) for row in rows]
        for item in items:
            if item.source is not None and item.source.error is not None:
                item.error = item.source.error
        return Plan(candidate.sidecar, head_of(document), items, text or "")

    def _matching(self, pattern: str, folder: str, there: Mapping[str, str]) -> Iterable[Source]:
        """What a job file's entry names, which may be nothing."""
        is_glob = is_pattern(pattern)
        found = places(self._inbox, folder, pattern)
        escaping: Source | None = None
        for place in found:
            # A name that reads like a glob is a name, where a file is called that.
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
        if (unseen := self._unseen(found)) is not None:
            return [unseen]
        path = self._inbox.path / folder / pattern
        was_waited_for = found[0].root is None
        text = (
            f"{pattern} did not come within an hour" if was_waited_for else f"there is no {pattern}"
        )
        if why := self._why_none(found):
            text = f"{pattern} {why}"
        if other := self.taker(found):
            text = f"{pattern} goes to {other}, which names it too"
        return [Source(path, None, error=ImageMissing(text, where="images"))]

    def _globbed(self, place: Place, there: Mapping[str, str]) -> list[Source]:
        if place.root is not None:
            found = outside(place, self._inbox.source_roots)
            return [Source(file.path, None, real=file.real) for file in found]
        fitting = {image for image in there.values() if matches(image, place.path)}
        return [Source(self._inbox.path / image, image) for image in sorted(fitting)]

    def _of_table(self, table: str, candidate: Candidate, common: Document | None) -> Plan:
        with (self._inbox.path / table).open("rb") as file:
            read = parse_table(self._config.pipelines, table, file.read(MAX_BYTES + 1))
        sources: dict[str, Source] = {}
        folder = table.rpartition("/")[0]
        made = rows_of_table(read.rows, common)
        there = _by_name(candidate.images)
        items = [self._table_item(row, folder, there, sources) for row in made]
        return Plan(table, head_of(common), items, None, read.dialect)

    def _table_item(
        self, row: Row, folder: str, there: Mapping[str, str], sources: dict[str, Source]
    ) -> Item:
        """A row that is wrong anyway has its image too: that is not left for others to take."""
        if row.image is None:
            return Item(row, None, row.error)
        where = row.document.place(("image",))
        try:
            source = self._named_image(folder, row.image.strip(), there)
        except (ImageMissing, PathEscapesInbox) as error:
            wrong = type(error)(f"{where}: {error.detail}", where="image")
            return Item(row, None, row.error or wrong)
        return Item(row, sources.setdefault(str(source.path), source), row.error)

    def _named_image(self, folder: str, text: str, there: Mapping[str, str]) -> Source:
        """The first image that a path leads to. Raises `ImageMissing` and `PathEscapesInbox`."""
        found = places(self._inbox, folder, text)
        sources = [s for place in found if (s := self._literal(place, there)) is not None]
        for source in sorted(sources, key=lambda source: source.error is not None):
            if source.error is not None:
                raise source.error
            return source
        if (unseen := self._unseen(found)) is not None:
            return unseen
        raise ImageMissing(f"image: {self._why_missing(found, text)}")

    def _why_missing(self, found: list[Place], text: str) -> str:
        """What is wrong with the name of an image in a table."""
        if other := self.taker(found):
            return f"{text!r} goes to {other}, which names it too; put both into one table"
        if why := self._why_none(found):
            return f"{text!r} {why}"
        if is_pattern(text):
            wrong = f"there is no {text!r}; a table names single images"
            return f"{wrong}; globs are for job files (`images:`)"
        near = (self._nearest.like(self._inbox.path / place.path) for place in found)
        name = next(filter(None, near), "")
        folder, slash, _ = slashed(text).rpartition("/")
        hint = f"; did you mean {job_rows.printable(folder + slash + name)!r}?" if name else ""
        return f"there is no {text!r}{hint}"

    def taker(self, found: Iterable[Place]) -> str:
        """The other file that names an image at one of these places and takes it; "" if none."""
        inside = (place.path for place in found if place.root is None)
        return next((t for path in inside if (t := self._taken.get(fold(path)))), "")

    def _literal(self, place: Place, there: Mapping[str, str]) -> Source | None:
        """The image at that very path; with an error if it leads out of the source roots."""
        if place.root is not None:
            if (file := named(place, self._inbox.source_roots)) is None:
                return None
            error = _leads_out(file) if file.real is None else None
            return Source(file.path, None, error=error, real=file.real)
        image = there.get(place.path) or there.get(fold(place.path))
        return None if image is None else Source(self._inbox.path / image, image)

    def _unseen(self, found: Iterable[Place]) -> Source | None:
        """An image that may lie in the first of these places that cannot be looked at."""
        for place in found:
            path = self._inbox.path / place.path
            if why := why_unseen(path, through_links=place.root is not None):
                return Source(path, None, unseen=why)
        return None

    def _why_none(self, found: Iterable[Place]) -> str:
        """Thing that lies in an image's place, as the end of a sentence; "" if none does."""
        reasons = (why_no_image(self._inbox.path / place.path) for place in found)
        return next(filter(None, reasons), "")

    def trial(self, item: Item) -> JobError | None:
        """What is wrong with a row whatever its image is."""
        try:
            self.resolve(item.row.document, lambda: 0, self.facts(item, None))
        except JobError as error:
            return _of_row(item.row, error)
        return None

    def _gather(self, plan: Plan) -> None:
        used = [item.source for item in plan.items if item.source and item.error is None]
        plan.sources = list(dict.fromkeys(used))

    def resolve(self, document: Document, draw: Callable[[], int], facts: JobFacts) -> JobSpec:
        return resolve(self._config, self._inbox, document, draw, facts)

    def facts(self, item: Item, sha256: str | None) -> JobFacts:
        """What a row's parameters may depend on."""
        folder, name = self.place(item)
        facts = job_rows.facts_of(self._inbox, folder, name, sha256)
        return replace(facts, batch=self.batch, row=item.row.number)

    def place(self, item: Item) -> tuple[str, str]:
        """Folder in the inbox and name of a row's image, be it there or not."""
        if item.source is not None:
            return item.source.folder, item.source.path.name
        text = slashed((item.row.image or "").strip())
        folder, _, name = posixpath.normpath(posixpath.join(self._folder, text)).rpartition("/")
        return folder, name

    # --- what makes two jobs the same ---

    def models(self) -> ModelFacts:
        """What each model is by its name: where it lies, how it is set, what it holds.

        Asked for once it is needed, since large ones take a while to read for the first time.
        """
        prints = Fingerprints(self._config.data)

        @cache
        def facts(name: str) -> Any:
            if (provider := self._config.models.get(name)) is None:
                return None
            held = None
            with suppress(OSError):  # the worker will say so
                held = None if provider.missing() else prints.of(provider)
            return [provider.name_in_config, provider.model_dump(mode="json"), held]

        return facts

    def key(self, document: Document, facts: JobFacts, models: ModelFacts) -> str:
        """Equal for jobs that do the same with the same bytes: before chance, whenever they run."""
        told = self.resolve(document, lambda: 0, facts).identity()
        del told["priority"], told["not_before"]
        named = {s["params"].get("model") for s in told["stages"]} - {None}
        all_of_it = [facts.sha256, told, {name: models(name) for name in sorted(named)}]
        return hashlib.sha256(
            json.dumps(all_of_it, sort_keys=True, default=str).encode()
        ).hexdigest()


def _by_name(images: Iterable[str]) -> dict[str, str]:
    """The images by their own names and, where none is called that, by those alike."""
    images = list(images)
    return {fold(image): image for image in images} | {image: image for image in images}


def _of_row(row: Row, error: JobError) -> JobError:
    """An error as a person looks for it in a table: with the row and, where a stage as a whole is
    wrong, the first column that tells it."""
    if row.document.unit == "row":
        start = f"row {row.number}: "
        error.detail = error.detail if error.detail.startswith(start) else start + error.detail
        inner = row.document.value.get(error.where)
        if is_mapping(inner) and inner:
            error.where += f".{next(iter(inner))}"
    return error


def image_error(item: Item) -> JobError | None:
    """What is wrong with a row for its image's sake, once that was probed."""
    source = item.source
    if item.error is not None or source is None or source.error is None:
        return item.error
    unit = item.row.document.place(("image",)) if item.row.document.unit == "row" else ""
    text = f"{unit}: image: {source.error.detail}" if unit else source.error.detail
    return type(source.error)(text, hint=source.error.hint, where="image")


def shown_image(item: Item) -> str:
    """A row's image as its batch's account names it: by its path in the inbox, or as told."""
    found = item.source.relative if item.source is not None else None
    return job_rows.printable(found or (item.row.image or "").strip())
