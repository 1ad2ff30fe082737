"""All receivers of the daemon, each with its own delivery."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from dna_pipeline.base.reachability import Look, look_directly
from dna_pipeline.config.receivers import ReceiverConfig
from dna_pipeline.ledger import receivers
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.notifications.delivery import Delivery
from dna_pipeline.operations.daemon.notifications.messages import MessageWriter
from dna_pipeline.operations.daemon.notifications.sending import Send, send

CLOSE_S = 0.5
"""Time that deliveries get to end with the daemon. What they were sending is sent again."""

FINISH_LOOK_S = 0.05


class Notifier:
    """Delivers messages to the receivers of pipeline.yaml while the daemon runs."""

    def __init__(
        self, ledger: Ledger, outbox: Path, look: Look = look_directly, send: Send = send
    ) -> None:
        self._ledger = ledger
        self._writer = MessageWriter(ledger.id, outbox, look)
        self._send = send
        self._deliveries: dict[str, Delivery] = {}
        self._ended: list[Delivery] = []

    def configure(self, wanted_receivers: Iterable[ReceiverConfig]) -> None:
        """Take over the receivers; those that are as before go on undisturbed."""
        chosen = {receiver.name: receiver for receiver in wanted_receivers}
        settings = {
            name: receivers.Settings(receiver.fingerprint, receiver.kinds)
            for name, receiver in chosen.items()
        }
        self._ledger.transact(lambda s: receivers.configure(s, settings))
        for name, delivery in list(self._deliveries.items()):
            if chosen.get(name) != delivery.receiver:
                delivery.stop()
                self._ended.append(self._deliveries.pop(name))
        for name, receiver in chosen.items():
            if name not in self._deliveries:
                delivery = Delivery(receiver, self._ledger, self._writer, self._send)
                self._deliveries[name] = delivery
                delivery.start()

    def ledger_changed(self) -> None:
        """Note that there may be messages to send. Returns at once."""
        for delivery in self._deliveries.values():
            delivery.wake()

    def finish(self, limit_s: float) -> None:
        """Wait until all messages are sent that can be now, at most so long."""
        self.ledger_changed()
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            if all(delivery.is_done for delivery in self._deliveries.values()):
                return
            time.sleep(FINISH_LOOK_S)

    def close(self) -> bool:
        """End all deliveries; True if one is still waiting for its receiver."""
        deliveries = [*self._deliveries.values(), *self._ended]
        for delivery in deliveries:
            delivery.stop()
        until = time.monotonic() + CLOSE_S
        for delivery in deliveries:
            delivery.thread.join(max(until - time.monotonic(), 0.0))
        return any(delivery.thread.is_alive() for delivery in deliveries)
