"""Find out which images a YAML or a table names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dna_pipeline.base.errors import JobError, ParameterInvalid, PathEscapesInbox
from dna_pipeline.base.naming import forms_of, printable
from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.batch import (
    patterns_of,
)
from dna_pipeline.config.companion_paths import paths_in, roles
from dna_pipeline.config.image_paths import (
    Place,
    is_pattern,
    places,
    slashed,
)
from dna_pipeline.config.schema import Inbox
from dna_pipeline.config.sidecar import parse_sidecar
from dna_pipeline.config.tables import MAX_BYTES, TableRow, is_table_name, parse_table
from dna_pipeline.config.yaml12 import Document
from dna_pipeline.intake.discovery.candidates import Reference, References, Unreadable
from dna_pipeline.intake.discovery.completeness import ZEROS_WAIT_S, lacks_end
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.planning.source_roots import (
    SourceRootFile,
    is_file,
    lacking_root,
    literal_file,
    source_root_files,
)

MAX_GLOBS = 1000
"""Most globs of a job file: each scan compares every glob with every image."""


@dataclass(frozen=True, slots=True)
class NamedCompanions:
    """Companions, such as masks, that a YAML or a table names.

    Attributes:
        paths: in the inbox, of those that lie there or may yet come there.
        roots: source roots that may hold the others.
        root_files: those that lie in source roots.
        is_final: False while one of them may yet come into a source root.
    """

    paths: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()
    root_files: tuple[Path, ...] = ()
    is_final: bool = True


def read_reference(inbox: Inbox, path: str, look: Look = look_directly) -> Reference:
    """Read which images a YAML or a table of the inbox names.

    Args:
        look: tells whether a source root can be reached; called once for each root.
    """
    look = cache(look)
    try:
        if is_table_name(path):
            images = images_in(read_table(inbox.path / path))
            return references_to(inbox, path, images, look, is_table=True)
        document = parse_sidecar(job_rows.read_sidecar(inbox.path / path))
        if document.value.get("images") is not None:
            return references_to(inbox, path, patterns_of(document), look, is_table=False)
        image = document.value.get("image")
        return _single(inbox, path, image, look) if isinstance(image, str) else None
    except JobError as error:
        if lacks_end(inbox.path / path):
            return Unreadable(
                "it is empty or ends in zeros, and may yet be written", ZEROS_WAIT_S, error
            )
        return error
    except OSError as error:
        return Unreadable(error.strerror or str(error))


def read_references(sidecar: Path) -> list[str]:
    """Read which paths of companions a sidecar has; none of a sidecar that is wrong."""
    try:
        return paths_in(parse_sidecar(job_rows.read_sidecar(sidecar)))
    except (JobError, OSError):
        return []


def read_companions(inbox: Inbox, path: str, look: Look = look_directly) -> NamedCompanions:
    """Read which companions, such as masks, a YAML or a table names; none of a file that is wrong
    or cannot be read. `look` is that of `find_companions`."""
    try:
        return find_companions(inbox, companion_places(inbox, path), look)
    except OSError:
        return NamedCompanions()


def companion_places(inbox: Inbox, path: str) -> list[list[Place]]:
    """Read the possible places of each companion that a YAML or a table names; none of a file that
    is wrong. Raises OSError if it cannot be read."""
    try:
        if not is_table_name(path):
            documents = [parse_sidecar(job_rows.read_sidecar(inbox.path / path))]
        elif _may_name_companions(inbox.path / path):
            documents = [row.document for row in read_table(inbox.path / path)]
        else:
            return []
    except JobError:
        return []
    return places_of_companions(inbox, path.rpartition("/")[0], documents)


def places_of_companions(
    inbox: Inbox, folder: str, documents: Iterable[Document]
) -> list[list[Place]]:
    """The possible places of each companion that documents of a folder of the inbox name."""
    texts = dict.fromkeys(text for document in documents for text in paths_in(document))
    options: list[list[Place]] = []
    for text in texts:
        with suppress(JobError):
            options.append(places(inbox, folder, text))
    return options


def find_companions(
    inbox: Inbox, options: Iterable[list[Place]], look: Look = look_directly
) -> NamedCompanions:
    """Look for each companion at its possible places, in their order.

    Args:
        look: tells whether a source root can be reached; called once for each root. No file of a
            root that does not answer is looked at, since that call might never return.
    """
    look = cache(look)
    paths: dict[str, None] = {}
    roots: dict[Path, None] = {}
    root_files: dict[Path, None] = {}
    is_final = True
    for places_of_one in options:
        first = places_of_one[0]
        inside = {first.path: None} if first.root is None else {}
        if any(is_file(inbox.path / form) for path in inside for form in forms_of(path)):
            paths |= inside
            continue
        own_roots = [place.root for place in places_of_one if place.root is not None]
        roots |= dict.fromkeys(own_roots)
        files = (
            literal_file(place, inbox.source_roots)
            for place in _reachable(places_of_one, look)
            if place.root is not None
        )
        file = next(filter(None, files), None)
        paths |= inside if file is None else {}
        root_files |= {} if file is None or file.real is None else {file.real: None}
        is_final = is_final and (file is not None or not own_roots)
        is_final = is_final and not any(look(root).is_silent for root in own_roots)
    return NamedCompanions(tuple(paths), tuple(roots), tuple(root_files), is_final)


def _may_name_companions(table: Path) -> bool:
    """True if a table has the name of a companion's role in it: most tables have none, and large
    ones take seconds to parse."""
    with table.open("rb") as file:
        data = file.read(MAX_BYTES + 1).lower()
    names = (role.encode(code) for role in roles() for code in ("utf-8", "utf-16-le", "utf-16-be"))
    return any(name in data for name in names)


def _single(inbox: Inbox, path: str, text: str, look: Look) -> str | References:
    """The reference of an `image:`: its text if it names an image of the inbox.

    An image of a source root makes the job file a batch, since batches copy such images and wait
    for roots that cannot be reached.

    Raises:
        PathEscapesInbox: the path leads out of the inbox and of the source roots.
    """
    first, *others = options = places(inbox, path.rpartition("/")[0], text)
    text = slashed(text)
    if first.root is None and (not others or is_file(inbox.path / first.path)):
        return text
    roots = inbox.source_roots
    files = [
        f
        for p in _reachable(options, look)
        if p.root is not None and (f := literal_file(p, roots)) is not None
    ]
    if files and all(file.real is None for file in files):
        raise escape_error(files[0])
    if files or first.root is not None:
        return References()
    return text if lacking_root(inbox, look) is None else References((first.path,))


def _reachable(options: Iterable[Place], look: Look) -> Iterator[Place]:
    """Places without those in source roots that do not answer: no file can be found there now."""
    return (place for place in options if place.root is None or not look(place.root).is_silent)


def escape_error(file: SourceRootFile) -> PathEscapesInbox:
    """Error of a link that leads out of the source roots."""
    shown = printable(str(file.path))
    return PathEscapesInbox(f"{shown} is a link that leads out of the source_roots", where="image")


def images_in(rows: Iterable[TableRow]) -> list[str]:
    """The paths of images in the rows of a table, as written."""
    texts = (row.document.value.get("image") for row in rows)
    return [text for text in texts if isinstance(text, str)]


def read_table(path: Path) -> list[TableRow]:
    """The rows of a table, in which no stage is known yet. Raises `JobError` and OSError."""
    with path.open("rb") as file:
        return parse_table({}, path.name, file.read(MAX_BYTES + 1)).rows


def references_to(
    inbox: Inbox, path: str, texts: Iterable[str], look: Look, *, is_table: bool
) -> References:
    """References to the images and globs that a job file or a table names.

    Raises:
        PathEscapesInbox: an entry of a job file leads out; in a table only that row is wrong.
        ParameterInvalid: a job file has too many globs.
    """
    paths: dict[str, None] = {}
    patterns: dict[str, None] = {}
    for text in texts:
        try:
            options = places(inbox, path.rpartition("/")[0], text)
        except PathEscapesInbox:
            if is_table:
                continue
            raise
        first = options[0]
        if first.root is not None:
            continue
        is_there = is_file(inbox.path / first.path)
        reachable = _reachable(options[1:], look)
        if is_there or not any(source_root_files(place, inbox.source_roots) for place in reachable):
            globs = is_pattern(text) and not is_table and not is_there
            (patterns if globs else paths)[first.path] = None
    if len(patterns) > MAX_GLOBS:
        raise ParameterInvalid(f"images: more than {MAX_GLOBS:,} globs", where="images")
    return References(tuple(paths), tuple(patterns), waits_long=not is_table)
