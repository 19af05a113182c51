"""Options of the kafka source, and what they say of a reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from millrace_pipeline.kafkacluster import ClusterOptions
from millrace_producer.sources.base import Source
from millrace_producer.sources.recordoptions import MessageOptions


class KafkaOptions(ClusterOptions, MessageOptions, Source):
    """Which cluster, which topics of it, and how to read them."""

    about: ClassVar[str] = "other queues"
    acknowledges_data: ClassVar[bool] = False
    ours: ClassVar[Mapping[str, str | None]] = {
        "auto.offset.reset": "start",
        "bootstrap.servers": "brokers",
        "enable.auto.commit": None,
        "enable.auto.offset.store": None,
        "enable.partition.eof": "until_empty",
        "group.id": "group",
        "metadata.broker.list": "brokers",
    }

    topics: list[Annotated[str, Field(min_length=1)]] = Field(
        min_length=1, description="The topics to read. With `group`, one that begins with ^ is a pattern."
    )
    group: str | None = Field(
        default=None,
        min_length=1,
        description="The consumer group in which producers share the partitions, and which offsets are committed to. "
        "Default: none; one producer reads, the others stand by, and offsets are kept beside the list.",
    )
    partitions: list[Annotated[int, Field(ge=0)]] | None = Field(
        default=None, min_length=1, description="Read only these partitions of each topic. Then one producer reads."
    )
    start: Literal["earliest", "latest"] = Field(
        default="earliest", description="Where to begin in a partition for which no offset is known."
    )
    data: Literal["value", "message"] = Field(
        default="value",
        description="value: a record's data is the message's value. message: an object of topic, partition, offset, "
        "timestamp, key, headers and value.",
    )
    format: Literal["json", "text"] = Field(
        default="json",
        description="json: values are JSON, what is not becomes a dead letter. text: they become JSON strings.",
    )
    until_empty: bool = Field(
        default=False, description="Come to an end when everything there is was read, rather than wait for more."
    )

    @model_validator(mode="after")
    def _patterns_need_a_group(self) -> Self:
        if (self.group is None or self.partitions) and any(topic.startswith("^") for topic in self.topics):
            raise ValueError("a pattern among the topics needs a group, and no partitions")
        return self

    @property
    def exclusive(self) -> bool:  # type: ignore[override]
        """A group shares the partitions among its members; otherwise two producers would both read all."""
        return not self.shares

    @property
    def redelivers(self) -> bool:  # type: ignore[override]
        """What is committed after it was published may come again between the two."""
        return self.group is not None

    @property
    def shares(self) -> bool:
        """Whether the cluster deals out the partitions."""
        return self.group is not None and self.partitions is None
