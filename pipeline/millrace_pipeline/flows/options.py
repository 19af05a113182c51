"""Options of a flow's own parts: its list, its batches, what it does about doubles and dead letters."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.units import Duration, Share, Size


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class QueueOptions(Options):
    """The Redis list of the flow."""

    key: str = Field(
        min_length=1,
        max_length=200,
        description="The list's name, as in `redis-cli LLEN <key>`. Default: `millrace:<flow>`.",
    )
    max_ready: int = Field(
        1_000_000, ge=1, description="Producers hold back while so many records are ready or in flight."
    )
    replicas: int = Field(
        0, ge=0, le=100, description="So many replicas of Redis must hold what is published or taken before it counts."
    )

    fsync: Literal["off", "acknowledge", "write"] = Field(
        "acknowledge",
        description="What waits until Redis says that it is on its disk: nothing (off); telling a source that forgets "
        "what it gave, such as sqs, that it is published (acknowledge); that, and writing a batch to the sink (write).",
    )

    partitions: int = Field(
        1,
        ge=1,
        le=256,
        description="So many lists for one flow, which lie evenly over the nodes of a Redis Cluster. For sources whose "
        "positions have an order.",
    )
    by: str | None = Field(
        None,
        min_length=1,
        description="JSON pointer (/meta/domain) to what says which of the partitions a record goes to. Default: the "
        "record's key.",
    )
    in_order: bool = Field(
        False,
        description="One batch of a list is with a consumer at a time, the oldest first: the sink gets what is on the "
        "list in its order, whatever dies. Costs what batches that are written side by side gain.",
    )

    @property
    def list_name(self) -> str:
        """The name of the flow's one list. Raises ConfigError where it has partitions: then each has a list."""
        if self.partitions > 1:
            raise ConfigError(
                f"{self.key} is kept in {self.partitions} partitions, and this works on one list. Name a partition: "
                f"the flow's name with .0 … .{self.partitions - 1} behind it"
            )
        return self.key

    @field_validator("by")
    @classmethod
    def _by_is_a_pointer(cls, by: str | None) -> str | None:
        return _pointer(by)

    @model_validator(mode="after")
    def _partitions_fit(self) -> QueueOptions:
        if self.by is not None and self.partitions == 1:
            raise ValueError("`by` says which partition a record goes to: add `partitions: 8`, or leave it out")
        if self.partitions > 1 and "{" in self.key:
            raise ValueError("a list with partitions has a hash tag of its own in each: expected a key without braces")
        return self

    @field_validator("key")
    @classmethod
    def _key_is_one_word(cls, key: str) -> str:
        if not key.isprintable() or " " in key:
            raise ValueError("expected a name without spaces and control characters")
        if not re.fullmatch(r"[^{}]*(\{[^{}]+\}[^{}]*)?", key):
            raise ValueError("expected a name without braces, or with one Redis hash tag such as {name}")
        return key


class PublishOptions(Options):
    """How a producer batches what its source yields: at so many records, or after the linger, whichever comes first."""

    records: int = Field(500, ge=1, le=100_000, description="At most so many records at once.")
    linger: Duration = Field(0.1, description="How long the oldest may wait for more.")


class DedupeOptions(Options):
    """Leaves out records whose key was published before."""

    window: Annotated[Duration, Field(gt=0)] = Field(description="For how long a key is remembered.")
    key: str | None = Field(
        None, min_length=1, description="JSON pointer (/meta/id) to the key in the data. Default: the record's own key."
    )

    @field_validator("key")
    @classmethod
    def _key_is_a_pointer(cls, key: str | None) -> str | None:
        return _pointer(key)


class BatchOptions(Options):
    """How a consumer batches what it takes: at so many records or bytes, or after the linger, whichever comes first."""

    records: int = Field(500, ge=1, le=1_000_000, description="At most so many records.")
    bytes: Size = Field(32 * 1024 * 1024, ge=1, description="About so many bytes of envelopes.")
    encoded: Annotated[Size, Field(ge=1)] | None = Field(
        None, description="About so many bytes as the sink writes them, compressed and all, learnt as it goes."
    )
    linger: Duration = Field(1.0, description="How long a batch that isn't full may wait for more.")


class DeadOptions(Options):
    """How many dead letters are too many."""

    fail_above: Share | None = Field(
        None,
        description="A run of which a larger share of the records becomes dead letters ends with exit code 3: `1%`, or "
        "0 for none at all.",
    )


class TracesOptions(Options):
    """Spans of what is published and delivered, for OpenTelemetry."""

    sample: Share | None = Field(
        None,
        description="So many of the publishes are traced, with all that becomes of their records: `1%`, or 0 for none. "
        "Default: what OTEL_TRACES_SAMPLER says, else all.",
    )
    endpoint: str | None = Field(
        None,
        description="The URL of a receiver of OTLP/HTTP. Default: what OTEL_EXPORTER_OTLP_ENDPOINT says, else "
        "http://localhost:4318.",
    )

    @field_validator("endpoint")
    @classmethod
    def _a_url(cls, endpoint: str | None) -> str | None:
        from millrace_pipeline.web import checked_url  # what speaks HTTP is imported where somebody wants it

        return None if endpoint is None else checked_url(endpoint, "http://localhost:4318")


def _pointer(text: str | None) -> str | None:
    if text and re.search(r"~(?![01])", text):
        raise ValueError("expected a JSON pointer such as /meta/id, in which ~ is written ~0")
    return text
