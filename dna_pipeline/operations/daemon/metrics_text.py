"""The text format of Prometheus."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its samples.

    Attributes:
        samples: suffix of the name (`_sum` of a summary, else ""), labels and value.
    """

    name: str
    kind: Literal["counter", "gauge", "summary"]
    about: str
    samples: list[tuple[str, Labels, float]] = field(
        default_factory=list[tuple[str, "Labels", float]]
    )

    def add(self, value: float, suffix: str = "", **labels: str) -> Metric:
        """Add a sample; return the metric."""
        self.samples.append((suffix, labels, value))
        return self


def to_text(metrics: Iterable[Metric]) -> str:
    """Write metrics; one without samples is left out."""
    lines: list[str] = []
    for metric in metrics:
        if metric.samples:
            lines.append(f"# HELP {metric.name} {_escaped(metric.about)}")
            lines.append(f"# TYPE {metric.name} {metric.kind}")
            lines += [_line(metric.name + end, labels, n) for end, labels, n in metric.samples]
    return "".join(f"{line}\n" for line in lines)


def _line(name: str, labels: Labels, value: float) -> str:
    pairs = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
    return f"{name}{{{pairs}}} {_number(value)}" if pairs else f"{name} {_number(value)}"


def _number(value: float) -> str:
    if math.isfinite(value):
        return str(value)
    return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _label(text: str) -> str:
    """Escape a label's value; what UTF-8 cannot hold is written by its number."""
    valid = text.encode("utf-8", "backslashreplace").decode()
    # Some readers take these for ends of lines, too.
    for sign in ("\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"):
        valid = valid.replace(sign, " ")
    return _escaped(valid).replace('"', '\\"')
