"""SQS: a queue of Amazon's, or of anything that speaks its protocol."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, field_validator

from millrace_pipeline.extras import need
from millrace_pipeline.flows.units import Duration
from millrace_producer.sources.base import DeadLetter, Position, Record, Source

if TYPE_CHECKING:
    from millrace_producer.sources.sqsqueue import SqsQueue

_REGION = re.compile(r"sqs[.-]([a-z0-9-]+)\.amazonaws\.com(\.cn)?|([a-z0-9-]+)\.queue\.amazonaws\.com(\.cn)?")


class SqsSource(Source):
    """Receives messages from an SQS queue.

    A message is deleted once it is on the list, and hidden from others until then: it may come again, and dedupe, on by
    default, leaves it out. Any number of producers may share a queue. A record's key is the message id, its time when
    the message was sent.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

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
    _queue: list[SqsQueue] = PrivateAttr(default_factory=list)

    @field_validator("url")
    @classmethod
    def _a_queue_of_somebody(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or len(parts.path) < 2 or parts.username:
            raise ValueError("expected a URL such as https://sqs.eu-west-1.amazonaws.com/123456789012/orders")
        return url

    def model_post_init(self, _: Any) -> None:
        """Raises ConfigError where the client library isn't installed."""
        need("boto3", "aws", "source sqs")

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

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:  # noqa: ARG002 - a queue has none
        """See `Source.read`."""
        from millrace_producer.sources.sqsqueue import SqsQueue

        self.close()  # what an earlier reading gave and nobody published is to come again
        queue = SqsQueue(self)
        self._queue.append(queue)
        yield from queue.records()

    def published(self, records: Sequence[Record | DeadLetter]) -> None:
        """Deletes the messages."""
        for queue in self._queue:
            queue.delete(records)

    def close(self) -> None:
        """Lets others have at once what we hold."""
        queues, self._queue[:] = self._queue[:], []
        for queue in queues:
            queue.close()
