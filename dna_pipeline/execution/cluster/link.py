"""The connection to one worker of the cluster: its actor, the orders that go there, its events."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from dna_pipeline import __version__
from dna_pipeline.base.ipc import Message
from dna_pipeline.execution.cluster.api import Lost, Refused
from dna_pipeline.execution.cluster.carrier import CALL_S, Actor, Attempt, Carrier
from dna_pipeline.execution.cluster.files import Damaged
from dna_pipeline.execution.cluster.relay import EVENTS
from dna_pipeline.execution.protocol import (
    Order,
    StageDone,
    event_from_message,
    event_to_message,
)

log = structlog.get_logger()

POLL_S = 2.0
"""Time for which a call waits for events."""

PLACE_S = 15.0
"""Time that Ray has to find a place for an actor, before its worker counts as one without a node.
Ray goes on looking."""

RETRY_S = 2.0

FAULTS = (Lost, Refused, OSError, Damaged, ValueError)
"""Errors after which an actor is given up; TimeoutError is an OSError, PipeError a ValueError."""


class Cluster(Protocol):
    """The part of the cluster that a link uses, so that tests can play one."""

    def make_actor(self, worker: str, process: str) -> Actor:
        """Ask Ray for a new actor. Raises `Lost`."""
        ...

    def result(self, reference: Any, timeout_s: float) -> Any:
        """As `api.result`."""
        ...

    def node_name(self, node: str) -> str:
        """Name of a node for people, by its id."""
        ...

    def is_draining(self, node: str) -> bool:
        """True if the node is about to leave the cluster."""
        ...


@dataclass(slots=True)
class Session:
    """One actor from its start to its end.

    Attributes:
        epoch: its number.
        node, node_name: id and name of its node.
        attempts: the orders that it has, by their jobs.
        tasks: number of tasks that it has.
    """

    actor: Actor
    epoch: int
    node: str
    node_name: str
    attempts: dict[str, Attempt] = field(default_factory=dict[str, Attempt])
    tasks: int = 0
    is_draining: bool = False


class Link:
    """Keeps one worker of the cluster alive, and relays between it and the daemon.

    Each actor has an epoch of its own. The daemon gives orders for the epoch that it knows. Those
    for an earlier one are dropped: the daemon takes them back when it hears of the actor's end.

    Args:
        say: sends a message to the daemon.
    """

    def __init__(
        self, worker: str, cluster: Cluster, carrier: Carrier, say: Callable[[Message], None]
    ) -> None:
        self._worker = worker
        self._cluster = cluster
        self._carrier = carrier
        self._send = say
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._change = threading.Condition()
        self._epoch = 0
        self._session: Session | None = None
        self._leftovers: list[str] = []
        """Attempts of the last actor, whose folders the next one removes if it sees them."""

    def start(self) -> None:
        """Begin to look for a place for the worker."""
        for name, work in (("actor", self._live), ("orders", self._serve)):
            threading.Thread(target=work, name=f"{self._worker}-{name}", daemon=True).start()

    def put(self, message: Message) -> None:
        """Take a message of the daemon for this worker."""
        self._messages.put(message)

    def close(self, grace_s: float) -> None:
        """End the worker process, and its actor."""
        with self._change:
            session = self._session
        if session is not None:
            with suppress(*FAULTS):
                session.actor.call("close", grace_s, timeout_s=grace_s)
            session.actor.kill()

    def _say(self, epoch: int, **message: Any) -> None:
        self._send({"worker": self._worker, "epoch": epoch, **message})

    # --- the life of actors ---

    def _live(self) -> None:
        number = 0
        while True:
            number += 1
            try:
                session = self._connect(number)
            except FAULTS as error:
                self._end_epoch("unready", str(error))
                time.sleep(RETRY_S)
                continue
            try:
                why = self._follow(session)
            except FAULTS as error:
                why = f"its actor on {session.node_name} was lost: {error}"
            session.actor.kill()
            self._leftovers = [attempt.id for attempt in session.attempts.values()]
            for attempt in self._leftovers:
                self._carrier.forget(attempt)
            self._end_epoch("lost", why)

    def _end_epoch(self, reason: str, why: str) -> None:
        """Begin another epoch: all orders of this one go back to the daemon."""
        with self._change:
            self._session = None
            self._epoch += 1
            self._say(self._epoch, absent=why, reason=reason)
            self._change.notify_all()

    def _connect(self, number: int) -> Session:
        """Wait for an actor that Ray has started. Raises `Lost` and `Refused`."""
        process = self._worker if number == 1 else f"{self._worker}.{number}"
        actor = self._cluster.make_actor(self._worker, process)
        try:
            about = self._wait_for_place(actor)
            name = self._cluster.node_name(about["node"])
            if about["version"] != __version__:
                raise Refused(
                    f"{name} has version {about['version']} of dna-pipeline, and the daemon has "
                    f"{__version__}: install the same on both"
                )
        except FAULTS:
            actor.kill()
            raise
        with self._change:
            session = self._session = Session(actor, self._epoch, about["node"], name)
            self._say(session.epoch, node=name, process=f"{process}-1")
            self._change.notify_all()
        return session

    def _wait_for_place(self, actor: Actor) -> dict[str, Any]:
        reference = actor.start("about")
        is_absent = False
        while True:
            try:
                return self._cluster.result(reference, PLACE_S)
            except TimeoutError:
                if not is_absent:
                    self._end_epoch("unready", "no node of the Ray cluster has room for it")
                is_absent = True

    def _follow(self, session: Session) -> str:
        """Hand on the events of an actor as long as it lives; the reason why it is given up.
        Raises one of `FAULTS` if it is lost."""
        for attempt in self._leftovers:
            session.actor.start("forget", attempt)
        last = 0
        while True:
            answer: dict[str, Any] = session.actor.call(
                "poll", last, POLL_S, timeout_s=POLL_S + CALL_S, group=EVENTS
            )
            # First, so that the daemon finds the worker free when it hears of a job's end.
            self._say(session.epoch, room=answer["room"])
            for number, message in answer["events"]:
                last = number
                self._hand_on(session, message)
            if self._may_leave(session):
                return f"{session.node_name} is about to leave the Ray cluster"

    def _may_leave(self, session: Session) -> bool:
        """True if the node is about to leave and the actor has nothing more to do. The daemon
        gives it no new orders as soon as that is known."""
        if not session.is_draining and self._cluster.is_draining(session.node):
            session.is_draining = True
            log.warning("node.draining", worker=self._worker, node=session.node_name)
            self._say(session.epoch, draining=True)
            return False  # an order may be on its way
        is_busy = session.attempts or session.tasks or not self._messages.empty()
        return session.is_draining and not is_busy

    # --- events ---

    def _hand_on(self, session: Session, message: Message) -> None:
        """Pass an event on; the files of a finished stage come before it.

        A job whose files did not fit is cancelled, and reported when the actor has ended it: the
        daemon may give it to the same actor again at once.
        """
        kind, attempt = message["event"], session.attempts.get(message.get("job") or "")
        if kind == "stage_done" and attempt is not None and attempt.failed is None:
            event = event_from_message(message)
            assert isinstance(event, StageDone)
            attempt.failed = self._carrier.fetch(session.actor, attempt, event)
            if attempt.failed is not None:
                session.actor.start("cancel", event.job)
        ended = [session.attempts.pop(job, None) for job in _ended_jobs(message)]
        for one in ended:
            if one is not None and one.failed is not None:
                self._say(session.epoch, event=event_to_message(one.failed))
        if attempt is None or attempt.failed is None:
            self._say(session.epoch, event=message)
        # This fails where the actor is lost. So it comes after the report of the jobs' ends: a job
        # whose end was not reported goes back into the queue.
        for one in ended:
            if one is not None:
                session.actor.start("forget", one.id)
        if kind in ("task_done", "task_failed"):
            session.tasks -= 1

    # --- orders ---

    def _serve(self) -> None:
        while True:
            message = self._messages.get()
            if (session := self._session_of(message["epoch"])) is None:
                continue
            try:
                self._pass(session, message)
            except FAULTS as error:
                log.warning("order.lost", worker=self._worker, why=str(error))
                session.actor.kill()  # `_follow` notices, and all orders go back

    def _session_of(self, epoch: int) -> Session | None:
        """Wait for the actor of that epoch; None if another epoch has begun."""
        with self._change:
            self._change.wait_for(lambda: self._session is not None or self._epoch != epoch)
            return self._session if self._epoch == epoch else None

    def _pass(self, session: Session, message: Message) -> None:
        actor = session.actor
        if "order" in message:
            self._begin(session, message["order"])
        elif "task" in message:
            session.tasks += 1
            actor.call("run_task", message["task"], timeout_s=CALL_S)
        elif "cancel" in message:
            actor.call("cancel", message["cancel"], timeout_s=CALL_S)
        elif "rest" in message:
            actor.call("yield_after_stage", message["rest"], timeout_s=CALL_S)

    def _begin(self, session: Session, message: Message) -> None:
        attempt = Attempt(Order.from_message(message))
        job = attempt.order.job
        session.attempts[job] = attempt
        if (failed := self._carrier.send(session.actor, attempt)) is None:
            session.actor.call("run_order", attempt.id, message, timeout_s=CALL_S)
            return
        del session.attempts[job]
        session.actor.call("skip_order", attempt.id, timeout_s=CALL_S)
        self._say(session.epoch, event=event_to_message(failed))


def _ended_jobs(message: Message) -> list[str]:
    """The jobs that end with an event."""
    if message["event"] == "worker_ended":
        return message["jobs"]
    return [message["job"]] if message["event"] in ("job_done", "job_failed") else []
