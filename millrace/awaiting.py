"""Awaiting: the look at a Redis before anything is trusted to it, which waits for one that isn't there yet."""

from __future__ import annotations

import threading
import time

import structlog

from millrace.server import without_secrets
from millrace_pipeline.errors import ConfigError, QueueUnavailable
from millrace_pipeline.redis.preflight import preflight

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 10.0
LOOK_SECONDS = 0.5


def await_redis(url: str, seconds: float, stopping: threading.Event | None = None) -> bool:
    """Look at the Redis, and return True once it will do, or False where `stopping` was set before.

    Raises ConfigError where it is not usable, and QueueUnavailable where it has not answered for so many seconds. An
    outage later on is waited out, however long.
    """
    pause, since, told = stopping or threading.Event(), time.monotonic(), -AGAIN_SECONDS
    while True:
        findings = preflight(url)
        for finding in findings:
            if finding.level == "error" and finding.lasting:
                raise ConfigError(f"Redis is not usable: {finding.message.rstrip('.')}. {finding.mend}")
        missing = next((finding for finding in findings if finding.level == "error"), None)
        if missing is None:
            break
        waited = time.monotonic() - since
        if pause.is_set():
            return False
        if waited >= seconds:
            raise QueueUnavailable(
                f"no Redis at {without_secrets(url)} for {waited:.0f} s: {missing.message.rstrip('.')}. {missing.mend}"
            )
        if waited - told >= AGAIN_SECONDS:
            told = waited
            reason = f"still no Redis at {without_secrets(url)} ({waited:.0f} s)" if waited > 1 else missing.message
            log.warning("redis_unavailable", reason=reason, mend=missing.mend)
        pause.wait(LOOK_SECONDS)
    for finding in findings:
        if finding.level not in ("ok", "unknown"):
            log.warning("redis_preflight", finding=finding.message, mend=finding.mend)
    return True
