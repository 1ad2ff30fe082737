"""The hours of the day in which an inbox's jobs may run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

from dna_pipeline.config.sentences import closest, shown

_HOURS = re.compile(r"([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})(?:\s+(\S.*))?")


@dataclass(frozen=True, slots=True)
class Hours:
    """From `start` until just before `end`; over midnight where `end` is first.

    Attributes:
        zone: whose clock counts; None for the machine's own.
    """

    start: time
    end: time
    zone: ZoneInfo | None = None

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Read `22:00-06:00` or `22:00-06:00 Europe/Berlin`; 24:00 is midnight.

        Raises:
            ValueError: it is none, or there is no such zone.
        """
        if (found := _HOURS.fullmatch(text.strip())) is None:
            raise ValueError('should be two times like "22:00-06:00"')
        from_hour, from_minute, to_hour, to_minute = map(int, found.groups()[:4])
        try:
            start, end = _time(from_hour, from_minute), _time(to_hour, to_minute)
        except ValueError:
            raise ValueError("should be two times from 00:00 to 24:00") from None
        if start == end:
            raise ValueError("should be two different times")
        return cls(start, end, _zone(found[5]) if found[5] else None)

    def contain(self, now: datetime) -> bool:
        """Whether an aware time lies within, by the clock on the wall.

        Only the wall's time of day is compared, so the hours are right on the days on which the
        clock is put forward or back, too.
        """
        wall = now.astimezone(self.zone).time()
        if self.start < self.end:
            return self.start <= wall < self.end
        return wall >= self.start or wall < self.end

    def begin_after(self, now: datetime) -> datetime:
        """The next time at which the hours begin, as an aware time."""
        today = now.astimezone(self.zone).date()
        for days in range(3):  # an hour that the clock skips may put the first one into the past
            wall = datetime.combine(today + timedelta(days=days), self.start)
            begin = wall.replace(tzinfo=self.zone) if self.zone else wall.astimezone()
            if begin.astimezone(UTC) > now:
                return begin
        raise AssertionError("hours begin each day")

    def __str__(self) -> str:
        times = f"{self.start:%H:%M}-{self.end:%H:%M}"
        return f"{times} {self.zone}" if self.zone else times


def _time(hour: int, minute: int) -> time:
    return time(0, 0) if (hour, minute) == (24, 0) else time(hour, minute)


def _zone(name: str) -> ZoneInfo:
    """The zone of that name; `New York` is told that it is America/New_York. Raises ValueError."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: the name of a folder, such as Europe
        known = available_timezones()
    if not known:
        raise ValueError("this machine has no list of time zones; `pip install tzdata` brings one")
    near = closest(name.replace(" ", "_"), sorted(known))
    advice = f"did you mean {near!r}?" if near else "they are called like Europe/Berlin"
    raise ValueError(f"no time zone is called {shown(name)}; {advice}")
