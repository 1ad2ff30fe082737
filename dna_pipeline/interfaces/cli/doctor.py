"""`dna-pipeline doctor`: says if jobs can run on this machine, and what to do if not."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

import typer

from dna_pipeline.base.quantities import number_of
from dna_pipeline.interfaces.cli.output import (
    JsonOption,
    clean,
    config_file,
    print_json,
    say,
)

if TYPE_CHECKING:
    from dna_pipeline.operations.doctor.findings import Finding

WIDTH = 80
"""Number of columns of a line, if the terminal has as many."""

_COLUMNS = 26
"""Number of columns before the text: state and check."""


def doctor(context: typer.Context, as_json: JsonOption = False) -> None:
    """Check this machine: device, weights, libraries, folders, limits; each with what to do.

    Works without a pipeline.yaml, too. Exit status 1 says that a job could not run.
    """
    from dna_pipeline.operations.doctor.examine import examine
    from dna_pipeline.operations.doctor.findings import has_fault

    is_named = context.obj is not None or bool(os.environ.get("DNA_CONFIG"))
    if sys.stderr.isatty():
        say("checking this machine, which takes some seconds")
    findings = examine(config_file(context), is_named=is_named)
    if as_json:
        print_json([finding.to_dict() for finding in findings])
    else:
        for finding in findings:
            print(_lines(finding))
        say(_summary(findings))
    if has_fault(findings):
        raise typer.Exit(1)


def _lines(finding: Finding) -> str:
    """A finding as text: state, check and value, then the hint behind an arrow."""
    name = f"{finding.check} {finding.subject}".strip()
    parts = [finding.value, f"-> {finding.hint}" if finding.hint else ""]
    begin = f"{finding.state:8}{clean(name):17} "
    width = max(min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH), 2 * _COLUMNS)
    lines: list[str] = []
    for part in filter(None, map(clean, parts)):
        lines += textwrap.wrap(
            part,
            width,
            initial_indent=begin if not lines else " " * _COLUMNS,
            subsequent_indent=" " * _COLUMNS,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _summary(findings: list[Finding]) -> str:
    faults = sum(finding.state == "fault" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    if faults:
        return f"{number_of(faults, 'fault')}: some or all jobs cannot run"
    return f"jobs can run; {number_of(warnings, 'warning')}" if warnings else "jobs can run"
