"""A job that waits for others is under no time limit, and is under one again once it goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from dna_pipeline.base.files import Artifact, write_bytes
from dna_pipeline.execution.protocol import JobDone, Phase, StageOrder
from dna_pipeline.execution.result_store import ResultStore
from dna_pipeline.execution.worker.lanes import Direct, Rank, SameWork
from dna_pipeline.stages import registry
from dna_pipeline.stages.base import Stage, StageContext
from tests import workers

A = TypeVar("A")
T = TypeVar("T")


class Copies(Stage):
    """Copies its input, at its first try with too little memory."""

    type: ClassVar[str] = "copies"
    needs_model: ClassVar[bool] = False
    lacks_memory: bool = False

    def run(self, ctx: StageContext) -> list[Artifact]:
        if self.lacks_memory and ctx.low_memory_level == 0:
            raise MemoryError("no more")
        path = ctx.path(".txt")
        write_bytes(path, ctx.source.read_bytes())
        return [Artifact(path, "image", "text/plain")]


class Contested(Direct):
    """Turns for which each job has to wait."""

    def share(
        self,
        key: Hashable,
        item: A,
        work: Callable[[Sequence[A]], Sequence[T]],
        rank: Rank,
        check: Callable[[], None],
        on_wait: Callable[[], None],
    ) -> T:
        on_wait()
        return super().share(key, item, work, rank, check, on_wait)


class BegunBefore(SameWork):
    """Another job is at each stage's work, for a moment."""

    @contextmanager
    def alone(
        self, key: str | None, check: Callable[[], None], on_wait: Callable[[], None]
    ) -> Generator[bool]:
        assert key is not None
        self._keys.add(key)
        threading.Timer(0.05, self._keys.discard, (key,)).start()
        with super().alone(key, check, on_wait) as has_waited:
            yield has_waited


def phases(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[Any]:
    """The phases of a job of one stage, each with its time limit.

    Args:
        changes: parameters of the stage, and fields of `WorkerContext`.
    """
    monkeypatch.setattr(registry, "stage_class", lambda _: Copies)
    source = folder / "a.txt"
    source.write_bytes(b"a")
    params = {"lacks_memory": changes.pop("lacks_memory", False)}
    order = workers.order(source, folder / "w", StageOrder("s", "copies", params, "a"))
    events = workers.run(order, {}, **changes)
    assert events[-1] == JobDone(workers.JOB)
    return [(event.phase, event.limit_s) for event in events if isinstance(event, Phase)]


WAITING = ("waiting", None)


def test_a_job_that_waits_to_make_room_is_under_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen = phases(tmp_path, monkeypatch, device=Contested(), lacks_memory=True)
    first = [("reading", 60), WAITING, ("running", 60)]
    again = [WAITING, ("reading", 60), WAITING, ("running", 60), ("writing", 60)]
    assert seen == [*first, *again]


def test_a_job_that_waited_for_an_equal_one_is_under_a_limit_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store = ResultStore(tmp_path / "kept", free_bytes=0)
    seen = phases(tmp_path, monkeypatch, same_work=BegunBefore(), store=store)
    assert seen == [
        ("reading", 60), WAITING, ("reading", 60), ("running", 60), ("writing", 60),
    ]  # fmt: skip
