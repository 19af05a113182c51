"""What a source and a sink that speak HTTP both need: what a server says of waiting, and words without secrets."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3

from millrace_pipeline.deadline import AnswerTooSlow
from millrace_pipeline.moment import read_moment

LONGEST_RETRY_AFTER = 86_400.0

_NOT_NOW = (
    HTTPStatus.ACCEPTED,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
)

_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_A_HEADER = re.compile(r"[\0\r\n]")


def checked_url(url: str, example: str) -> str:
    """The URL, if it is one of http or https. Raises ValueError, in words of ours: others would hold parts of it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"expected a URL such as {example}")
    return url


def checked_headers(headers: dict[str, str]) -> dict[str, str]:
    """The headers, if they can be sent. Raises ValueError naming those that can't or are one, and no value."""
    folded = Counter(map(str.lower, headers))
    if again := [name for name in headers if folded[name.lower()] > 1]:
        raise ValueError(f"{', '.join(again)} are one header, whose names have no case: expected one of them")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError("a header's name can hold only letters, digits and !#$%&'*+.^_`|~-")
        if not sendable(value):
            raise ValueError(f"the value of {name} holds a line break, a NUL, or blanks at an end")
    return headers


def sendable(value: str) -> bool:
    """Whether this can be a header's value."""
    return not _NOT_IN_A_HEADER.search(value) and value == value.strip()


def shown(url: str) -> str:
    """The URL without what may be secret: no user, password, query or fragment."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "(not a URL)"


def as_utf8(header: str) -> str:
    """The value of a header that holds a URL: it comes as Latin-1, and what servers put into it is UTF-8."""
    return header.encode("latin-1", "replace").decode("utf-8", "replace")


def status_text(code: int) -> str:
    """`404 Not Found`."""
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


def retry_after(value: str | None) -> float | None:
    """Seconds to wait as a header says, in whatever form a time or a number of seconds has, at most a day.

    RFC 9110 has whole seconds and a date; servers send fractions, times in ISO 8601, and numbers since 1970 too. None
    without a value, and for what is neither.
    """
    value = (value or "").strip()
    is_number = _DECIMAL.fullmatch(value) is not None
    moment = read_moment(value) if value.isascii() else None
    left = None if moment is None else (moment - datetime.now(UTC)).total_seconds()
    if is_number and (left is None or left < -LONGEST_RETRY_AFTER):  # no time, or one that is long past
        return min(float(value[:300]), LONGEST_RETRY_AFTER)
    return None if left is None or value[0] in "+-" else min(max(left, 0.0), LONGEST_RETRY_AFTER)


def wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, as an answer says: Retry-After, or until its rate limit starts anew if none of it is left."""
    asked = retry_after(headers.get("retry-after"))
    if asked is not None:
        return asked
    left = _of_rate_limit(headers, "remaining", "r")
    return retry_after(_of_rate_limit(headers, "reset", "t")) if left is None or _is_zero(left) else None


def is_not_now(status: int, headers: Mapping[str, str]) -> bool:
    """Whether an answer of this status may be another one later, though nothing changes here."""
    limited = status == HTTPStatus.FORBIDDEN and (
        headers.get("retry-after") or _is_zero(_of_rate_limit(headers, "remaining", "r") or "")
    )
    return status >= 500 or status in _NOT_NOW or bool(limited)


def _of_rate_limit(headers: Mapping[str, str], name: str, letter: str) -> str | None:
    """What an answer says of its rate limit, in a header of its own or, as drafts have it, in one with all the rest."""
    for prefix in ("x-ratelimit-", "x-rate-limit-", "ratelimit-"):
        if found := headers.get(prefix + name):
            return found.strip()
    match = re.search(rf"(?:^|[;,\s])(?:{name}|{letter})=([0-9.]+)", headers.get("ratelimit") or "")
    return match[1] if match else None


def _is_zero(text: str) -> bool:
    return _DECIMAL.fullmatch(text) is not None and float(text) == 0


def why_no_answer(error: BaseException, *, connect_timeout: float, read_timeout: float) -> str:
    """Why a request failed, in words of ours: the text of an exception of `requests` holds the URL."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, AnswerTooSlow):
            return str(cause)
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {connect_timeout:g} s"
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return f"silent for {read_timeout:g} s"
    reason = type(error).__name__
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
    return reason


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was raised from, ten of them at most."""
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def keep_urls_out_of_logs() -> None:
    """urllib3 writes whole URLs, secrets included, at debug and (for a malformed header) at warning level."""
    for name in ("urllib3.connection", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
