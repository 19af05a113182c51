"""Options of the sqs source."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from millrace_pipeline.flows.units import Duration
from millrace_pipeline.sqsaddress import SqsAddress
from millrace_producer.sources.base import Source
from millrace_producer.sources.recordoptions import MessageOptions


class SqsOptions(SqsAddress, MessageOptions, Source):
    """Which queue, whose credentials, and how to receive from it."""

    about: ClassVar[str] = "other queues"
    redelivers: ClassVar[bool] = True
    acknowledges_data: ClassVar[bool] = False

    wait: Annotated[Duration, Field(ge=1, le=20)] = Field(
        default=20, description="How long one request may wait for messages."
    )
    visibility: Annotated[Duration, Field(ge=1, le=43_200)] = Field(
        default=60,
        description="How long messages stay hidden from others once we are silent; extended while we hold them.",
    )
    data: Literal["body", "message"] = Field(
        default="body",
        description="body: a record's data is the message's body. message: an object of id, sent, received, group, "
        "attributes and body.",
    )
    format: Literal["json", "text"] = Field(
        default="json",
        description="json: bodies are JSON, what is not becomes a dead letter. text: they become JSON strings.",
    )
    until_empty: bool = Field(
        default=False, description="Come to an end when no message comes within `wait`, rather than ask again."
    )
    timeout: Annotated[Duration, Field(gt=0, le=600)] = Field(
        default=10, description="How long to wait for a connection, or for an answer beyond `wait`."
    )

    @field_validator("wait", "visibility")
    @classmethod
    def _whole_seconds(cls, seconds: float) -> float:
        if seconds != int(seconds):
            raise ValueError("SQS counts whole seconds")
        return seconds
