"""One reading of an SQS queue: what it received, holds, deletes and gives back."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
)

from millrace_pipeline.errors import RecordError
from millrace_pipeline.jsontext import checked_text, encode_json
from millrace_producer import trouble
from millrace_producer.sources.base import DeadLetter, Record, SourceRefused, SourceUnavailable
from millrace_producer.sources.fields import BYTE_ORDER_MARK
from millrace_producer.sources.held import Held

if TYPE_CHECKING:
    from millrace_producer.sources.sqsoptions import SqsOptions

log = structlog.get_logger(__name__)

BATCH = 10
"""As many messages as a request may be about."""

DELETERS = 8
"""So many requests to delete at once: a publish is of many times ten."""

PASSING = {"Throttling", "ThrottlingException", "RequestThrottled", "RequestTimeout", "ExpiredToken", "KmsThrottled"}
"""What is answered with a status of ours to mend, and mends itself."""


class SqsRecord(Record):
    """A record that knows its message."""

    message: str = ""
    receipt: str = ""


class SqsLetter(DeadLetter):
    """A dead letter that knows its message."""

    message: str = ""
    receipt: str = ""


class SqsQueue:
    """Receives in one thread; `delete` and `close` may be called from others."""

    def __init__(self, source: SqsOptions) -> None:
        self._source = source
        self._fields = source.fields(source.format)
        try:
            self._client: Any = source.client(
                connect_timeout=source.timeout,
                read_timeout=source.timeout + source.wait,
                max_pool_connections=DELETERS + 4,
            )
        except (BotoCoreError, ValueError) as error:
            raise SourceRefused(str(error)) from None
        self._held = Held(self._extend, every=max(0.3, source.visibility / 3))
        self._deleters = ThreadPoolExecutor(DELETERS, thread_name_prefix="delete")
        self._closing = threading.Event()
        self._failure: SourceRefused | SourceUnavailable | None = None

    def records(self) -> Iterator[Record | DeadLetter]:
        """See `Source.read`."""
        waiting: list[dict[str, Any]] = []
        try:
            while not self._closing.is_set():
                waiting = self._receive()
                if self._failure is not None:
                    raise self._failure
                if not waiting and self._source.until_empty:
                    return
                while waiting:
                    yield self._record(waiting.pop(0))
        finally:
            self._give_back(self._held.drop(message["MessageId"] for message in waiting))

    def described(self) -> str:
        """Say how many messages wait, and change nothing. Raises SourceUnavailable, SourceRefused."""
        answer = self._ask("get_queue_attributes", AttributeNames=["ApproximateNumberOfMessages"])
        waiting = answer.get("Attributes", {}).get("ApproximateNumberOfMessages", "an unknown number of")
        return f"about {waiting} messages wait"

    def delete(self, records: Sequence[Record | DeadLetter]) -> None:
        """These are on the list. What goes wrong ends the reading, which a quiet queue would not hear of otherwise."""
        receipts = {record.receipt: record.message for record in records if isinstance(record, SqsRecord | SqsLetter)}
        try:
            if self._closing.is_set():
                raise SourceUnavailable("they were given back meanwhile, and come again")
            for _ in self._deleters.map(self._delete, _batches(receipts)):
                pass
        except (SourceRefused, SourceUnavailable) as error:
            log.warning("sqs_messages_not_deleted", messages=len(receipts), reason=str(error))
            self._failure = error

    def close(self) -> None:
        """Gives back what is held, and was not published."""
        self._closing.set()
        self._held.close()
        self._give_back(self._held.drop_all())
        self._deleters.shutdown(wait=False)

    def _receive(self) -> list[dict[str, Any]]:
        answer = self._ask(
            "receive_message",
            MaxNumberOfMessages=BATCH,
            WaitTimeSeconds=int(self._source.wait),
            VisibilityTimeout=int(self._source.visibility),
            AttributeNames=["All"],  # its younger name is not known everywhere
            MessageAttributeNames=["All"] if self._source.data == "message" else [],
        )
        trouble.over()
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        receipts = {message["MessageId"]: message["ReceiptHandle"] for message in messages}
        self._held.add(receipts)
        if self._closing.is_set():
            self._give_back(self._held.drop(receipts))
            return []
        return messages

    def _record(self, message: dict[str, Any]) -> Record | DeadLetter:
        id, receipt, body = message["MessageId"], message["ReceiptHandle"], message["Body"].encode()
        try:
            if self._source.format == "text":
                text = encode_json(message["Body"])
            else:
                text = body.removeprefix(BYTE_ORDER_MARK)
                checked_text(text)
        except RecordError as error:
            return SqsLetter(body, f"message {id}: {error}", None, id, receipt)
        sent = _time(message.get("Attributes", {}).get("SentTimestamp"))
        if self._source.data == "message":
            text = _whole(message, sent, text)
        named, happened = self._fields.names(text)
        return SqsRecord(text, named or id, time=happened or sent, checked=True, message=id, receipt=receipt)

    def _delete(self, receipts: dict[str, str]) -> None:
        names = list(receipts)
        entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(names)]
        answer = self._ask("delete_message_batch", Entries=entries)
        if len(answer.get("Successful", ())) + len(answer.get("Failed", ())) < len(entries):
            raise SourceUnavailable("SQS' answer doesn't say which messages it has deleted")
        self._held.drop(receipts.values())
        for failed in answer.get("Failed", ()):
            message = receipts[names[int(failed["Id"])]]
            reason = f"message {message} can't be deleted: {failed.get('Message') or failed['Code']}"
            if not failed.get("SenderFault"):
                raise SourceUnavailable(reason)
            log.warning("sqs_message_not_deleted", reason=reason)  # it was received again since, and comes again

    def _extend(self, receipts: Mapping[str, str]) -> None:
        self._hide(receipts, int(self._source.visibility))

    def _give_back(self, receipts: Mapping[str, str]) -> None:
        try:
            self._hide(receipts, 0)
        except (SourceRefused, SourceUnavailable) as error:
            log.warning("sqs_messages_not_given_back", messages=len(receipts), reason=str(error))

    def _hide(self, receipts: Mapping[str, str], seconds: int) -> None:
        for batch in _batches(receipts):
            entries = [
                {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                for number, receipt in enumerate(batch.values())
            ]
            for failed in self._ask("change_message_visibility_batch", Entries=entries).get("Failed", ()):
                log.debug("sqs_visibility_not_changed", reason=failed.get("Message") or failed["Code"])

    def _ask(self, verb: str, **what: Any) -> dict[str, Any]:
        """Raises SourceUnavailable, SourceRefused."""
        try:
            answer: dict[str, Any] = getattr(self._client, verb)(QueueUrl=self._source.url, **what)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            ours = 400 <= status < 500 and status not in (408, 429) and code.rpartition(".")[2] not in PASSING
            raise (SourceRefused if ours else SourceUnavailable)(str(error)) from None
        except (ConnectionError, HTTPClientError) as error:
            raise SourceUnavailable(str(error)) from None
        except BotoCoreError as error:
            raise SourceRefused(str(error)) from None
        except Exception as error:  # botocore has no root, and parses an answer that is none with what Python raises
            raise SourceUnavailable(f"{type(error).__name__}: {error}") from None
        if "html" in answer["ResponseMetadata"]["HTTPHeaders"].get("content-type", ""):
            raise SourceUnavailable(f"a web page is what it answers to {verb}: is something in between?")
        return answer


def _batches(receipts: Mapping[str, str]) -> Iterator[dict[str, str]]:
    items = iter(receipts.items())
    while batch := dict(islice(items, BATCH)):
        yield batch


def _time(ms: str | None) -> datetime | None:
    if ms and ms.isdecimal():
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(int(ms) / 1000, UTC)
    return None


def _whole(message: dict[str, Any], sent: datetime | None, text: bytes) -> bytes:
    system = message.get("Attributes", {})
    return encode_json(
        {
            "id": message["MessageId"],
            "sent": sent,
            "received": int(system.get("ApproximateReceiveCount", 1)),
            "group": system.get("MessageGroupId"),
            "attributes": {name: _value(given) for name, given in message.get("MessageAttributes", {}).items()},
            "body": msgspec.Raw(text),
        }
    )


def _value(given: dict[str, Any]) -> Any:
    if "BinaryValue" in given:
        return {"base64": b64encode(given["BinaryValue"]).decode()}
    return given.get("StringValue")
