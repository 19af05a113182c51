"""Options of the sqs source, and the client that they make."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator

from millrace_pipeline.extras import Extra
from millrace_pipeline.flows.units import Duration
from millrace_producer.sources.base import Source
from millrace_producer.sources.recordoptions import MessageOptions

_REGION = re.compile(r"sqs[.-]([a-z0-9-]+)\.amazonaws\.com(\.cn)?|([a-z0-9-]+)\.queue\.amazonaws\.com(\.cn)?")


class SqsOptions(MessageOptions, Source):
    """Which queue, whose credentials, and how to receive from it."""

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "other queues"
    extra: ClassVar[Extra | None] = Extra("aws", module="boto3")
    redelivers: ClassVar[bool] = True

    url: str = Field(description="The queue's URL, such as https://sqs.eu-west-1.amazonaws.com/123456789012/orders.")
    region: str | None = Field(
        default=None, description="The queue's region. Default: as its URL says, else as AWS's own tools find it."
    )
    access_key: SecretStr | None = Field(
        default=None, description="Access key id. Default: credentials as AWS's own tools find them."
    )
    secret_key: SecretStr | None = Field(default=None, description="The secret access key that belongs to it.")
    session_token: SecretStr | None = Field(default=None, description="The session token, where they are temporary.")
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

    @field_validator("url")
    @classmethod
    def _a_queue_of_somebody(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or len(parts.path) < 2 or parts.username:
            raise ValueError("expected a URL such as https://sqs.eu-west-1.amazonaws.com/123456789012/orders")
        return url

    def client_options(self) -> dict[str, Any]:
        """What `boto3.client` is to be told."""
        parts = urlsplit(self.url)
        match = _REGION.fullmatch(parts.hostname or "")
        options = {
            "region_name": self.region or (match and (match[1] or match[3])),
            "endpoint_url": None if match else f"{parts.scheme}://{parts.netloc}",
            "aws_access_key_id": self.access_key and self.access_key.get_secret_value(),
            "aws_secret_access_key": self.secret_key and self.secret_key.get_secret_value(),
            "aws_session_token": self.session_token and self.session_token.get_secret_value(),
        }
        return {name: value for name, value in options.items() if value}
