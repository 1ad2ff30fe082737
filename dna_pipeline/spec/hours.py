"""The hours of the day in which an inbox's jobs may run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time

_HOURS = re.compile(r"([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})")


@dataclass(frozen=True, slots=True)
class Hours:
    """From `start` until just before `end` on the local clock; over midnight where end is first."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Read `22:00-06:00`; 24:00 is midnight. Raises ValueError."""
        if (found := _HOURS.fullmatch(text.strip())) is None:
            raise ValueError('should be two times like "22:00-06:00"')
        from_hour, from_minute, to_hour, to_minute = map(int, found.groups())
        try:
            hours = cls(_time(from_hour, from_minute), _time(to_hour, to_minute))
        except ValueError:
            raise ValueError("should be two times from 00:00 to 24:00") from None
        if hours.start == hours.end:
            raise ValueError("should be two different times")
        return hours

    def contain(self, now: datetime) -> bool:
        """Whether an aware time lies within, by the clock on the local wall.

        Only the wall's time of day is compared, so the hours are right on the days on which the
        clock is put forward or back, too.
        """
        wall = now.astimezone().time()
        if self.start < self.end:
            return self.start <= wall < self.end
        return wall >= self.start or wall < self.end

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


def _time(hour: int, minute: int) -> time:
    return time(0, 0) if (hour, minute) == (24, 0) else time(hour, minute)
