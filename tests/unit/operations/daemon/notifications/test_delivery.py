"""One receiver: order, retries, restarts, and what is dropped. The clock is that of the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.config.receivers import ReceiverConfig
from dna_pipeline.ledger import receivers, store
from dna_pipeline.ledger.batches import SHEET_DUE
from dna_pipeline.ledger.report_queries import ReportQueries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.notifications import delivery as module
from dna_pipeline.operations.daemon.notifications.delivery import Delivery
from dna_pipeline.operations.daemon.notifications.messages import Message, MessageWriter
from dna_pipeline.operations.daemon.notifications.outcome import Outcome
from tests.ledgers import lay_out

CONFIG = ReceiverConfig("phone", ("true",), events=("queue.ended",))
AWAY = Outcome("it cannot be reached")


class Stand:
    """A ledger with a receiver, and what was sent to it."""

    def __init__(self, path: Path) -> None:
        lay_out(path)
        self.ledger = Ledger(path)
        self.queries = ReportQueries(path)
        self.now = datetime.now(UTC)
        self.attempts: list[Message] = []
        self.outcomes: list[Outcome] = []
        """Outcomes of the next attempts; those after them succeed."""
        self.configure(CONFIG)
        self.delivery = self.restart()

    def configure(self, config: ReceiverConfig) -> None:
        settings = receivers.Settings(config.fingerprint, config.kinds)
        self.ledger.transact(lambda s: receivers.configure(s, {config.name: settings}))

    def restart(self, config: ReceiverConfig = CONFIG) -> Delivery:
        writer = MessageWriter("led", self.ledger.path.parent)
        self.delivery = Delivery(config, self.ledger, writer, self.send, lambda: self.now)
        return self.delivery

    def send(self, _: ReceiverConfig, message: Message) -> Outcome:
        self.attempts.append(message)
        return self.outcomes.pop(0) if self.outcomes else Outcome()

    def add(self, number: int = 1, kind: str = "queue_ended") -> None:
        data = {"completed": 1, "failed": 0, "cancelled": 0, "waiting": 0}
        for _ in range(number):
            self.ledger.transact(lambda s: store.add_common_event(s, kind, data))

    def step(self) -> float:
        return self.delivery.step(self.queries)

    @property
    def ids(self) -> list[str]:
        return [message.id.removeprefix("msg_led_") for message in self.attempts]

    @property
    def row(self) -> dict[str, Any]:
        row = self.queries.receiver("phone")
        assert row is not None
        return row


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(tmp_path / "ledger.db")
    with closing(stand.queries), closing(stand.ledger):
        yield stand


def test_messages_come_in_order_and_once(stand: Stand):
    stand.add(3)
    assert stand.step() == inf
    assert stand.step() == inf
    assert stand.ids == ["1", "2", "3"]
    assert stand.row["cursor"] == 3


def test_history_before_the_receiver_is_not_sent(stand: Stand):
    stand.add(2)
    stand.configure(ReceiverConfig("other", ("true",)))
    assert stand.queries.receiver("other")["cursor"] == 2  # type: ignore[index]


def test_more_than_a_page_is_sent(stand: Stand, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PAGE", 3)
    stand.add(8)
    stand.step()
    assert len(stand.ids) == 8


def test_events_of_other_kinds_are_passed_over(stand: Stand):
    stand.add(2, "hold_begun")
    stand.add()
    stand.step()
    assert stand.ids == ["3"]


def test_a_failure_is_tried_again_with_the_same_id(stand: Stand):
    stand.add(2)
    stand.outcomes = [AWAY, AWAY]
    assert 4.5 <= stand.step() <= 5.5
    assert stand.step() > 0
    assert stand.ids == ["1"]  # not yet due
    stand.now += timedelta(seconds=6)
    assert 270 <= stand.step() <= 330
    stand.now += timedelta(seconds=331)
    assert stand.step() == inf
    assert stand.ids == ["1", "1", "1", "2"]
    assert (stand.row["failures"], stand.row["problem"], stand.row["cursor"]) == (0, None, 2)


def test_status_says_since_when_and_why(stand: Stand):
    stand.add(2)
    stand.outcomes = [AWAY]
    stand.step()
    (row,) = stand.queries.receivers()
    assert (row["behind"], row["failures"], row["problem"]) == (2, 1, AWAY.problem)
    assert row["behind_since"] == stand.now


def test_retry_after_is_heeded(stand: Stand):
    stand.add()
    stand.outcomes = [Outcome("it answered 429", 1200.0)]
    assert stand.step() == 1200


def test_the_wait_survives_a_restart(stand: Stand):
    stand.add()
    stand.outcomes = [AWAY]
    stand.step()
    stand.restart()
    assert stand.step() > 0
    assert stand.ids == ["1"]
    stand.now += timedelta(seconds=6)
    stand.step()
    assert stand.ids == ["1", "1"]


def test_a_kill_before_the_commit_sends_again(stand: Stand, monkeypatch: pytest.MonkeyPatch):
    stand.add(2)
    with monkeypatch.context() as patched:
        patched.setattr(stand.delivery, "_record", lambda: None)
        stand.step()
    stand.restart()
    stand.step()
    assert stand.ids == ["1", "2", "1", "2"]


def test_gone_ends_the_receiver_until_its_settings_change(stand: Stand):
    stand.add(2)
    stand.outcomes = [Outcome("it answered 410 Gone", is_gone=True)]
    assert stand.step() == inf
    stand.restart()
    assert stand.step() == inf
    assert stand.ids == ["1"]
    stand.configure(CONFIG)
    assert stand.row["state"] == "ended"
    stand.configure(ReceiverConfig("phone", ("false",), events=CONFIG.events))
    assert (stand.row["state"], stand.row["cursor"]) == ("active", 2)


def test_kinds_that_are_added_begin_with_the_edit(stand: Stand):
    stand.add(3, "completed")
    assert stand.step() == inf
    assert stand.row["cursor"] == 0  # not recorded yet, since nothing was sent
    wider = ReceiverConfig("phone", ("true",), events=("queue.ended", "job.completed"))
    stand.configure(wider)
    stand.restart(wider)
    stand.add(1, "completed")
    stand.step()
    assert stand.ids == ["4"]


def test_a_message_that_waits_stays_when_kinds_change(stand: Stand):
    stand.add(2, "completed")
    stand.add()
    stand.outcomes = [AWAY]
    stand.step()
    stand.configure(ReceiverConfig("phone", ("true",), events=("queue.ended", "job.completed")))
    assert stand.row["cursor"] == 2


def test_changed_settings_are_tried_at_once(stand: Stand):
    stand.add()
    stand.outcomes = [AWAY]
    stand.step()
    stand.configure(ReceiverConfig("phone", ("false",), events=CONFIG.events))
    stand.restart()
    assert stand.step() == inf
    assert stand.ids == ["1", "1"]


def test_old_messages_are_dropped_and_that_is_said(stand: Stand):
    stand.add(3)
    stand.add(1, "hold_begun")
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert stand.ledger.transact(lambda s: receivers.drop_old(s, later)) == {"phone": 3}
    assert stand.ledger.transact(lambda s: receivers.drop_old(s, later)) == {}
    stand.add()
    stand.outcomes = [AWAY]
    stand.step()
    stand.now += timedelta(seconds=6)
    stand.step()
    assert stand.ids == ["dropped_4", "dropped_4", "5"]
    assert stand.attempts[0].data == {"dropped": 3}
    assert stand.row["dropped"] == 0


@pytest.mark.parametrize(("state", "kept"), [("active", 2), ("ended", 0)])
def test_old_events_wait_for_a_receiver_that_is_active(stand: Stand, state: str, kept: int):
    stand.add(4)
    last = AWAY if state == "active" else Outcome("it answered 410 Gone", is_gone=True)
    stand.outcomes = [Outcome(), Outcome(), last]
    stand.step()
    later = datetime.now(UTC) + timedelta(seconds=1)
    needed = stand.ledger.transact(receivers.needed_after)
    stand.ledger.transact(lambda s: store.prune_events(s, later, 0, needed))
    assert len(stand.queries.events(None)) == kept


def test_the_message_of_a_failure_waits_for_its_folder(stand: Stand):
    stand.add()
    event = stand.queries.events_with_jobs(("queue_ended",), 0, 1)[0]
    event |= {"publish": "pending", "at": stand.now}
    assert stand.delivery._deliver(event, 0) == 1.0
    stand.now += timedelta(seconds=11)
    assert stand.delivery._deliver(event, 0) == 0.0


def test_the_message_of_a_batch_waits_for_its_contact_sheet(stand: Stand):
    stand.add()
    event = stand.queries.events_with_jobs(("queue_ended",), 0, 1)[0]
    assert event["sheet"] is None
    event |= {"sheet": SHEET_DUE, "at": stand.now}
    assert stand.delivery._deliver(event, 0) == 1.0
    assert stand.delivery._deliver(event | {"sheet": "made"}, 0) == 0.0
    stand.now += timedelta(seconds=31)
    assert stand.delivery._deliver(event, 0) == 0.0


def test_a_thread_sends_by_itself_and_ends(stand: Stand):
    stand.delivery.start()
    stand.add(2)
    stand.delivery.wake()
    until = datetime.now(UTC) + timedelta(seconds=20)
    while len(stand.attempts) < 2 and datetime.now(UTC) < until:
        stand.delivery.thread.join(0.02)
    stand.delivery.stop()
    stand.delivery.thread.join(20)
    assert stand.ids == ["1", "2"]
    assert not stand.delivery.thread.is_alive()
