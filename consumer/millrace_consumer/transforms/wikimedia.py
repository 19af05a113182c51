"""What Wikimedia's event streams ask of everybody who reads them."""

from __future__ import annotations

from typing import Any

from millrace_pipeline.pointer import resolve


def drop_canaries(record: Any) -> Any:
    """Leave out the canary events that Wikimedia injects to watch its streams (`meta.domain` is "canary").

    https://wikitech.wikimedia.org/wiki/Data_Platform/Systems/Event_Platform/EventStreams_HTTP_Service#Canary_Events
    """
    return None if resolve("/meta/domain", record) == "canary" else record
