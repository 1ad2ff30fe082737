"""Copy the companions that jobs name by their paths, such as masks, into their claims.

Such a file may serve many jobs, so it stays where it lies, and each claim gets a copy. Which files
are needed is known only when the sidecar was read, so they come after the image.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from dna_pipeline.base.errors import JobError, MaskMissing, MaskUnreadable
from dna_pipeline.base.failpoints import failpoint
from dna_pipeline.base.files import fsync_dir, remove_file
from dna_pipeline.base.naming import printable
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.claim import (
    Claim,
    InputFile,
    companions_in,
    companions_of,
)
from dna_pipeline.intake.discovery.mask_names import is_mask_name, masks_of, name_of_copy
from dna_pipeline.intake.discovery.probe import Prober
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning.companion_files import (
    CompanionFiles,
    Need,
    lacking,
    mask_fault,
)
from dna_pipeline.intake.planning.known_files import COMPANION, KnownFiles, Version
from dna_pipeline.intake.planning.named_images import Source
from dna_pipeline.intake.planning.plan import Plan, PlanItem
from dna_pipeline.ledger import drops
from dna_pipeline.ledger.store import Ledger

log = structlog.get_logger()

Sources = Mapping[Need, Source]
"""The files of companions."""


def add_to_claim(ledger: Ledger, claim: Claim, plan: Plan, files: CompanionFiles) -> Sources:
    """Give a claimed image the companions that its jobs name; jobs that lack one fail.

    The ledger notes the files before they are copied, so that a claim that is cut off can be
    returned without them.

    Raises:
        Changed: a companion cannot be had at present, or was written to since the last look, so
            the claim must settle again.
    """
    claim.is_waiting = False
    sources = _find_all(claim, plan, files)
    if not sources:
        return sources
    _require_stillness(claim, sources)
    noted = [*(companions_in(claim) or ()), *(companions_of(named_files(claim.files, sources)))]
    ledger.transact(lambda s: drops.set_companions(s, claim.row["id"], noted))
    lost = _copy_all(claim, sources)
    for item in plan.items:
        if isinstance(item.outcome, JobSpec):
            errors = (lost[need] for need in item.outcome.needed_companions if need in lost)
            item.outcome = next((error.failure() for error in errors), item.outcome)
    return {need: source for need, source in sources.items() if need not in lost}


def _find_all(claim: Claim, plan: Plan, files: CompanionFiles) -> dict[Need, Source]:
    """Find the companions that the jobs of a claim name; a job that lacks one fails.

    Raises `Changed` if a folder cannot be looked at; one that does not answer is waited for without
    end, as by batches.
    """
    sources: dict[Need, Source] = {}
    for item in plan.items:
        try:
            sources |= _sources_of(claim, item, files)
        except JobError as error:
            item.outcome = error.failure()
        except OSError as error:
            if not claim.gives_up or isinstance(error, TimeoutError):
                raise _settle_again(claim, error) from error
            item.outcome = MaskMissing(f"mask: cannot be looked for: {error}").failure()
    return sources


def _copy_all(claim: Claim, sources: Sources) -> dict[Need, JobError]:
    """Copy companions into a claim, and return the errors of those that can never be read.

    Raises `Changed` if one cannot be read at present; the claim then has none of them.
    """
    files, lost = claim.files, dict[Need, JobError]()
    for need, source in sources.items():
        try:
            copy_into(claim, {need: source})
        except (claims.ClaimError, OSError) as error:
            if not (claim.gives_up or isinstance(error, claims.Refused)):
                _remove_copies(claim, files)
                raise _settle_again(claim, error) from error
            lost[need] = MaskMissing(f"{need[0]}: {source.path} cannot be read: {error}")
    return lost


def _remove_copies(claim: Claim, files: tuple[InputFile, ...]) -> None:
    """Take companions out of a claim again, so that it has only these files."""
    for file in claim.files:
        if file not in files:
            remove_file(claim.place(file))
            del claim.stats[file.name]
    claim.files = files


def fault_of(file: InputFile, answer: JobError) -> MaskUnreadable:
    """The error of a companion in a claim that does not decode."""
    source = file.source
    name = file.reference or file.place or (source.name if isinstance(source, Path) else file.name)
    return mask_fault(name, answer)


def require_decodable(claim: Claim, prober: Prober) -> None:
    """Decode the companions in a claim. Raises `MaskUnreadable` for one that cannot be read."""
    for file in claim.pictures:
        if file.role != "image":
            answer = prober.probe(claim.place(file))
            if isinstance(answer, JobError):
                raise fault_of(file, answer)


def find_lacking(claim: Claim, spec: JobSpec, files: CompanionFiles) -> dict[Need, Source]:
    """The companions that a job needs and that its claim lacks. Raises `JobError`."""
    if not spec.needed_companions:
        return {}
    needs = lacking(companions_in(claim) or (), spec.needed_companions)
    return {need: files.find(*need, image=claim.row["image"]) for need in needs}


def _require_stillness(claim: Claim, sources: Sources) -> None:
    """Raise `Changed` if a companion is not as it was at the last look, and note how it is now.

    A writer may have begun anew since the file was decoded, or the file was never looked at.
    """
    moving: list[str] = []
    for source in sources.values():
        path, stat = str(source.file), _stat_of(source)
        before = claim.companion_stats.get(path)
        if stat is not None and (before is None or not stat.same_content(before)):
            claim.companion_stats[path] = stat
            moving.append(path)
    if moving:
        claim.hashes.clear()
        raise claims.Changed(moving[0])


def _settle_again(claim: Claim, error: Exception) -> claims.Changed:
    """Error of a claim whose companions cannot be had at present."""
    log.info("claim.waits", inbox=claim.inbox, drop=claim.row["id"], why=str(error))
    claim.is_waiting = True
    claim.hashes.clear()  # its files may change too before the claim has settled
    return claims.Changed(str(error))


def _sources_of(claim: Claim, item: PlanItem, files: CompanionFiles) -> dict[Need, Source]:
    spec = item.outcome
    return find_lacking(claim, spec, files) if isinstance(spec, JobSpec) else {}


def copy_into(claim: Claim, sources: Sources) -> None:
    """Copy companions into a claim, and make them durable. Raises `ClaimError` and OSError."""
    for file in named_files(claim.files, sources):
        assert isinstance(file.source, Path)
        target = claim.place(file)
        copied = claims.snapshot(file.source, target)
        claim.hashes[file.name] = copied
        claim.stats[file.name] = FileStat.of(target.lstat())
        *others, image = claim.files
        claim.files = (*others, file, image)
        fsync_dir(claim.folder)
        failpoint("companion-taken")


def named_files(others: Iterable[InputFile], sources: Sources) -> list[InputFile]:
    """Describe companions that are copied, under names that no other file of their claim has."""
    names = {file.name.lower() for file in others}
    files: list[InputFile] = []
    for (role, reference), source in sources.items():
        place = source.relative or str(source.path)
        name = name_of_copy(place.replace(os.sep, "/"), names)
        names.add(name.lower())
        file = InputFile(role, name, source.file, place, _stat_of(source), reference=reference)
        files.append(file)
    return files


def describe(
    names: Sequence[str], image: str, references: Iterable[str]
) -> list[dict[str, Any]] | None:
    """Describe the companions among the files of a claim that the ledger does not know; None if
    there are none.

    Args:
        references: the paths of companions that the sidecar in the claim names.
    """
    masks = [name for name in names if name != image and is_mask_name(name)]
    references_of = {name_of_copy(path.replace("\\", "/"), ()): path for path in references}
    beside = masks_of([image, *masks]).mask_of.get(image)
    return [
        {"role": "mask", "name": name, "sha256": None, "bytes": None}
        | ({} if reference is None else {"reference": reference})
        for name in masks
        for reference in (references_of.get(name, None if name == beside else name),)
    ] or None


def markers(
    sources: Iterable[tuple[Source, str]],
    known_files: KnownFiles | None = None,
    images: Container[str] = (),
) -> dict[str, Version]:
    """Known files that keep companions in their inbox from being taken for pictures.

    A picture that is claimed for its own sake gets none, or its changes would go unseen.

    Args:
        sources: each with the name of the file that names it.
        known_files: those of the inbox; None if it does not keep its files.
        images: paths in the inbox of the images that are claimed now.
    """
    versions: dict[str, Version] = {}
    for source, name in sources:
        stat, path = _stat_of(source), source.relative
        if path is None or stat is None or path in images:
            continue
        before = None if known_files is None else known_files.version(path)
        if before is None or before.drop_id is None:
            why = f"serves as a mask, since {name} named it; to have it restyled, rename it"
            versions[path] = Version({path: stat}, COMPANION, printable(why))
    return versions


def _stat_of(source: Source) -> FileStat | None:
    try:
        return FileStat.of(source.file.lstat())
    except OSError:
        return None
