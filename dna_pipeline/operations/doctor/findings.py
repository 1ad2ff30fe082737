"""The result of one check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "note", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        check: the check's name.
        state: `ok`; `note`: works, but people may want to know; `warning`: jobs run, but something
            should be done; `fault`: a job could not run.
        value: a clause that says how things are.
        hint: the action that people can take; "" where all is well.
        subject: the folder or model that is meant; "" for the whole machine.
    """

    check: str
    state: State
    value: str
    hint: str = ""
    subject: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def has_fault(findings: list[Finding]) -> bool:
    """True if a job could not run until a person does something."""
    return any(finding.state == "fault" for finding in findings)
