"""Item fields: where in a Scrapy item are what names its record, and when it happened."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self, get_args

import msgspec

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.jsontext import decode_json
from millrace_pipeline.moment import TimeUnit
from millrace_pipeline.pointer import resolve_alike
from millrace_producer.keys import CONTENT, key_of
from millrace_producer.times import time_of


class ItemFields(msgspec.Struct, frozen=True):
    """Where in an item its record's key and time are.

    `key` and `time` are JSON pointers into the item (`/id`), or top-level fields. `key` may be `content` for a hash of
    the whole item, and None for no key.
    """

    key: str | None = CONTENT
    time: str | None = None
    time_unit: TimeUnit = "auto"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Return what a project's settings say. Raises ConfigError, which names the setting."""
        unit: Any = settings.get("MILLRACE_RECORD_TIME_UNIT") or "auto"
        if unit not in get_args(TimeUnit):
            raise ConfigError(f"MILLRACE_RECORD_TIME_UNIT: expected {', '.join(get_args(TimeUnit))}, not {unit!r}")
        return cls(
            settings.get("MILLRACE_RECORD_KEY", CONTENT) or None, settings.get("MILLRACE_RECORD_TIME") or None, unit
        )

    def settings(self) -> dict[str, Any]:
        """Return the settings that say this."""
        return {
            "MILLRACE_RECORD_KEY": self.key or "",
            "MILLRACE_RECORD_TIME": self.time or "",
            "MILLRACE_RECORD_TIME_UNIT": self.time_unit,
        }

    def names(self, text: bytes) -> tuple[str | None, datetime | None]:
        """Return the key and the time in an item's JSON text. One that isn't found is said, once, and counted."""
        key = key_of(self.key, text)
        if self.time is None:
            return key, None
        return key, time_of(self.time, resolve_alike(self.time, decode_json(text)), self.time_unit)
