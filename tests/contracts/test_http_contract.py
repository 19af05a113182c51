"""The http sink keeps the sink contract, and its own claims."""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from millrace_consumer.batch import Batch
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.http import HttpSink
from millrace_pipeline.envelope import Envelope
from millrace_pipeline.process.repeats import repeats
from tests.contracts.sink_contract import SinkContract
from tests.contracts.sink_records import batch_of, bulk
from tests.http_receiver import Answer, Receiver


@cache
def shared() -> Receiver:
    """One receiver for the contract; each destination is a path of its own there."""
    return Receiver().__enter__()


class TestHttpSink(SinkContract):
    sink = "millrace_consumer.sinks.http:HttpSink"
    kill_points: ClassVar[tuple[str, ...]] = ("sink.before_write", "sink.after_request", "sink.after_write")

    def options(self, destination: Path) -> dict[str, Any]:
        return {"url": f"{shared().url}{destination}"}

    def read_back(self, destination: Path) -> list[Any]:
        return shared().stored.get(str(destination), [])

    @contextmanager
    def full(self, destination: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
        receiver = shared()

        def free() -> None:
            receiver.always = None

        receiver.always = Answer(507)
        try:
            yield destination, free
        finally:
            free()


class TestHttpSinkWithLines(TestHttpSink):
    def options(self, destination: Path) -> dict[str, Any]:
        return super().options(destination) | {"format": "jsonl", "compression": "gzip"}


class TestHttpSinkWithEnvelopes(TestHttpSink):
    def options(self, destination: Path) -> dict[str, Any]:
        return super().options(destination) | {"envelope": True}

    def read_back(self, destination: Path) -> list[Any]:
        return [envelope["data"] for envelope in super().read_back(destination)]


class TestHttpSinkOneByOne(TestHttpSink):
    kill_points = ("sink.before_write", "sink.after_write")  # between two records half a batch is there

    def options(self, destination: Path) -> dict[str, Any]:
        return super().options(destination) | {"format": "single"}

    def test_killed_between_two_records_it_is_whole_when_delivered_again(self, tmp_path: Path) -> None:
        self.write_and_be_killed(tmp_path, "sink.after_request:5", "batch-1", bulk(10))
        assert len(self.read_back(tmp_path)) == 5
        self.write(tmp_path, "batch-1", bulk(10))
        assert self.read_back(tmp_path) == bulk(10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def sink(receiver: Receiver, **options: Any) -> HttpSink:
    return HttpSink(url=f"{receiver.url}/in", **options)


def numbers(*refused: int, count: int = 8) -> list[dict[str, Any]]:
    return [{"n": n, **({"refuse": True} if n in refused else {})} for n in range(count)]


def keys(receiver: Receiver) -> list[str]:
    return [asked.key for asked in receiver.asked]


# -- once -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 502])
def test_a_batch_that_was_taken_though_no_answer_came_is_sent_again_under_the_same_key(
    receiver: Receiver, status: int
) -> None:
    receiver.script = [Answer(status, stores=True)]
    http = sink(receiver)
    with pytest.raises(SinkUnavailable):
        http.write(batch_of("b", numbers()))
    http.write(batch_of("b", numbers()))
    assert keys(receiver) == ["b", "b"]
    assert receiver.stored["/in"] == numbers()


def test_an_answer_in_parts_is_said(receiver: Receiver) -> None:
    receiver.script = [Answer(207, stores=True), Answer(200, stores=True)]
    http = sink(receiver)
    with repeats.heard() as heard:
        http.write(batch_of("b", numbers()))
        http.write(batch_of("c", numbers()))
    assert [event for event, _ in heard] == ["answer_in_parts"]


def test_an_answer_that_is_too_late_leaves_the_batch_under_the_same_key(receiver: Receiver) -> None:
    over = threading.Event()
    receiver.script = [Answer(200, stores=True, before=lambda: over.wait(30))]
    http = sink(receiver, timeout=0.2)
    with pytest.raises(SinkUnavailable, match=r"silent for 0\.2 s"):
        http.write(batch_of("b", numbers()))
    over.set()
    sink(receiver).write(batch_of("b", numbers()))
    assert keys(receiver) == ["b", "b"]
    assert receiver.stored["/in"] == numbers()


def test_a_batch_that_is_too_large_is_halved_at_the_same_places_each_time(receiver: Receiver) -> None:
    receiver.limit = len(json.dumps(numbers(count=3), separators=(",", ":")))
    for _ in range(2):  # the second time by another consumer
        sink(receiver).write(batch_of("b", numbers()))
    assert keys(receiver) == ["b", "b:0-3", "b:0-1", "b:2-3", "b:4-7", "b:4-5", "b:6-7"] * 2
    assert receiver.stored["/in"] == numbers()


def test_a_record_that_is_too_large_by_itself_is_named(receiver: Receiver) -> None:
    receiver.limit = 100
    records = [*numbers(count=3), {"n": "x" * 100}]
    with pytest.raises(RecordsRejected) as rejection:
        sink(receiver).write(batch_of("b", records))
    assert list(rejection.value.reasons) == [3]
    assert "413" in rejection.value.reasons[3]


def test_records_that_are_refused_are_named_and_what_was_taken_beside_them_is_not_sent_again(
    receiver: Receiver,
) -> None:
    http, batch = sink(receiver), batch_of("b", numbers(2, 7))
    with pytest.raises(RecordsRejected) as rejection:
        http.write(batch)
    assert sorted(rejection.value.reasons) == [2, 7]
    assert rejection.value.reasons[2] == f'{receiver.url}/in answered 422 {PHRASE}: {{"error": "refused"}}'
    asked = len(receiver.asked)
    http.write(batch.pick([0, 1, 3, 4, 5, 6]))  # as the runner offers the rest
    assert len(receiver.asked) == asked
    assert sorted(record["n"] for record in receiver.stored["/in"]) == [0, 1, 3, 4, 5, 6]


PHRASE = (
    "Unprocessable Content"
    if hasattr(__import__("http").HTTPStatus, "UNPROCESSABLE_CONTENT")
    else ("Unprocessable Entity")
)


def test_a_consumer_that_dies_between_naming_and_acking_leaves_the_next_to_narrow_down_under_the_same_keys(
    receiver: Receiver,
) -> None:
    for _ in range(2):
        with pytest.raises(RecordsRejected):
            sink(receiver).write(batch_of("b", numbers(2, 7)))
    half = len(receiver.asked) // 2
    assert keys(receiver)[:half] == keys(receiver)[half:]
    assert len(receiver.stored["/in"]) == 6


def test_an_outage_while_it_narrows_down_begins_again_and_leaves_nothing_twice(receiver: Receiver) -> None:
    http, batch = sink(receiver), batch_of("b", numbers(6))
    receiver.script = [Answer(422), Answer(200, stores=True), Answer(503)]
    with pytest.raises(SinkUnavailable):
        http.write(batch)
    with pytest.raises(RecordsRejected) as rejection:
        http.write(batch)
    assert list(rejection.value.reasons) == [6]
    assert sorted(record["n"] for record in receiver.stored["/in"]) == [0, 1, 2, 3, 4, 5, 7]


def test_one_by_one_the_key_is_the_record_s_id_and_what_was_taken_is_not_sent_again(receiver: Receiver) -> None:
    http, batch = sink(receiver, format="single"), batch_of("b", numbers(3, count=5))
    receiver.script = [Answer(200, stores=True), Answer(429)]
    with pytest.raises(SinkUnavailable):
        http.write(batch)
    with pytest.raises(RecordsRejected) as rejection:
        http.write(batch)
    assert list(rejection.value.reasons) == [3]
    http.write(batch.pick([0, 1, 2, 4]))
    assert keys(receiver) == ["b-0", "b-1", "b-1", "b-2", "b-3", "b-4"]


def test_an_id_that_no_header_can_hold_is_encoded_and_a_long_one_hashed(receiver: Receiver) -> None:
    ids = ["a b%é\r\n", "x" * 300, "y" * 300]
    batch = Batch("b", [Envelope(id, "s", "t", None, {"n": 1}) for id in ids])
    sink(receiver, format="single").write(batch)
    assert keys(receiver)[0] == "a%20b%25%C3%A9%0D%0A"
    assert len(set(keys(receiver))) == 3
    assert len(receiver.stored["/in"]) == 3


# -- who waits, who is to blame ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_that_the_receiver_asks_for_is_passed_on(receiver: Receiver, status: int) -> None:
    receiver.script = [Answer(status, {"Retry-After": "17"})]
    with pytest.raises(SinkUnavailable, match=str(status)) as unavailable:
        sink(receiver).write(batch_of("b", numbers()))
    assert unavailable.value.retry_after == 17


@pytest.mark.parametrize("status", [301, 401, 403, 404, 408, 409, 500])
def test_what_no_record_is_to_blame_for_keeps_the_batch(receiver: Receiver, status: int) -> None:
    receiver.script = [Answer(status, {"Location": "http://u:pw@elsewhere/x?token=s3cret"})]
    with pytest.raises(SinkUnavailable, match=str(status)) as unavailable:
        sink(receiver).write(batch_of("b", numbers()))
    assert len(receiver.asked) == 1
    assert "s3cret" not in str(unavailable.value)
    assert ("http://elsewhere/x" in str(unavailable.value)) == (status == 301)


def test_a_conflict_is_what_the_flow_says_it_is(receiver: Receiver) -> None:
    receiver.always = Answer(409)
    sink(receiver, conflict="delivered").write(batch_of("b", numbers()))
    with pytest.raises(RecordsRejected):
        sink(receiver, conflict="reject").write(batch_of("c", numbers(count=1)))


def test_nobody_listening_is_unavailable(receiver: Receiver) -> None:
    with Receiver() as gone:
        http = sink(gone)
    with pytest.raises(SinkUnavailable, match="refused"):
        http.write(batch_of("b", numbers()))


# -- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "content_type"),
    [
        ({}, "application/json"),
        ({"format": "jsonl"}, "application/x-ndjson"),
        ({"format": "jsonl", "envelope": True}, "application/x-ndjson"),
        ({"format": "single"}, "application/json"),
        ({"envelope": True}, "application/cloudevents-batch+json"),
        ({"format": "single", "envelope": True}, "application/cloudevents+json"),
        ({"method": "PUT", "headers": {"content-type": "text/x-mine"}, "format": "single"}, "text/x-mine"),
    ],
)
def test_the_request_says_what_it_holds(receiver: Receiver, options: dict[str, Any], content_type: str) -> None:
    sink(receiver, **options).write(batch_of("b", numbers(count=1)))
    (asked,) = receiver.asked
    assert asked.headers["content-type"] == content_type
    assert asked.method == options.get("method", "POST")
    assert asked.headers["user-agent"].startswith("Millrace/")


def test_requests_use_one_connection_until_the_sink_is_closed(receiver: Receiver) -> None:
    http = sink(receiver, format="single")
    http.write(batch_of("b", numbers()))
    assert http._session is not None
    (adapter,) = {id(found): found for found in http._session.adapters.values() if found.poolmanager.pools}.values()
    (pool,) = (adapter.poolmanager.pools[key] for key in adapter.poolmanager.pools.keys())  # noqa: SIM118
    assert (pool.num_requests, pool.num_connections) == (8, 1)
    http.close()
    http.write(batch_of("c", numbers()))


def test_published_bytes_are_sent_as_they_are(receiver: Receiver) -> None:
    http = sink(receiver)
    http.write(batch_of("b", [{"n": 2**70, "é": "ż"}]))
    assert receiver.asked[0].body == f'[{{"n":{2**70},"é":"ż"}}]'.encode()


def test_a_netrc_of_the_machine_does_not_replace_the_authorization(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    sink(receiver, auth={"type": "bearer", "token": "s3cret"}).write(batch_of("b", numbers()))
    assert receiver.asked[0].headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("status", [0, 302, 401, 422, 500])
def test_no_secret_is_told_by_an_error_or_the_sink_itself(receiver: Receiver, status: int) -> None:
    receiver.always = Answer(status, {"Location": "/?token=s3cret"}, b"not with Bearer s3cret or k3y-of-mine")
    url = receiver.url.replace("://", "://user:s3cret@") + "/in?token=s3cret"
    http = HttpSink(url=url, headers={"X-Api-Key": "k3y-of-mine"}, auth={"type": "bearer", "token": "s3cret"})
    with pytest.raises((SinkUnavailable, RecordsRejected)) as failure:
        http.write(batch_of("b", numbers(count=1)))
    said = "".join(traceback.format_exception(failure.value)) + repr(http) + str(getattr(failure.value, "reasons", ""))
    assert "s3cret" not in said
    assert "k3y-of-mine" not in said


@pytest.mark.parametrize(
    "options",
    [
        {"url": "ftp://s3cret"},
        {"url": "http://h/", "headers": {"A": "s3cret\n"}},
        {"url": "http://h/", "auth": {"type": "bearer", "token": "s3cret\n"}},
        {"url": "http://h/", "key_header": "a b"},
    ],
)
def test_what_cannot_be_sent_is_refused_without_being_told(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refusal:
        HttpSink(**options)
    assert "s3cret" not in str(refusal.value)
