"""Whether a flow has a producer of ours, and what to do where it has none."""

from __future__ import annotations

import shlex

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source


def is_produced(flow: Flow) -> bool:
    """Return False where others push onto the flow's list. Raises ConfigError for a source that isn't there."""
    return not flow.source.find(SOURCES, Source).pushed_by_others


def not_produced(flow: Flow) -> ConfigError:
    """Return the error for who would read a source that there is none of."""
    key = flow.queue.key
    push = f"redis-cli LPUSH {shlex.quote(key)} '{{\"a\": 1}}'"
    return flow.source.error(
        f"there is nothing to produce: others push onto the list {key}, as `{push}` does, or Scrapy by two lines in "
        f"its settings; `millrace run {flow.name}` consumes what they pushed"
    )
