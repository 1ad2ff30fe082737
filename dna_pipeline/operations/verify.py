"""Comparison of results with their manifests, and of the outbox with the ledger.

The program never removes or moves the result folder of a completed job. So one that is gone was
removed by somebody else, and is a problem unless it lies elsewhere in the outbox.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.files import sha256_file
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.lookup import find_job, open_queries
from dna_pipeline.publish.manifest import NAME, ArtifactPart, Manifest
from dna_pipeline.publish.published import find_results


def verify(roots: Iterable[Path], *, opens: bool = False) -> list[dict[str, Any]]:
    """Hash all results at or below the roots and compare them with their manifests.

    Args:
        opens: True to read each file as other tools do, too, which takes much longer.

    Returns:
        For each result its `folder`, `job`, number of `files`, how many of these were `opened`,
        `problems`, and `missing`: True if the folder or its manifest is gone.

    Raises:
        ConfigError: a root does not exist, or is a file that belongs to no result, so that no
            result was hashed; with `opens`, there is no ffmpeg.
    """
    places = list(roots)
    for root in places:
        if not root.exists():
            raise ConfigError(f"{root}: there is no such file or folder")
    return [_compare_result(path, opens) for root in places for path in _manifests(root)]


def verify_outbox(config: Config, *, opens: bool = False) -> list[dict[str, Any]]:
    """Hash all results in the outbox as `verify` does, and add the missing ones of completed jobs.

    Raises `ConfigError`.
    """
    # The ledger is read first: a job that it calls completed has its folder by then.
    completed = _completed(config)
    results = verify([config.outbox], opens=opens)
    jobs = {result["job"] for result in results}
    folders = {result["folder"] for result in results}
    return results + [
        _missing(config.outbox / name, job_id)
        for job_id, name in completed.items()
        if job_id not in jobs and str(config.outbox / name) not in folders
    ]


def verify_jobs(
    config: Config, prefixes: Iterable[str], *, opens: bool = False
) -> list[dict[str, Any]]:
    """Hash the results of the jobs whose ids begin with one of `prefixes`, as `verify` does.

    Raises:
        ConfigError: there is no such job, or it has no result, since it was not completed.
    """
    with closing(open_queries(config)) as queries:
        jobs = [queries.job(find_job(queries, prefix)) for prefix in prefixes]
    for job in jobs:
        if job["status"] != "completed":
            raise ConfigError(
                f"job {job['id'][:8]} is {job['status']}; only completed jobs have results"
            )
    return [_compare_job(config.outbox, job["id"], job["publish_name"], opens) for job in jobs]


def _completed(config: Config) -> dict[str, str]:
    """Give the folders of the completed jobs by their ids; none if there is no ledger yet."""
    if not config.ledger_path.exists():
        return {}
    with closing(open_queries(config)) as queries:
        return queries.result_names()


def _compare_job(outbox: Path, job_id: str, name: str, opens: bool) -> dict[str, Any]:
    """Compare the result of one job, which people may have moved to another folder."""
    place = outbox / name / NAME
    if not place.is_file():
        moved = (path for path in _manifests(outbox) if job_id[:8] in path.parent.name)
        place = next((path for path in moved if _job_of(path) == job_id), place)
    return _compare_result(place, opens) if place.is_file() else _missing(place.parent, job_id)


def _job_of(path: Path) -> str | None:
    try:
        return Manifest.model_validate_json(path.read_bytes()).job.id
    except (OSError, ValueError):
        return None


def _missing(folder: Path, job_id: str) -> dict[str, Any]:
    what = NAME if folder.is_dir() else "the result folder"
    text = f"missing: {what} of job {job_id[:8]} is not there"
    return _result(folder, job_id, 0, [text], missing=True)


def _result(
    folder: Path,
    job_id: str | None,
    files: int,
    problems: list[str],
    *,
    opened: int = 0,
    missing: bool = False,
) -> dict[str, Any]:
    return {
        "folder": str(folder), "job": job_id, "files": files, "opened": opened,
        "problems": problems, "missing": missing,
    }  # fmt: skip


def _manifests(root: Path) -> list[Path]:
    """List the manifests at or below `root`, except those in hidden folders; for a file, that of
    the result to which it belongs. Raises ConfigError if it belongs to none."""
    if root.is_file():
        place = root if root.suffix == ".json" else root.parent / NAME
        if not place.is_file():
            raise ConfigError(f"{root}: there is no {NAME} beside it; name the result's folder")
        return [place]
    return [path for path in find_results(root) if path.name == NAME]


def _compare_result(path: Path, opens: bool) -> dict[str, Any]:
    """Compare the files of one result with its manifest at `path`."""
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        text = str(error).splitlines()[0]
        return _result(path.parent, None, 0, [f"{path.name}: {text}"])
    folder, opened = path.parent, 0
    problems: list[str] = []
    for artifact in manifest.artifacts:
        file = _file(folder, artifact.path)
        if (problem := _compare_file(file, artifact.sha256)) is not None:
            problems.append(problem)
        if opens and _can_open(file):
            opened += 1
            problems += _damages(file, artifact)
    return _result(folder, manifest.job.id, len(manifest.artifacts), problems, opened=opened)


def _can_open(path: Path) -> bool:
    from dna_pipeline.media import readers

    return readers.can_open(path) and path.is_file()


def _damages(path: Path, artifact: ArtifactPart) -> list[str]:
    """Open a file with the reader for it, and list what is wrong."""
    from dna_pipeline.media import readers

    text = readers.damage(path, artifact.model_extra or {})
    return [] if text is None else [f"damaged: {path.name}: {text}"]


def _file(folder: Path, name: str) -> Path:
    """Path of a file by its name in a manifest, also if the locale takes names for plain ASCII."""
    return folder / os.fsdecode(name.encode("utf-8", "surrogatepass"))


def _compare_file(path: Path, sha256: str) -> str | None:
    try:
        same = sha256_file(path) == sha256
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    return None if same else f"{path.name}: is not what the manifest says"
