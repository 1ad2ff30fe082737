"""Outcome of each check, and the report for people and for programs.

Uses the standard library alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from gpu_checks.setting import Setting

Outcome = Literal["passed", "failed", "skipped"]
Check = Callable[["Setting"], dict[str, Any]]

NAME_WIDTH = 24


class Failed(Exception):
    """Says how a result differs from what it should be."""


class Skipped(Exception):
    """Says why a check cannot be done on this machine."""


@dataclass(frozen=True, slots=True)
class Result:
    """Outcome of one check.

    Attributes:
        why: reason of an outcome other than `passed`.
        values: measurements by their names, plain JSON values.
    """

    name: str
    outcome: Outcome
    seconds: float
    why: str = ""
    values: dict[str, Any] = field(default_factory=dict[str, Any])

    def line(self) -> str:
        """The result in one line, for people."""
        if self.why:
            return f"{self.name:<{NAME_WIDTH}} {self.outcome}: {self.why}"
        values = ", ".join(f"{name} {_shown(value)}" for name, value in self.values.items())
        return f"{self.name:<{NAME_WIDTH}} {self.outcome}  {values}".rstrip()


def run_checks(
    checks: Iterable[tuple[str, Check]], setting: Setting, limit_s: float
) -> Generator[Result]:
    """Run the checks one after another. Once `limit_s` has passed, the others are skipped."""
    started = time.monotonic()
    for name, check in checks:
        if time.monotonic() - started > limit_s:
            yield Result(name, "skipped", 0.0, f"the limit of {limit_s:g} s had passed")
        else:
            yield _run(name, check, setting)


def as_json(machine: dict[str, Any], results: Iterable[Result]) -> dict[str, Any]:
    """The whole report as plain JSON values."""
    checks = [asdict(result) for result in results]
    outcomes = [check["outcome"] for check in checks]
    counts = {name: outcomes.count(name) for name in ("passed", "failed", "skipped")}
    return {"machine": machine, "counts": counts, "checks": checks}


def _run(name: str, check: Check, setting: Setting) -> Result:
    start = time.monotonic()

    def result(outcome: Outcome, why: str = "", values: dict[str, Any] | None = None) -> Result:
        return Result(name, outcome, round(time.monotonic() - start, 2), why, values or {})

    try:
        return result("passed", values=check(setting))
    except Skipped as reason:
        return result("skipped", str(reason))
    except Failed as reason:
        return result("failed", str(reason))
    except ModuleNotFoundError as error:
        # A module of the project that is missing is a fault, not a poor machine.
        if str(error.name).partition(".")[0] in ("dna_pipeline", "benches", "gpu_checks"):
            return result("failed", str(error))
        return result("skipped", f"this Python has no module {error.name}; see --pack")
    except Exception as error:
        return result("failed", f"{type(error).__name__}: {str(error)[:500]}")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return "(" + ", ".join(f"{name} {_shown(item)}" for name, item in items) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
