"""What Millrace logs in a process of Scrapy's."""

from __future__ import annotations

import structlog


def log_as_scrapy_does() -> None:
    """Send what Millrace logs the way of Scrapy's own log; by itself structlog would print to standard output."""
    if not structlog.is_configured():
        structlog.configure(
            processors=[
                structlog.processors.format_exc_info,
                structlog.processors.KeyValueRenderer(key_order=["event"]),
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )
