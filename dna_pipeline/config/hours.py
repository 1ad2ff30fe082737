"""Hours of the day in which an inbox's jobs may run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

from dna_pipeline.config.sentences import closest, shown

_TEXT = r"([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})(?:\s+(\S.*))?"
_HOURS = re.compile(_TEXT)
HOURS_PATTERN = rf"^\s*{_TEXT}\s*$"
"""Regular expression of the texts that `Hours.parse` may accept, for JSON Schema."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours from `start` until just before `end`; over midnight if `end` is earlier than `start`.

    Attributes:
        zone: time zone of both; None for the machine's own.
    """

    start: time
    end: time
    zone: ZoneInfo | None = None

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Read `22:00-06:00` or `22:00-06:00 Europe/Berlin`; 24:00 is midnight.

        Raises:
            ValueError: the text has another form, or there is no such zone.
        """
        if (match := _HOURS.fullmatch(text.strip())) is None:
            raise ValueError('should be two times like "22:00-06:00"')
        from_hour, from_minute, to_hour, to_minute = map(int, match.groups()[:4])
        try:
            start, end = _time(from_hour, from_minute), _time(to_hour, to_minute)
        except ValueError:
            raise ValueError("should be two times from 00:00 to 24:00") from None
        if start == end:
            raise ValueError("should be two different times")
        return cls(start, end, _zone(match[5]) if match[5] else None)

    def contain(self, now: datetime) -> bool:
        """True if an aware time lies within the hours, by the local clock of `zone`.

        Only the local time of day is compared, so the hours are also right on the days on which
        the clock is put forward or back.
        """
        wall = now.astimezone(self.zone).time()
        if self.start < self.end:
            return self.start <= wall < self.end
        return wall >= self.start or wall < self.end

    def begin_after(self, now: datetime) -> datetime:
        """Next time at which the hours begin, as an aware time."""
        today = now.astimezone(self.zone).date()
        for days in range(3):  # the first may be past if the clock skips the hour of `start`
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
    """The time zone of that name.

    Raises:
        ValueError: there is none; the text for `New York` suggests America/New_York.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: the name of a folder, such as Europe
        zones = available_timezones()
    if not zones:
        raise ValueError("this machine has no list of time zones; `pip install tzdata` brings one")
    near = closest(name.replace(" ", "_"), sorted(zones))
    advice = f"did you mean {near!r}?" if near else "they are called like Europe/Berlin"
    raise ValueError(f"no time zone is called {shown(name)}; {advice}")
