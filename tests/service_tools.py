"""Stand-ins for the tools of service managers, which record how they are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dna_pipeline.base.programs import Output
from dna_pipeline.operations.service.site import Site

Answer = Callable[[list[str]], Output | None]


class Tools:
    """Runs no program, and answers as `answer` says; else with success and no words."""

    def __init__(self, answer: Answer = lambda _: None) -> None:
        self.calls: list[str] = []
        self.answer = answer

    def __call__(self, command: Sequence[str]) -> Output:
        self.calls.append(" ".join(command))
        return self.answer(list(command)) or Output(0, "", "")


def refusing(word: str, errors: str, code: int = 1) -> Answer:
    """Answers that refuse the calls that have a word."""
    return lambda command: Output(code, "", errors) if word in command else None


def site_at(folder: Path, **variables: str) -> Site:
    """A site in a folder, which need not exist."""
    config = folder / "pipeline.yaml"
    return Site(
        config=config,
        data=folder / "data",
        logs=folder / "data/logs",
        command=("/opt/python", "-m", "dna_pipeline", "--config", str(config), "watch", "--plain"),
        variables=variables,
        places=(str(folder / "data"), str(folder / "outbox")),
    )
