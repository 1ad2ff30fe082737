"""Takeover of an edited pipeline.yaml by the daemon that runs.

| keys | taken over |
|---|---|
| `notify`, `metrics`, `serve` | at once |
| `runtime`, `retention`, `c2pa`, `models`, `pipelines`, `inboxes` | between two jobs |
| `metadata`, `reuse` | between two jobs |
| `paths` | by a restart |

Between two jobs, all parts but the ledger begin anew under the lock that the daemon holds. The
worker stays, with its models, if its own settings are equal. An edit that changes `paths` is left
for a restart as a whole: half of it might not fit the old paths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from dna_pipeline.base.errors import ConfigError, Locked
from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.config.schema import Config

log = structlog.get_logger()

AT_ONCE = frozenset({"notify", "metrics", "serve"})
BY_RESTART = frozenset({"paths.data", "paths.outbox"})

HOLD_BACK_S = 10.0
"""Time for which the next job waits for the takeover; after that, it comes before it."""

WHY_CHARS = 2000


@dataclass(frozen=True, slots=True)
class ConfigState:
    """The state of pipeline.yaml, as `status` shows it.

    Attributes:
        file: its path.
        taken_over_at: time of the last takeover; None if there was none since the start.
        problem: the reason why the file of now is not taken over; the one before goes on.
        pending: what the takeover of a valid file waits for.
    """

    file: str
    taken_over_at: str | None = None
    problem: str | None = None
    pending: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "file": self.file, "taken_over_at": self.taken_over_at, "problem": self.problem,
            "pending": self.pending,
        }  # fmt: skip


def changed_keys(old: Config, new: Config) -> list[str]:
    """Name the keys of pipeline.yaml whose values differ, in order."""
    values = (
        ("paths.data", old.data, new.data),
        ("paths.outbox", old.outbox, new.outbox),
        ("runtime", old.runtime, new.runtime),
        ("retention", old.retention, new.retention),
        ("c2pa", old.signing, new.signing),
        ("models", _models(old), _models(new)),
        ("pipelines", dict(old.pipelines), dict(new.pipelines)),
        ("inboxes", old.inboxes, new.inboxes),
        ("notify", old.receivers, new.receivers),
        ("metrics", old.metrics, new.metrics),
        ("serve", old.serve, new.serve),
    )
    return [name for name, before, after in values if before != after]


def _models(config: Config) -> object:
    return dict(config.models.declared), config.models.folder


class ConfigSource(Protocol):
    """The watch of the file: `config_watch.py: ConfigWatch`."""

    problem: str

    def take(self) -> Config | None: ...


class Parts(Protocol):
    """The parts of the daemon that a takeover changes."""

    config: Config

    def is_computing(self) -> bool:
        """True while a job or a task is at the worker."""
        ...

    def has_published(self) -> bool:
        """True if no result is being published."""
        ...

    def end_intake(self) -> bool:
        """Have intake end after its step; True if it has ended."""
        ...

    def resume_intake(self) -> None:
        """Have intake go on, since nothing is taken over after all."""
        ...

    def report_by(self, config: Config) -> None:
        """Take over receivers and metrics."""
        ...

    def replace(self, config: Config) -> bool:
        """Begin all parts anew; True if the worker was kept. Raises `Locked`, before anything was
        changed, if another daemon holds an inbox."""
        ...


class Takeover:
    """Takes over edited files.

    Args:
        record: records an event with its data in the ledger.

    Attributes:
        holds_back: True if no further job should be started now.
    """

    def __init__(
        self,
        source: ConfigSource,
        parts: Parts,
        record: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._source = source
        self._parts = parts
        self._record = record
        self._state = ConfigState(str(parts.config.file))
        self._next: Config | None = None
        self._unfinished: Config | None = None
        """A file that is looked at again, since the ledger failed meanwhile."""
        self._refused = ""
        self._idle_since: float | None = None
        self.holds_back = False

    @property
    def state(self) -> ConfigState:
        return self._state

    def step(self, now: float) -> None:
        """Look at what the watch has found, and take it over if that is possible now."""
        if self._source.problem != self._refused:
            self._note_problem(self._source.problem)
        if (config := self._source.take() or self._unfinished) is not None:
            self._unfinished = config
            self._begin(config)
            self._unfinished = None
        if self._next is not None:
            self._try(self._next, now)

    def _note_problem(self, problem: str) -> None:
        self._refused = problem
        self._set(problem=problem or None)
        if problem:
            self._drop_next()
            log.error("config.refused", why=problem)
            self._record("config_refused", {"why": problem[:WHY_CHARS]})

    def _begin(self, config: Config) -> None:
        """Decide when a valid file is taken over."""
        self._drop_next()
        changed = changed_keys(self._parts.config, config)
        self._set(problem=None)
        if not changed:
            return
        if restart := [key for key in changed if key in BY_RESTART]:
            why = f"{' and '.join(restart)} changed: restart the daemon to take over the edit"
            log.warning("config.needs_restart", changed=changed, why=why)
            self._set(pending=why)
            self._record("config_changed", {"changed": changed, "needs_restart": True})
        elif AT_ONCE.issuperset(changed):
            self._parts.report_by(config)
            self._note_done(changed)
        else:
            self._next = config
            what = "the running job, or the loading of models, has ended"
            log.info("config.pending", changed=changed)
            self._set(pending=f"{', '.join(changed)}: taken over when {what}")

    def _drop_next(self) -> None:
        self._next, self._idle_since, self.holds_back = None, None, False
        self._set(pending=None)
        self._parts.resume_intake()

    def _try(self, config: Config, now: float) -> None:
        if self._parts.is_computing():
            self._idle_since, self.holds_back = None, True
            self._parts.resume_intake()
            return
        if self._idle_since is None:
            self._idle_since = now
        # A folder that does not answer may keep intake or publishing for hours; jobs go on then.
        self.holds_back = now - self._idle_since < HOLD_BACK_S
        if not self._parts.has_published():
            self._parts.resume_intake()
        elif self._parts.end_intake():
            self._replace(config)

    def _replace(self, config: Config) -> None:
        changed = changed_keys(self._parts.config, config)
        try:
            is_kept = self._parts.replace(config)
        except (Locked, ConfigError) as error:
            self._drop_next()
            self._set(problem=str(error))
            log.error("config.refused", why=str(error))
            self._record("config_refused", {"why": str(error)[:WHY_CHARS]})
            return
        self._next, self._idle_since, self.holds_back = None, None, False
        self._note_done(changed, worker_kept=is_kept)

    def _note_done(self, changed: list[str], **facts: bool) -> None:
        self._set(taken_over_at=format_time(utcnow()), pending=None, problem=None)
        log.info("config.taken_over", changed=changed, **facts)
        self._record("config_changed", {"changed": changed, **facts})

    def _set(self, **values: str | None) -> None:
        self._state = replace(self._state, **values)
