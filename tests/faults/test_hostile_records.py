"""What may stand on a list that anybody can push to. Each kind has one policy: delivered as it is, or set aside."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from millrace.embedded import Embedded
from millrace_pipeline.queue import DeadLetters
from tests.conftest import eventually
from tests.faults.conftest import Row
from tests.faults.flowrun import FlowRun
from tests.faults.ways import in_every_way

DEEP = 200_000


def envelope_of(data: bytes) -> bytes:
    return b'{"specversion":"1.0","id":"1","source":"s","type":"t","time":"2026-11-21T00:00:00Z","data":' + data + b"}"


DELIVERED = {
    # name: (as pushed, as it is in the file)
    "a number beyond 64 bits": (b'{"v":18446744073709551616}', b'{"v":18446744073709551616}'),
    "the same in an envelope": (envelope_of(b'{"u":18446744073709551616}'), b'{"u":18446744073709551616}'),
    "digits beyond a double": (b'{"v":1.00000000000000000000000001}', b'{"v":1.00000000000000000000000001}'),
    "one name twice": (envelope_of(b'{"v":1,"v":2}'), b'{"v":1,"v":2}'),
    "an escaped NUL": (envelope_of(rb'{"v":"\u0000"}'), rb'{"v":"\u0000"}'),
    "no object": (envelope_of(b'"text"'), b'"text"'),
    "printed on several lines": (b'{\n  "v": 3\r\n}', b'{   "v": 3 }'),
    "somebody's own id": (b'{"id":5,"source":7}', b'{"id":5,"source":7}'),
    "half a surrogate pair": (rb'{"v":"\ud800"}', rb'{"v":"\ud800"}'),
    "half a surrogate pair in an envelope": (envelope_of(rb'{"u":"\ud800"}'), rb'{"u":"\ud800"}'),
    "U+2028": (envelope_of('{"v":"a\u2028b"}'.encode()), '{"v":"a\u2028b"}'.encode()),
}

SET_ASIDE = {
    # name: (as pushed, the reason)
    "nothing": (b"", "not JSON"),
    "NaN": (b'{"v":NaN}', "not JSON"),
    "Infinity in an envelope": (envelope_of(b'{"v":-Infinity}'), "not JSON"),
    "bytes that are no UTF-8": (b'{"v":"\xff\xfe"}', "not UTF-8: byte 0xff at offset 6"),
    "UTF-16": ('{"v":1}'.encode("utf-16"), "not UTF-8"),
    "a byte order mark": (b'\xef\xbb\xbf{"v":1}', "not JSON"),
    "a raw NUL": (b'{"v":"a\x00b"}', "not JSON"),
    "half a record": (b'{"v":"ab', "not JSON"),
    "two records": (b'{"v":1}{"v":2}', "not JSON"),
    "a bare text": (b'"text"', "not a record"),
    "a bare number": (b"1", "not a record"),
    "a bare list": (b"[{}]", "not a record"),
    "nested too deep": (b'{"v":' + b"[" * DEEP + b"]" * DEEP + b"}", "nested too deep"),
    "nested too deep in an envelope": (envelope_of(b"[" * DEEP + b"]" * DEEP), "nested too deep"),
    "an envelope of another version": (b'{"specversion":"9.9","id":"1","source":"s","type":"t"}', "unknown version"),
    "an envelope without an id": (b'{"specversion":"1.0","source":"s","type":"t"}', "envelope without id"),
    "an envelope whose id is a number": (b'{"specversion":"1.0","id":1,"source":"s","type":"t"}', "not a record"),
}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def hostile(server: Embedded, tmp_path: Path) -> Iterator[FlowRun]:
    """A flow whose records are known by all of their bytes."""
    with FlowRun(tmp_path, server.url, id_of=digest) as flow:
        yield flow


def test_every_kind_of_record_ends_by_its_policy_and_stops_nobody(hostile: FlowRun, server: Embedded, row: Row) -> None:
    row("malformed and hostile JSON", hostile.invariants)
    with redis.Redis.from_url(server.url) as client:
        for pushed, there in DELIVERED.values():
            if pushed.startswith(envelope_of(b"")[:20]):
                mark = b'{"millrace":"%b",' % hostile.key.encode()  # as in one of ours
                hostile.queue.publish([mark + pushed[1:]])
            else:
                client.lpush(hostile.key, pushed)
            hostile.invariants.published([there])
        for pushed, _ in SET_ASIDE.values():
            client.lpush(hostile.key, pushed)
            hostile.invariants.published([pushed])
    hostile.publish(50)
    consumer = hostile.consume()
    eventually(lambda: hostile.queue.books().lag == 0, 40)
    letters = {letter.record: letter.reason for letter in DeadLetters(hostile.queue).newest()}
    assert set(letters) == {pushed for pushed, _ in SET_ASIDE.values()}
    for name, (pushed, reason) in SET_ASIDE.items():
        assert re.search(re.escape(reason), letters[pushed]), f"{name}: {letters[pushed]}"
    in_files = set(hostile.invariants.in_files())
    assert not [name for name, (_, there) in DELIVERED.items() if there not in in_files]
    assert hostile.queue.books().dead == len(SET_ASIDE)
    hostile.invariants.check_live()
    hostile.invariants.check_complete()
    hostile.invariants.check_sound()
    hostile.invariants.check_distinct()
    hostile.invariants.check_bounded(consumer.pid, 200)
    assert consumer.terminate() == 0, consumer.said


@in_every_way
@pytest.mark.timeout(300)
def test_a_record_of_100_megabytes_goes_from_source_to_file_and_memory_stays_bounded(flow: FlowRun, row: Row) -> None:
    row("record of 100 MB", flow.invariants)
    size = 100_000_000
    producer = flow.produce(1, size=size)
    consumer = flow.consume()
    eventually(lambda: producer.events("producer_done") and not flow.queue.lag(), 100)
    assert producer.wait() == 0, producer.said
    flow.acknowledge(range(1), size=size)
    flow.invariants.check_live()
    flow.invariants.check_complete()
    flow.invariants.check_sound()
    flow.invariants.check_distinct()
    flow.invariants.check_bounded(consumer.pid, 1000)
    assert consumer.terminate() == 0, consumer.said
