"""A thousand simulated workers under the real dispatcher, scheduler, model order and ledger.

The workers are events on a virtual clock. The dispatcher's calls are real: the time that each takes
by the real clock is added to the virtual one, so that orders go out as late as they would. What is
left out: the pixels, the copies of results into the outbox, and the daemon's intake and status.
"""

from __future__ import annotations

import argparse
import heapq
import json
import queue
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import text

from benches import options
from benches.history import History, data_folder
from dna_pipeline.base.errors import EmptyForeground, RetryWait
from dna_pipeline.base.logs import configure
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.model_order import ModelOrder
from dna_pipeline.execution.protocol import (
    Event,
    JobDone,
    JobFailed,
    LoadedModel,
    Order,
    Phase,
    Progress,
    StageDone,
    Task,
    WorkerEnded,
    WorkerReady,
)
from dna_pipeline.execution.worker_state import WorkerState
from dna_pipeline.ledger import drops, holds
from dna_pipeline.ledger import queue as jobs
from dna_pipeline.ledger.store import Ledger

T = TypeVar("T")

REVIEW_S = 2.0
RESTART_S = 20.0
"""Time from the death of a worker's process until the next one takes an order."""

STRAGGLER_FACTOR = 20
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}

SPREAD = 0.3
"""Jobs take from 1 - SPREAD to 1 + SPREAD of the usual time."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The jobs and the workers that are simulated.

    Attributes:
        seconds: usual time of a job without its model's loading, `load_s`.
        steps: events of progress of each job.
        failures, deaths, stragglers: shares of the jobs that fail, end their worker, or take
            `STRAGGLER_FACTOR` times as long.
    """

    workers: int
    queued: int
    seconds: float
    steps: int
    models: int
    load_s: float
    failures: float
    deaths: float
    stragglers: float
    seed: int
    clock: Callable[[], float] = time.perf_counter
    """Measures the dispatcher's calls."""


@dataclass(slots=True)
class Worker:
    """A simulated worker.

    Attributes:
        state: as the dispatcher sees it; a new value for each change.
        busy_s, loading_s: seconds for which it computed and loaded models.
        until: virtual time of the end of its last work.
    """

    number: int
    state: WorkerState
    busy_s: float = 0.0
    loading_s: float = 0.0
    until: float = 0.0
    loads: int = 0


@dataclass(eq=False)
class SimulatedWorkers:
    """An executor whose workers are events on a virtual clock.

    Attributes:
        now: virtual seconds at the begin of the dispatcher's call.
        called_at: real time of that begin.
    """

    setting: Setting
    now: float = 0.0
    called_at: float = 0.0
    last_order_at: float = 0.0
    _due: list[tuple[float, int, Event, Worker]] = field(
        default_factory=list[tuple[float, int, Event, Worker]]
    )
    _events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue[Event])

    def __post_init__(self) -> None:
        self._chance = random.Random(self.setting.seed)
        self._serial = 0
        self.all = [Worker(n, _idle(n, 1, ())) for n in range(self.setting.workers)]
        self._free = dict.fromkeys(range(self.setting.workers))
        self._states = [worker.state for worker in self.all]
        for worker in self.all:
            ready = WorkerReady("cuda", "float16", {}, worker.state.process)
            self._add(0.0, ready, worker)

    # --- as the dispatcher sees it ---

    @property
    def capacity(self) -> int:
        return self.setting.workers

    def workers(self) -> tuple[WorkerState, ...]:
        return tuple(self._states)

    def events(self) -> queue.SimpleQueue[Event]:
        return self._events

    def cancel(self, job: str) -> None: ...
    def yield_after_stage(self, job: str) -> None: ...
    def enforce_timeouts(self) -> None: ...
    def close(self, grace_s: float) -> None: ...

    def submit(self, order: Order | Task, among: Collection[str] | None = None) -> None:
        """Give an order to the free worker that has to load the fewest models. `among` names no
        others, since a simulated worker has one order at most."""
        assert isinstance(order, Order)
        model = str(order.stages[0].params["model"])
        free = [self.all[number] for number in self._free]
        worker = min(free, key=lambda w: (model not in w.state.model_names, bool(w.state.models)))
        begin = self.now + self.setting.clock() - self.called_at
        self.last_order_at = begin
        del self._free[worker.number]
        self._run(order, model, worker, begin)

    # --- what the workers do ---

    def _run(self, order: Order, model: str, worker: Worker, begin: float) -> None:
        setting, process = self.setting, worker.state.process
        load_s = 0.0
        if model not in worker.state.model_names:
            load_s = setting.load_s
            worker.loads += 1
            worker.loading_s += load_s
        loaded = (LoadedModel(model, "loaded", "cuda", "2026-01-01T00:00:00Z"),)
        self._change(
            worker, WorkerState(worker.state.name, process, "cuda", "working", False, loaded)
        )
        seconds = setting.seconds * self._chance.uniform(1 - SPREAD, 1 + SPREAD)
        if self._chance.random() < setting.stragglers:
            seconds *= STRAGGLER_FACTOR
        stage = order.stages[0]
        self._add(begin, Phase(order.job, stage.id, "running", 600.0, process), worker)
        start, end = begin + load_s, begin + load_s + seconds
        chance = self._chance.random()
        if chance < setting.deaths:
            end = start + seconds * self._chance.random()
            self._add(end, WorkerEnded(process, (order.job,), "crash", "simulated"), worker)
        elif chance < setting.deaths + setting.failures:
            failure = EmptyForeground("simulated").failure().to_dict()
            self._add(end, JobFailed(order.job, failure, stage.id, worker=process), worker)
        else:
            for step in range(1, setting.steps + 1):
                at = start + seconds * step / (setting.steps + 1)
                fraction = step / (setting.steps + 1)
                self._add(at, Progress(order.job, stage.id, step, setting.steps, fraction), worker)
            self._add(end, _stage_done(order), worker)
            self._add(end, JobDone(order.job), worker)
        worker.busy_s += end - start
        worker.until = end

    def _add(self, at: float, event: Event, worker: Worker) -> None:
        self._serial += 1
        heapq.heappush(self._due, (at, self._serial, event, worker))

    def next_at(self) -> float | None:
        """Virtual time of the next event; None if no worker does anything."""
        return self._due[0][0] if self._due else None

    def happen(self) -> int:
        """Report the events that are due by now; return their number."""
        number = 0
        while self._due and self._due[0][0] <= self.now:
            _, _, event, worker = heapq.heappop(self._due)
            number += 1
            self._events.put(event)
            match event:
                case JobDone() | JobFailed():
                    self._free_again(worker, worker.state.process, worker.state.models)
                case WorkerEnded():
                    process = f"{worker.state.name}-{self._serial}"
                    self._add(
                        self.now + RESTART_S, WorkerReady("cuda", "float16", {}, process), worker
                    )
                case WorkerReady() if event.worker != worker.state.process:
                    self._free_again(worker, event.worker, ())
                case _:
                    pass
        return number

    def _free_again(self, worker: Worker, process: str, models: tuple[LoadedModel, ...]) -> None:
        self._change(worker, WorkerState(worker.state.name, process, "cuda", "idle", True, models))
        self._free[worker.number] = None

    def _change(self, worker: Worker, state: WorkerState) -> None:
        worker.state = self._states[worker.number] = state


def _idle(number: int, process: int, models: tuple[LoadedModel, ...]) -> WorkerState:
    return WorkerState(f"w{number}", f"w{number}-{process}", "cuda", "idle", True, models)


def _stage_done(order: Order) -> StageDone:
    stage = order.stages[0]
    return StageDone(
        order.job, stage.id, stage.type, "border_key", {"name": stage.params["model"]},
        stage.params, "cuda", "float16", 1, 1.0, [], {"python": "3"}, [], "0" * 64,
    )  # fmt: skip


class CountedLedger(Ledger):
    """A ledger that counts its transactions and their seconds by a clock."""

    count = 0
    seconds = 0.0
    clock: Callable[[], float] = time.perf_counter

    def transact(self, action: Callable[[Any], T]) -> T:
        started = self.clock()
        try:
            return super().transact(action)
        finally:
            self.count += 1
            self.seconds += self.clock() - started


class Simulation:
    """One run of the queue. The dispatcher's thread does what the daemon's main loop does."""

    def __init__(self, config: Config, setting: Setting) -> None:
        self._setting = setting
        self._ledger = CountedLedger(config.ledger_path)
        self._ledger.clock = setting.clock
        self.executor = SimulatedWorkers(setting)
        self._dispatcher = Dispatcher(config, self._ledger, self.executor)
        window_s = config.runtime.model_window_s
        self._dispatcher.scheduler.order = ModelOrder(window_s, setting.workers, self._clock)
        self.seconds_of: defaultdict[str, float] = defaultdict(float)
        self.per_job_ms: list[float] = []
        self._review_at = 0.0
        self.published = 0

    def _clock(self) -> float:
        return self.executor.now + self._setting.clock() - self.executor.called_at

    def run(self) -> None:
        executor = self.executor
        while True:
            executor.happen()
            self._round()
            at = executor.next_at()
            if at is None and not self._retry_soon():
                break
            executor.now = max(executor.now, at or executor.now)

    def _round(self) -> None:
        """Do one round of the daemon's loop; its real time passes on the virtual clock too."""
        executor, dispatcher = self.executor, self._dispatcher
        started = executor.called_at = self._setting.clock()
        before = self.published + len(dispatcher.running)
        self._timed("events", dispatcher.listen)
        if executor.now >= self._review_at:
            self._timed("review", self._review)
            self._review_at = executor.now + REVIEW_S
        self._timed("cancels", dispatcher.forward_cancels)
        self._timed("dispatch", dispatcher.dispatch)
        self._timed("publish", self._publish)
        elapsed = self._setting.clock() - started
        executor.now += elapsed
        if (begun := self.published + len(dispatcher.running) - before) > 0:
            self.per_job_ms += [1000 * elapsed / begun] * begun

    def _timed(self, name: str, action: Callable[[], Any]) -> None:
        started = self._setting.clock()
        action()
        self.seconds_of[name] += self._setting.clock() - started

    def _review(self) -> None:
        self._dispatcher.scheduler.review(keep_trying=True)
        self._dispatcher.enforce_hours()
        # Retries wait by the real clock, which the virtual one leaves behind.
        self._ledger.transact(lambda s: holds.release(s, RetryWait.code))

    def _retry_soon(self) -> bool:
        """Release jobs that wait for a retry; False if there are none."""
        if not self._ledger.transact(lambda s: holds.release(s, RetryWait.code)):
            return False
        self.executor.now += REVIEW_S
        return True

    def _publish(self) -> None:
        """Make the commits of publishing, without its files."""
        for job in self._ledger.transact(jobs.to_publish):

            def end(session: Any, job: Any = job) -> None:
                jobs.finish_publishing(session, job.id)
                drops.unneeded_drops(session, job.drop_id)
                drops.set_drop_state(session, job.drop_id, "gone")

            name = f"{job.inbox}/{job.id}"
            self._ledger.transact(lambda s, j=job, n=name: jobs.plan_publish(s, j.id, n, "0" * 64))
            self._ledger.transact(end)
            self.published += 1

    def report(self) -> dict[str, Any]:
        setting, executor = self._setting, self.executor
        makespan = executor.now
        busy = sum(worker.busy_s for worker in executor.all)
        loading = sum(worker.loading_s for worker in executor.all)
        loads = sum(worker.loads for worker in executor.all)
        seconds = sum(self.seconds_of.values())
        ms = 1000 * seconds / max(self.published, 1)
        ordered = sorted(self.per_job_ms)
        return {
            "workers": setting.workers, "ended": self.published,
            "virtual_s": round(makespan, 1), "real_s": round(seconds, 1),
            "dispatcher_busy": round(seconds / makespan, 3),
            "utilisation": {
                "whole_run": round((busy + loading) / (setting.workers * makespan), 3),
                "loading": round(loading / (setting.workers * makespan), 3),
                "until_dry": self._until_dry(busy + loading),
            },
            "model_loads": {
                "all": loads, "least": sum(worker.loads > 0 for worker in executor.all),
                "by_chance": round(self.published * (1 - 1 / setting.models)),
            },
            "transactions_per_job": round(self._ledger.count / max(self.published, 1), 2),
            "ledger_share": round(self._ledger.seconds / seconds, 2),
            "ms_per_job": {
                "mean": round(ms, 2), "median": round(statistics.median(ordered), 2),
                "p95": round(ordered[int(0.95 * len(ordered))], 2),
            },
            "s_by_part": {name: round(s, 1) for name, s in self.seconds_of.items()},
            "saturation": {
                "jobs_per_s": round(1000 / ms, 1),
                "shortest_job_s": round(setting.workers * ms / 1000, 2),
            },
        }  # fmt: skip

    def _until_dry(self, work_s: float) -> float | None:
        """Utilisation until the last order went out: the end of the work after it says nothing."""
        end = self.executor.last_order_at
        after_s = sum(max(0.0, worker.until - end) for worker in self.executor.all)
        return round((work_s - after_s) / (self._setting.workers * end), 3) if end else None


def _prepare(root: Path, jobs_in_ledger: int, setting: Setting) -> Config:
    """Make a data folder whose queued jobs, all of one priority, need these models at random."""
    file = data_folder(root, History(max(jobs_in_ledger, setting.queued), queued=setting.queued))
    names = [f"m{number}" for number in range(setting.models)]
    models = "".join(f"  {name}: {{provider: border_key}}\n" for name in names)
    file.write_text(file.read_text().replace("models:\n", f"models:\n{models}"))
    config = load_config(file, {})
    ledger = Ledger(config.ledger_path)
    queued = text("SELECT seq FROM jobs WHERE status = 'queued'")
    change = text(
        "UPDATE jobs SET priority = 0, models = :models, stages = :stages WHERE seq = :seq"
    )
    chance = random.Random(setting.seed)

    def assign(session: Any) -> None:
        rows = [
            {"seq": seq, "models": name, "stages": _stages(name)}
            for seq, name in ((seq, chance.choice(names)) for seq in session.scalars(queued).all())
        ]
        session.execute(change, rows)

    ledger.transact(assign)
    ledger.close()
    return config


def _stages(model: str) -> str:
    return json.dumps([{"id": "cut", "type": "remove_background", "params": {"model": model}}])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    number, share = options.at_least, float
    parser.add_argument("--workers", type=number(1), default=1000, help="(%(default)s)")
    parser.add_argument("--queued", type=number(1), default=50_000, help="jobs (%(default)s)")
    parser.add_argument("--jobs", type=number(1), default=1_000_000, help="in the ledger")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a job (%(default)s)")
    parser.add_argument("--steps", type=number(0), default=20, help="reported by a job")
    parser.add_argument("--models", type=number(1), default=5, help="(%(default)s)")
    parser.add_argument("--load-s", type=float, default=10.0, help="of a model (%(default)s)")
    parser.add_argument("--failures", type=share, default=0.01, help="share of jobs (%(default)s)")
    parser.add_argument("--deaths", type=share, default=0.002, help="of workers, per job")
    parser.add_argument("--stragglers", type=share, default=0.005, help="20 times as long")
    parser.add_argument("--seed", type=int, default=1, help="of chance (%(default)s)")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall",
        help="wall: with the waits for the disk and other programs; processor: without",
    )  # fmt: skip
    parser.add_argument("--folder", type=Path, help="where to build, rather than in $TMPDIR")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Give the report; `virtual_s` is what the queue would take, `real_s` the dispatcher's work."""
    setting = Setting(
        args.workers, args.queued, args.seconds, args.steps, args.models, args.load_s,
        args.failures, args.deaths, args.stragglers, args.seed, CLOCKS[args.clock],
    )  # fmt: skip
    if args.seconds <= 0 or not 0 <= args.failures + args.deaths + args.stragglers < 1:
        raise ValueError("jobs take time, and shares lie between 0 and 1")
    with tempfile.TemporaryDirectory(prefix="dna-bench-", dir=args.folder) as folder:
        config = _prepare(Path(folder), args.jobs, setting)
        configure(config.logs, console=False)
        simulation = Simulation(config, setting)
        simulation.run()
        return {"load": options.load()} | simulation.report()
