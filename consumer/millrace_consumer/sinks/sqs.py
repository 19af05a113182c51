"""A queue of SQS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, PrivateAttr

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, Sink, SinkUnavailable
from millrace_consumer.sinks.namedfield import NamedField
from millrace_consumer.sinks.taken import Taken
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.units import Duration, Size
from millrace_pipeline.jsontext import encode_json
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.sqsaddress import SqsAddress

ENTRIES = 10
"""As many messages as a request may hold."""

SENDERS = 8
"""So many requests at once to a standard queue, which has no order to keep."""

RECORD_TO_BLAME = frozenset({"InvalidMessageContents", "InvalidParameterValue", "InvalidParameterCombination"})
"""What SQS says of a single message that it will never take."""

_NAME = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,./:;<=>?@\[\\\]^_`{|}~-]{1,128}")
"""What SQS takes as the id of a message or a group."""

_NO_TEXT = {"\ufffe": "\\ufffe", "\uffff": "\\uffff"}
"""What JSON may hold as it is and a message may not, escaped."""


class SqsSink(SqsAddress, Sink):
    """At least once; on a FIFO queue once within SQS' five minutes, by the record's id.

    One message a record, ten to a request. Messages that a request could not place are sent again, and only these.
    """

    about: ClassVar[str] = "on to the next"
    guarantee: ClassVar[str] = "at least once; on a FIFO queue once within five minutes"
    guaranteed_by: ClassVar[str] = "there, the record's id as the deduplication id"

    group: str | None = Field(
        None,
        min_length=1,
        description="Field or JSON pointer of the message's group. Default on a FIFO queue: all are in one.",
    )
    envelope: bool = Field(
        False, description="Send whole CloudEvents envelopes, with id, source, type and time, not only their data."
    )
    max_bytes: Annotated[Size, Field(ge=1024, le=1 << 20)] = Field(
        256 * 1024, description="How large a message, and all of a request together, may be."
    )
    timeout: Annotated[Duration, Field(gt=0, le=600)] = Field(
        10, description="How long to wait for a connection, or for an answer."
    )

    _client: Any = PrivateAttr(None)
    _senders: ThreadPoolExecutor | None = PrivateAttr(None)
    _taken: Taken = PrivateAttr(default_factory=Taken)

    @property
    def fifo(self) -> bool:
        """Whether the queue keeps an order, and drops what it had within five minutes."""
        return self.url.endswith(".fifo")

    def check(self, model: type[BaseModel] | None) -> None:  # noqa: ARG002 - it takes any record
        """Refuses a queue whose region nobody says."""
        try:
            self._connect().close()
        except SinkUnavailable as error:
            raise ConfigError(f"{error}: set `region`") from None

    def probe(self) -> str | None:
        """See `Sink.probe`."""
        client = self._connect()
        try:
            answer = client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["ApproximateNumberOfMessages"])
        finally:
            client.close()
        return f"the queue is there; about {answer['Attributes']['ApproximateNumberOfMessages']} messages wait"

    def write(self, batch: Batch) -> None:
        """Sends what the queue doesn't have of the batch yet."""
        if self._taken.of(batch).has_all(batch):
            return
        entries = self._entries(batch)
        killpoint("sink.before_write")
        left = [index for index, envelope in enumerate(batch.envelopes) if envelope not in self._taken]
        rejected: dict[int, str] = {}
        failure = ""
        for outcome in self._send_all(list(self._requests(entries, left))):
            self._taken.add(batch.envelopes[index] for index in outcome.placed)
            rejected |= outcome.rejected
            failure = failure or outcome.failure
            killpoint("sink.after_request")
            if self.fifo and failure:
                break  # what comes behind must not overtake it
        killpoint("sink.after_write")
        if rejected:
            raise RecordsRejected(rejected)
        if failure:
            raise SinkUnavailable(f"SQS: {failure}")

    def close(self) -> None:
        """Ends the connections."""
        if self._senders is not None:
            self._senders.shutdown(cancel_futures=True)
            self._senders = None
        if self._client is not None:
            self._client.close()
            self._client = None

    def _entries(self, batch: Batch) -> list[dict[str, Any]]:
        """A request's entry for each record. Raises RecordsRejected for those that are too large."""
        lines = batch.envelope_lines if self.envelope else batch.lines
        entries: list[dict[str, Any]] = []
        large: dict[int, str] = {}
        group = None if self.group is None else NamedField("group", self.group)
        for index, (envelope, line) in enumerate(zip(batch.envelopes, lines, strict=True)):
            body = _sendable(line.decode())
            if len(body.encode()) > self.max_bytes:
                reason = f"{len(body.encode()):,} bytes are too many for a message"
                large[index] = f"{reason}: max_bytes is {self.max_bytes:,}"
            entry = {"Id": str(index), "MessageBody": body}
            if self.fifo:
                entry |= {"MessageDeduplicationId": _name(envelope.id), "MessageGroupId": batch.flow or "millrace"}
            if group is not None:
                found = group.of(batch.records[index])
                entry["MessageGroupId"] = _name(found if isinstance(found, str) else encode_json(found).decode())
            entries.append(entry)
        if large:
            raise RecordsRejected(large)
        return entries

    def _requests(self, entries: list[dict[str, Any]], indices: list[int]) -> Iterator[list[dict[str, Any]]]:
        """The entries in order, as many to a request as it may hold."""
        request: list[dict[str, Any]] = []
        size = 0
        for index in indices:
            weight = len(entries[index]["MessageBody"].encode())
            if len(request) == ENTRIES or (request and size + weight > self.max_bytes):
                yield request
                request, size = [], 0
            request.append(entries[index])
            size += weight
        if request:
            yield request

    def _send_all(self, requests: list[list[dict[str, Any]]]) -> Iterator[_Outcome]:
        if self._client is None:
            self._client = self._connect()
        if self.fifo or len(requests) == 1:
            return map(self._send, requests)
        if self._senders is None:
            self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="sqs")
        return self._senders.map(self._send, requests)

    def _send(self, request: list[dict[str, Any]]) -> _Outcome:
        """Raises nothing: what the other requests have placed must be known, whatever becomes of this one."""
        try:
            outcome = _outcome(self._client.send_message_batch(QueueUrl=self.url, Entries=request))
        except Exception as error:  # botocore has no root, and parses an answer that is none with what Python raises
            return _Outcome(failure=f"{type(error).__name__}: {error}")
        told = {*outcome.placed, *outcome.rejected}
        if not outcome.failure and (untold := [entry for entry in request if int(entry["Id"]) not in told]):
            outcome.failure = f"its answer doesn't say what became of {len(untold)} messages: is something in between?"
        return outcome

    def _connect(self) -> Any:
        """A client. Raises SinkUnavailable where AWS's tools find no region, or what they read is damaged."""
        from botocore.exceptions import BotoCoreError

        try:
            return self.client(connect_timeout=self.timeout, read_timeout=self.timeout, max_pool_connections=SENDERS)
        except (BotoCoreError, OSError, ValueError) as error:
            raise SinkUnavailable(f"SQS: {error}") from None


@dataclass
class _Outcome:
    """What became of a request: by the index of its records, which were placed, and which SQS will not have."""

    placed: list[int] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)
    failure: str = ""
    """Why others were not placed, if any weren't."""


def _outcome(answer: dict[str, Any]) -> _Outcome:
    outcome = _Outcome([int(sent["Id"]) for sent in answer.get("Successful", ())])
    for failed in answer.get("Failed", ()):
        reason = failed.get("Message") or failed["Code"]
        if failed["Code"].rpartition(".")[2] in RECORD_TO_BLAME:
            outcome.rejected[int(failed["Id"])] = f"SQS: {reason}"
        else:
            outcome.failure = reason
    return outcome


def _sendable(text: str) -> str:
    for character, escape in _NO_TEXT.items():
        if character in text:
            text = text.replace(character, escape)
    return text


def _name(text: str) -> str:
    """The text if SQS takes it as an id, else a hash of it."""
    return text if _NAME.fullmatch(text) else sha256(text.encode()).hexdigest()
