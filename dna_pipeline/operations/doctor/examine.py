"""Gathers the facts and does all checks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

from dna_pipeline.base import logs
from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.reachability import brief_looks
from dna_pipeline.config.schema import Config
from dna_pipeline.operations import configuration
from dna_pipeline.operations.doctor import (
    device,
    folders,
    machine,
    places,
    project,
    ray_cluster,
    system,
    tools,
)
from dna_pipeline.operations.doctor.facts import Machine
from dna_pipeline.operations.doctor.findings import Finding
from dna_pipeline.operations.receivers import metrics_problem

Check = Callable[[Machine], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    project.config,
    system.python,
    device.torch,
    device.device,
    device.other_devices,
    ray_cluster.ray,
    device.memory,
    project.weights,
    tools.onnxruntime,
    tools.opengl,
    tools.ffmpeg,
    tools.sqlite,
    project.ledger,
    folders.folders,
    folders.watches,
    system.open_files,
    system.clock,
    system.locale,
    project.daemons,
    project.kept_results,
    project.receivers,
    project.metrics,
)
"""All checks, in the order of the report."""


def examine(file: Path, *, is_named: bool) -> list[Finding]:
    """Check this machine, and what pipeline.yaml names on it.

    Takes some seconds, and ends in any case: whatever may hang is done in child processes with time
    limits. Nothing is changed but for files that are written and removed at once.

    Args:
        file: pipeline.yaml.
        is_named: a person has named that file, so that it is a fault if it is missing.
    """
    logs.silence()
    config, problem = _load(file, is_named=is_named)
    return judge(gather(file, config, problem))


def judge(facts: Machine) -> list[Finding]:
    """Do all checks with these facts."""
    return [finding for check in CHECKS for finding in check(facts)]


def gather(file: Path, config: Config | None, problem: str) -> Machine:
    """Gather all facts; without a configuration those of the machine alone."""
    facts = replace(
        machine.gather(config),
        encoding=_terminal_encoding(),
        file_problem=problem,
        folders=(places.temporary_folder(),),
    )
    if config is None:
        return facts
    with brief_looks() as look:
        ledger, queries = places.open_ledger(config, look)
        with closing(queries) if queries else nullcontext():
            used = places.folders(config, queries, look)
            receivers = places.receivers(config, queries)
        return replace(
            facts,
            file=str(file),
            folders=(*used, *facts.folders),
            models=places.models(config, look),
            ledger=ledger,
            daemons=places.daemons(config, look),
            receivers=receivers,
            kept=places.kept_results(config, look),
            metrics_problem=metrics_problem(config, look) or "",
        )


def _load(file: Path, *, is_named: bool) -> tuple[Config | None, str]:
    """The configuration; else None with the reason, which is "" if there just is no file."""
    if not is_named and not os.path.lexists(file):
        return None, ""
    try:
        return configuration.load(file), ""
    except ConfigError as error:
        first, *others = str(error).splitlines()
        return None, f"{first} (and {len(others)} more)" if others else first


def _terminal_encoding() -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return "ascii" if encoding.startswith("ascii") else encoding
