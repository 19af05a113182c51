"""What a source and a sink that speak HTTP both need: what a server says of waiting, and words without secrets."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3

LONGEST_RETRY_AFTER = 86_400.0


def shown(url: str) -> str:
    """The URL without what may be secret: no user, password, query or fragment."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "(not a URL)"


def status_text(code: int) -> str:
    """`404 Not Found`."""
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


def retry_after(value: str | None) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110 10.2.3: seconds or a date), at most a day; None without one."""
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:10]), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_RETRY_AFTER)


def why_no_answer(error: BaseException, *, connect_timeout: float, read_timeout: float) -> str:
    """Why a request failed, in words of ours: the text of an exception of `requests` holds the URL."""
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {connect_timeout:g} s"
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return f"silent for {read_timeout:g} s"
    reason = type(error).__name__
    cause: Any = error
    for _ in range(10):
        if cause is None:
            break
        if isinstance(cause, OSError) and cause.strerror:
            reason = cause.strerror
        cause = cause.__cause__ or cause.__context__
    return reason


def keep_urls_out_of_logs() -> None:
    """urllib3 writes whole URLs, secrets included, at debug and (for a malformed header) at warning level."""
    for name in ("urllib3.connection", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)
