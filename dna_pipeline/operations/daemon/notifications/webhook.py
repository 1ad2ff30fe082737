"""The request of a webhook, with one limit for all of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from dna_pipeline.operations.daemon.notifications.messages import plain
from dna_pipeline.operations.daemon.notifications.outcome import PROBLEM_CHARS, Outcome


def post(url: str, content: bytes, headers: dict[str, str], limit_s: float) -> Outcome:
    """Send a body. Success is an answer from 200 to 299; redirects are not followed.

    The text of a problem never names the address, which may be a secret.
    """
    import httpx2

    try:
        return asyncio.run(asyncio.wait_for(_post(url, content, headers, limit_s), limit_s))
    except TimeoutError:
        return Outcome(f"it did not answer within {limit_s:g} s")
    except httpx2.TimeoutException:
        return Outcome(f"it did not answer within {limit_s:g} s")
    except httpx2.TransportError as error:
        return Outcome(f"it cannot be reached: {_words(error, url)}")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        return Outcome(f"the request cannot be made: {type(error).__name__}")


async def _post(url: str, content: bytes, headers: dict[str, str], limit_s: float) -> Outcome:
    import httpx2

    # The answer's text is not read: it may be endless, and only its status counts.
    async with (
        httpx2.AsyncClient(timeout=limit_s, follow_redirects=False) as client,
        client.stream("POST", url, content=content, headers=headers) as response,
    ):
        return _outcome(response.status_code, response.headers.get("retry-after"))


def _outcome(status: int, retry_after: str | None) -> Outcome:
    if 200 <= status < 300:
        return Outcome()
    try:
        words = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        words = str(status)
    if status == HTTPStatus.GONE:
        return Outcome(f"it answered {words}: it wants no more messages", is_gone=True)
    if 300 <= status < 400:
        words += "; redirects are not followed, so set the address that it leads to"
    return Outcome(f"it answered {words}", retry_after_s(retry_after, datetime.now(UTC)))


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Read the header `Retry-After`, seconds or a date; None if it is missing or says nothing."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value.strip()[:12])
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max((at - now).total_seconds(), 0.0)


def _words(error: Exception, url: str) -> str:
    """Give the text of an error without the address and its parts."""
    text = str(error).replace(url, "its address")
    return plain(text or type(error).__name__, PROBLEM_CHARS)
