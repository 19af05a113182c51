"""The flows that chaos runs on, and what their sources will have sent: every record is known in advance."""

from __future__ import annotations

import json

from millrace.practice import recentchange
from millrace.practice.quotes import QUOTES

FLOWS = """\
# Made by `millrace chaos`. Short leases, small batches, and so many attempts that no record is taken for a killer of
# consumers because chaos killed them.
flows:
  quotes:
    source:
      type: scrapy
      spider: quotes
      args: {start_url: "${QUOTES_URL:-http://site:8000/}"} # the services of docker-compose.practice.yml
      settings: {AUTOTHROTTLE_ENABLED: false} # on a busy machine it doubles each answer's time, in three crawls in turn
      key: content
    dedupe: {window: 1h, key: /text}
    queue: {key: DATA-PIPELINE-KEY, fsync: write} # as in the shipped flows.yaml, whose lists the stack's users may use
    batch: {records: 20, linger: 0.5s}
    lease: 2s
    max_attempts: 1000
    sink: {type: jsonl, path: "${DATA:-/data}/quotes"}
  wikipedia:
    source:
      type: sse
      url: "${WIKIPEDIA_URL:-http://stream:8000/v2/stream/recentchange}"
      key: /meta/id
      time: /meta/dt
      backoff_max: 2s
    queue: {key: WIKIPEDIA-PIPELINE-KEY, fsync: write}
    transforms: [millrace:drop_canaries]
    batch: {records: 200, linger: 0.5s}
    lease: 2s
    max_attempts: 1000
    sink: {type: jsonl, path: "${DATA:-/data}/wikipedia", partition: [type]}
"""
"""No dedupe on the stream: its positions alone must see to it that no event is published twice."""

NAMES = ("quotes", "wikipedia")


def sent(flow: str, events: int) -> frozenset[str]:
    """The keys of all records that the flow should deliver, the stream's being so many events long."""
    if flow == "quotes":
        return frozenset(f"“{text}”" for text, _, _ in QUOTES)
    made = (json.loads(recentchange.event(0, number, 0))["meta"] for number in range(events))
    return frozenset(meta["id"] for meta in made if meta["domain"] != "canary")
