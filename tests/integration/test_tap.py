"""Tap: records as they pass, for whoever looks on, and nothing at all while nobody does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import yaml

from millrace.embedded import Embedded
from millrace.tapping import Watch, watching
from millrace_consumer.reader import Reader
from millrace_pipeline.envelope import DeadLetter, Record, encode
from millrace_pipeline.flows.flow import load
from millrace_pipeline.moment import now
from millrace_pipeline.queue.keys import Keys
from millrace_pipeline.queue.listener import KEPT_SECONDS, Listener
from millrace_pipeline.queue.roles import CONSUMER, PRODUCER, READER, Role
from millrace_pipeline.queue.tap import CUT_BYTES, LOT_RECORDS, LOTS_KEPT
from tests.conftest import eventually
from tests.integration.verbs import lines, taken
from tests.queues import Queue
from tests.services import Place, Service


def keys_of(place: Place) -> Keys:
    return Keys(place.key_of())


def tapping(place: Place, *arguments: str) -> Service:
    """`millrace tap numbers`, once it listens."""
    keys = keys_of(place)
    key = keys.tap_out if {"--out", "--diff"} & set(arguments) else keys.tap_in
    with redis.Redis.from_url(place.redis_url) as client:
        listening = client.xlen(key)
        tap = place.start("tap", "numbers", *arguments)
        tap.until(lambda: client.xlen(key) > listening)
    return tap


def shown(tap: Service) -> list[dict[str, object]]:
    return [json.loads(line) for line in tap.printed.splitlines(keepends=True) if line.endswith("\n")]


def numbers(tap: Service) -> list[int]:
    return [one["record"]["data"]["n"] for one in shown(tap)]  # type: ignore[index]


@contextlib.contextmanager
def publishing(place: Place) -> Iterator[Queue]:
    """A producer that goes on for several publishes."""
    with place.queue() as queue:
        yield queue


def put(queue: Queue, *numbers: int, **more: object) -> None:
    made = [
        encode(Record({"n": n, **more}), id=str(n), source="test", time=now(), mark=queue.keys.ready) for n in numbers
    ]
    queue.publish(made)


def test_with_nobody_listening_there_is_no_key_and_no_thread(place: Place, client: redis.Redis) -> None:
    place.flow()
    with publishing(place) as queue:
        put(queue, *range(20))
        assert not queue.publishing.tap.listened
    place.deliver_the_rest()
    assert not client.exists(keys_of(place).tap_in, keys_of(place).tap_out)


def test_what_is_published_is_shown_and_counted_while_it_goes_on(place: Place) -> None:
    place.flow()
    tap = tapping(place)
    with publishing(place) as queue:
        for number in range(7):
            put(queue, number)
        tap.until(lambda: len(shown(tap)) == 7)
    assert tap.terminate() == 0, tap.said
    assert numbers(tap) == list(range(7))
    assert {one["became"] for one in shown(tap)} == {"published"}
    assert "7 of 7 records shown" in tap.said


def test_of_many_records_a_sample_is_shown_that_says_of_how_many(place: Place) -> None:
    place.flow()
    tap = tapping(place)
    with publishing(place) as queue:
        put(queue, *range(10_000))
    tap.until(lambda: shown(tap))
    assert tap.terminate() == 0
    assert f"{LOT_RECORDS} of 10,000 records shown" in tap.said
    assert max(numbers(tap)) > 5_000  # not only the first of them


def test_what_is_delivered_is_shown_as_the_transforms_left_it(place: Place) -> None:
    place.flow(transforms=[{"type": "filter", "where": "n != `3`"}, {"type": "rename", "fields": {"n": "number"}}])
    out, both = tapping(place, "--out"), tapping(place, "--diff", "--format", "json")
    place.publish(range(5))
    place.deliver_the_rest()
    out.until(lambda: len(shown(out)) == 4)
    both.until(lambda: len(shown(both)) == 5)
    assert [one["record"]["data"] for one in shown(out)] == [{"number": n} for n in (0, 1, 2, 4)]  # type: ignore[index]
    left_out = shown(both)[3]
    assert (left_out["became"], left_out["after"]) == ("filtered", [])
    assert left_out["before"]["data"] == {"n": 3}  # type: ignore[index]
    assert out.terminate() == both.terminate() == 0
    assert "4 of 5 records shown; 5 were looked at; --diff shows what was filtered, too" in out.said


def test_before_and_after_stand_side_by_side_in_eighty_columns(place: Place) -> None:
    place.flow(transforms=[{"type": "rename", "fields": {"n": "number"}}, {"type": "drop", "fields": ["filler"]}])
    tap = tapping(place, "--diff")
    place.publish([1], filler="much" * 40)
    place.deliver_the_rest()
    tap.until(lambda: tap.printed.count("}") == 2)
    assert max(map(len, tap.printed.splitlines())) <= 80
    assert '  "n": 1,                              |   "number": 1' in tap.printed.splitlines()


def test_a_record_that_died_says_why_before_and_after(place: Place) -> None:
    place.flow(transforms=["theirs:fail"])
    place.module("def fail(record):\n    raise ValueError('no such mill')\n")
    tap = tapping(place, "--diff")
    aside = place.start("tap", "numbers", "--dead", "--format", "table")
    aside.until(lambda: "record" in aside.printed)
    place.publish([1])
    place.deliver_the_rest()
    tap.until(lambda: "dead: ValueError: no such mill" in tap.printed)
    aside.until(lambda: "ValueError: no such mill" in aside.printed)
    assert aside.terminate() == 0
    assert "1 of 1 records shown" in aside.said


def test_dead_letters_are_shown_from_now_on_and_only_read(place: Place, client: redis.Redis) -> None:
    place.flow()
    with publishing(place) as queue:
        queue.publish([], dead=[DeadLetter(b"before", "early")])
        tap = place.start("tap", "numbers", "--dead", "--limit", "1")
        tap.until(lambda: "Redis:" in tap.said)
        while tap.running:  # it may not have begun
            queue.publish([], dead=[DeadLetter(b"\xff\xfe", "no text")])
            with contextlib.suppress(subprocess.TimeoutExpired):
                tap.process.wait(0.1)
    (one,) = shown(tap)
    assert (one["record_base64"], one["reason"], one["became"]) == ("//4=", "no text", "dead")
    assert {name for name in client.scan_iter(match=f"*{place.key_of()}*") if b":tap" in name} == set()


def test_what_waits_is_read_in_the_order_in_which_it_is_taken(place: Place, client: redis.Redis) -> None:
    place.flow()
    place.publish(range(250))
    client.lmove(place.key_of(), keys_of(place).woken, "RIGHT", "LEFT")
    before = {name: client.dump(name) for name in client.scan_iter(match=f"*{place.key_of()}*")}
    some, all_ = place.start("tap", "numbers", "--ready"), place.start("tap", "numbers", "--ready", "--limit", "999")
    assert some.wait() == all_.wait() == 0, some.said
    assert numbers(some) == list(range(100))
    assert numbers(all_) == list(range(250))
    assert [one["position"] for one in shown(all_)] == list(range(1, 251))
    assert "100 of 250 records shown" in some.said
    assert {name: client.dump(name) for name in client.scan_iter(match=f"*{place.key_of()}*")} == before


def test_an_expression_chooses_and_a_limit_ends(place: Place) -> None:
    place.flow()
    place.publish(range(30))
    few = place.start("tap", "numbers", "--ready", "--where", "n > `10`", "--limit", "3")
    assert few.wait() == 0, few.said
    assert numbers(few) == [11, 12, 13]
    assert "3 of 30 records shown" in few.said
    odd = place.start("tap", "numbers", "--ready", "--where", "n > 'ten'")
    assert odd.wait() == 0
    assert "--where could not be asked of 30: > compares numbers" in odd.said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--where", "n >"], "--where n >: expected a JMESPath expression"),
        (["--where", "n == true"], "true without backticks"),
        (["--in", "--out"], "--in and --out: expected one of"),
        (["--diff", "--dead"], "--diff shows what is delivered: expected it without --dead"),
        (["--format", "xml"], "--format xml: expected json, yaml or table"),
    ],
)
def test_what_is_asked_wrongly_ends_with_2_and_the_mend(place: Place, arguments: list[str], told: str) -> None:
    place.flow()
    tap = place.start("tap", "numbers", *arguments)
    assert tap.wait() == 2
    assert told in tap.said


def test_several_listen_at_once_and_each_sees_all(place: Place) -> None:
    place.flow()
    taps = [tapping(place), tapping(place)]
    with publishing(place) as queue:
        for number in range(5):
            put(queue, number)
    for tap in taps:
        tap.until(lambda tap=tap: numbers(tap) == list(range(5)))


def test_the_key_is_capped_and_goes_when_nobody_listens(
    queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace_pipeline.queue.tap.LOT_SECONDS", 0.001)
    listener = Listener(queue, queue.keys.tap_in)
    listener.look()

    def full() -> bool:
        listener.look()
        queue.publish(lines(1))
        length = client.xlen(queue.keys.tap_in)
        assert length <= LOTS_KEPT
        return bool(client.xrange(queue.keys.tap_in, count=1)[0][0] > first)

    first = client.xrange(queue.keys.tap_in)[-1][0]
    eventually(full)
    assert 0 < client.ttl(queue.keys.tap_in) <= KEPT_SECONDS
    listener.close()
    eventually(lambda: not client.exists(queue.keys.tap_in))
    queue.publish(lines(1))
    eventually(lambda: not queue.publishing.tap.listened)
    assert not client.exists(queue.keys.tap_in)


def test_nobody_but_a_listener_makes_the_key(queue: Queue, client: redis.Redis) -> None:
    listener = Listener(queue, queue.keys.tap_in)
    listener.look()
    queue.publish(lines(1))
    assert queue.publishing.tap.listened
    client.delete(queue.keys.tap_in)
    queue.publish(lines(2))
    queue.publishing.tap.close()
    assert not client.exists(queue.keys.tap_in)
    listener.close()


def test_lots_that_were_trimmed_off_are_counted_all_the_same(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millrace_pipeline.queue.tap.LOT_SECONDS", 0.001)
    monkeypatch.setattr("millrace_pipeline.queue.tap.LOTS_KEPT", 2)
    listener = Listener(queue, queue.keys.tap_in)
    listener.look()
    queue.publish(lines(*range(10)))
    eventually(lambda: listener.look() and listener.passed == 10)
    for number in range(50):
        queue.publish(lines(number))
    queue.publishing.tap.close()
    listener.look()
    assert listener.received < 60
    assert listener.passed == 60
    listener.close()


def test_a_long_record_is_cut_and_says_how_long_it_is(place: Place) -> None:
    place.flow()
    tap = tapping(place)
    with publishing(place) as queue:
        put(queue, 1, filler="é" * 5_000_000)
        tap.until(lambda: shown(tap))
    (one,) = shown(tap)
    assert one["bytes"] > 10_000_000  # type: ignore[operator]
    assert CUT_BYTES - 4 < len(one["record_text"].encode()) <= CUT_BYTES  # type: ignore[attr-defined]


def test_raw_in_a_pipe_and_in_every_form_as_it_is(place: Place) -> None:
    odd = "\x1b[31mred\u202etxt.exe\x9b\u2028"
    place.flow()
    with publishing(place) as queue:
        put(queue, 2**64, text=odd)
    forms = {form: place.start("tap", "numbers", "--ready", "--format", form) for form in ("json", "yaml", "table")}
    for tap in forms.values():
        assert tap.wait() == 0, tap.said
    printed = forms["json"].output_path.read_bytes().decode()
    assert "\u202e" in printed
    assert json.loads(printed)["record"]["data"] == {"n": 2**64, "text": odd}
    for form in ("yaml", "table"):
        printed = forms[form].output_path.read_bytes().decode()
        assert all(letter.isprintable() or letter == "\n" for letter in printed), form
        assert str(2**64) in printed
    assert yaml.safe_load(forms["yaml"].printed)["record"]["data"] == {"n": 2**64, "text": odd}


def test_ctrl_c_and_a_pipe_that_is_closed_end_it_without_a_word(place: Place) -> None:
    place.flow()
    tap = tapping(place)
    tap.signal(signal.SIGINT)
    assert tap.wait() == 0
    assert tap.said.splitlines()[1:] == ["0 of 0 records shown"]
    place.publish(range(300))
    environ = {**os.environ, "REDIS_URL": place.redis_url}
    words = [sys.executable, "-P", "-m", "millrace", "tap", "numbers"]
    for place_ in ("--ready", "--in"):  # one that has more to write, and one to which nothing more comes
        with subprocess.Popen(
            [*words, place_], cwd=place.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.wait(30) == 0
            assert b"Traceback" not in process.stderr.read()


def test_it_goes_on_when_redis_was_away_and_a_consumer_killed(tmp_path: Path) -> None:
    with Embedded(aof=True, data_dir=tmp_path / "data") as server, Place(tmp_path, server.url, "k") as place:
        place.flow()
        tap, consumer = tapping(place, "--out"), place.consume()
        place.publish(range(5))
        tap.until(lambda: len(shown(tap)) == 5)
        consumer.kill()
        server.kill()
        tap.until(lambda: "Redis doesn't answer" in tap.said)
        server.start()
        tap.until(lambda: "Redis answers again" in tap.said)
        place.consume()
        place.publish(range(5, 10))
        tap.until(lambda: len(shown(tap)) == 10)
        assert tap.terminate() == 0


def give(admin: redis.Redis, name: str, role: Role, *, without: str = "") -> None:
    rules = [rule for rule in role.rules(["k-numbers"]).split() if rule != without]
    admin.execute_command("ACL", "SETUSER", name, "reset", "on", ">secret", *rules)


def test_who_may_only_read_is_told_the_right_that_is_missing(tmp_path: Path) -> None:
    with Embedded() as server, redis.Redis.from_url(server.url) as admin:
        for name, role in (("reader", READER), ("consumer", CONSUMER)):
            give(admin, name, role)
        with Place(tmp_path, server.url, "k") as place:
            place.flow()
            place.publish([1])
            mine = {name: server.url.replace("://", f"://{name}:secret@") for name in ("reader", "consumer")}
            for where in ("--in", "--out"):
                refused = place.start("tap", "numbers", where, REDIS_URL=mine["reader"])
                assert refused.wait() == 2
                assert f"who listens must write the key {{k-numbers}}:tap:{where[2:]}" in refused.said
            ready = place.start("tap", "numbers", "--ready", REDIS_URL=mine["reader"])
            assert ready.wait() == 0
            assert numbers(ready) == [1]
            tap = place.start("tap", "numbers", "--in", REDIS_URL=mine["consumer"])
            tap.until(lambda: admin.exists("{k-numbers}:tap:in"))


def test_without_the_right_to_be_tapped_records_flow_all_the_same(tmp_path: Path) -> None:
    with Embedded() as server, redis.Redis.from_url(server.url) as admin:
        give(admin, "producer", PRODUCER, without="~{k-numbers}:tap:in")
        queue = Queue(server.url.replace("://", "://producer:secret@"), "k-numbers")
        assert queue.publish(lines(1)).records == 1
        assert queue.publish(lines(2)).records == 1
        assert queue.publishing.tap.question() == ()
        queue.close_all()
        other = Queue(server.url, "k-numbers")
        admin.set("{k-numbers}:tap:out", "somebody's")
        other.ack(taken(lambda: other.claim(2)), delivered=2)
        assert other.books().delivered == 2
        other.close_all()


def test_a_program_of_ones_own_is_tapped_as_a_consumer_is(place: Place, redis_url: str) -> None:
    place.flow(transforms=[{"type": "filter", "where": "n != `1`"}])
    place.publish(range(3))
    flow = load(place.folder / "flows.yaml")["numbers"]
    with place.queue() as queue, Reader(flow, redis_url, until_empty=True).open() as reader:
        listener = Listener(queue, queue.keys.tap_out)
        listener.look()
        for _ in reader:
            reader.checkpoint()
        reader.close()
        records = [one for _, lot in listener.look() for one in lot.records]
        assert [one.became for one in records] == ["delivered", "filtered", "delivered"]
        listener.close()


def test_the_page_gets_records_from_an_async_iterator(queue: Queue, client: redis.Redis) -> None:
    async def first(count: int) -> list[str]:
        seen = []
        watch = Watch(queue, "in", where="n > `1`")
        async for one in watching(watch):
            seen.append(one.record.content.decode())
            if len(seen) == count:
                break
        return seen

    async def both() -> list[str]:
        looking = asyncio.create_task(first(2))
        while not await asyncio.to_thread(client.exists, queue.keys.tap_in):
            await asyncio.sleep(0.01)
        await asyncio.to_thread(queue.publish, lines(1, 2, 3))
        return await asyncio.wait_for(looking, 20)

    assert [json.loads(line)["data"]["n"] for line in asyncio.run(both())] == [2, 3]
