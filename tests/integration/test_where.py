"""`millrace where` on a flow with records in every state, asked by a test that knows where each of them is."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError
from typer.testing import CliRunner

from millrace.cli import where
from millrace.cli.lives import Lives
from millrace.cli.sightings import Dead, Held, Life, Misfit, OnList, Written
from millrace.embedded import Embedded
from millrace_consumer.runner import Consumer
from millrace_consumer.sinks import SINKS
from millrace_pipeline import envelope
from millrace_pipeline.envelope import DeadLetter, Record
from millrace_pipeline.flows.flow import Flow, load
from millrace_pipeline.queue import DeadLetters
from millrace_pipeline.queue.pages import PAGE_BYTES
from millrace_pipeline.queue.roles import READER
from millrace_pipeline.queue.variants import variant_of
from millrace_pipeline.queue.walk import walk
from tests.integration.test_acl import version_of
from tests.queues import Queue
from tests.services import NOWHERE, Place

KEYED = {**NOWHERE, "key": "/n"}
THEIRS = """
def sift(record):
    if record["n"] % 10 == 3:
        return None
    if record["n"] % 10 == 7:
        raise ValueError("a seven")
    return record
"""
READ_BACK: dict[str, dict[str, Any]] = {
    "jsonl": {"path": "out/numbers"},
    "jsonl, envelopes": {"type": "jsonl", "path": "out/numbers", "envelope": True, "compression": "gzip"},
    "csv": {"path": "out/numbers", "columns": ["n"]},
    "parquet": {"path": "out/numbers"},
    "delta": {"path": "out/numbers"},
    "sqlite": {"path": "out.db", "table": "things"},
    "duckdb": {"path": "out.duckdb", "table": "things"},
    "postgres": {"dsn": "DSN", "table": "where_things"},
}
NOT_READ_BACK: dict[str, dict[str, Any]] = {
    "http": {"url": "http://127.0.0.1:9/"},
    "kafka": {"brokers": "127.0.0.1:9", "topic": "t"},
    "null": {},
    "python": {"function": "theirs:sift"},
    "redis": {"key": "other"},
    "sqs": {"url": "http://127.0.0.1:9/1/q"},
    "stdout": {},
}


@pytest.fixture
def place(tmp_path: Path, redis_url: str, key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    with Place(tmp_path, redis_url, key) as place:
        place.module(THEIRS)
        yield place


def flow_of(place: Place) -> Flow:
    return load(place.folder / "flows.yaml")["numbers"]


def deliver(place: Place) -> None:
    never = threading.Event()
    Consumer(flow_of(place), place.redis_url, stopping=never, give_up=never, until_empty=True).run()


def line(number: int, mark: str) -> bytes:
    return envelope.encode(Record({"n": number}), id=str(number), source="numbers", mark=mark)


def look(place: Place, keys: list[str], **options: Any) -> dict[str, Life]:
    with place.queue() as queue:
        return {life.key: life for life in Lives(flow_of(place), queue, keys, **options).look()}


def ask(place: Place, *arguments: str, code: int, url: str = "") -> str:
    environ = {"REDIS_URL": url or place.redis_url, "COLUMNS": "200"}
    done = CliRunner().invoke(where.app, list(arguments), env=environ)
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


class Known:
    """Two thousand records in every state. `at` says of each key where it is, as its life is to say it."""

    def __init__(self, place: Place) -> None:
        place.flow(source=KEYED, transforms=["theirs:sift"], dedupe={"window": "1h"}, lease="60s")
        self.at: dict[str, tuple[Any, ...]] = {str(n): ("never seen",) for n in range(2000, 2500)}
        with place.queue() as queue:
            self.queue, self.mark = queue, queue.keys.ready
            self.publish(range(800))
            deliver(place)
            self.delivered(place)
            self.publish(range(800, 900), variants=True)
            queue.publish([], dead=[DeadLetter(b'{"n": %d, broken' % n, "not JSON") for n in range(900, 1000)])
            self.at |= {str(n): ("dead", "not JSON", 0, False) for n in range(900, 1000)}
            self.publish(range(1000, 1300))
            self.claimed(place)
            self.publish(range(1300, 1900))
            with redis.Redis.from_url(place.redis_url) as client:
                client.lpush(self.mark, *(f'{{"n": {n}}}' for n in range(1900, 2000)))
                for _ in range(3):
                    client.blmove(self.mark, queue.keys.woken, 1, "RIGHT", "LEFT")
            self.at |= {str(n): ("ready", n - 1299, 700, self.becomes(n)) for n in range(1300, 2000)}

    def becomes(self, n: int) -> str:
        return "filtered" if n % 10 == 3 else "dead: ValueError: a seven" if n % 10 == 7 else ""

    def publish(self, numbers: range, *, variants: bool = False) -> None:
        lines = [line(n, self.mark) for n in numbers]
        if variants:
            lines = [variant_of(one, "too odd") for one in lines]
            self.at |= {str(n): ("variant", "too odd") for n in numbers}
        ids = list(map(str, numbers))
        self.queue.publish(lines, ids=ids, seen_seconds=3600, variants=range(len(lines)) if variants else ())

    def delivered(self, place: Place) -> None:
        for path in place.files():
            for row, text in enumerate(path.read_bytes().splitlines(), 1):
                self.at[str(json.loads(text)["n"])] = ("written", f"out/numbers/{path.name}", row)
        self.at |= {str(n): ("filtered",) for n in range(3, 800, 10)}
        self.at |= {str(n): ("dead", "ValueError: a seven", 1, True) for n in range(7, 800, 10)}

    def claimed(self, place: Place) -> None:
        for start in range(1000, 1300, 100):
            batch, attempt = self.queue.claim(100), 1
            assert batch is not None
            if start == 1100:  # a consumer that went away: another has taken it over
                self.queue.release(batch)
                other = Queue(place.redis_url, self.mark, lease_seconds=60)
                batch, attempt = other.reclaim(), 1
                other.close()
            if start == 1200:
                over = Queue(place.redis_url, self.mark, lease_seconds=60)
                with redis.Redis.from_url(place.redis_url) as client:
                    client.zadd(self.queue.keys.leases, {batch.id: 1})
                batch, attempt = over.reclaim(), 2
                over.close()
            assert batch is not None
            for n in range(start, start + 100):
                self.at[str(n)] = ("in flight", batch.id, n - start + 1, 100, attempt, self.becomes(n))


def told(life: Life) -> tuple[Any, ...]:
    """The life as `Known` has it."""
    if not life.sightings:
        return (life.verdict,)
    (seen,) = life.sightings
    becomes = seen.becomes.partition(" (")[0]
    if isinstance(seen, OnList):
        return ("ready", seen.position, seen.of, becomes)
    if isinstance(seen, Held):
        return ("in flight", seen.batch, seen.number, seen.of, seen.attempt, becomes)
    if isinstance(seen, Dead):
        return ("dead", seen.reason.partition(" (")[0], seen.attempts, seen.exact)

    if isinstance(seen, Misfit):
        return ("variant", seen.reason)
    assert isinstance(seen, Written)
    return ("written", seen.place, seen.row)


def test_a_thousand_random_keys_are_where_the_test_knows_them_to_be(place: Place) -> None:
    known = Known(place)
    keys = random.Random(13).sample(sorted(known.at), 1000)
    lives = look(place, keys)
    assert {key: told(life) for key, life in lives.items()} == {key: known.at[key] for key in keys}
    assert {at[0] for at in map(known.at.__getitem__, keys)} == {
        *("written", "filtered", "dead", "variant", "in flight", "ready", "never seen")
    }


def test_it_is_told_in_words_and_in_json_and_by_the_exit_code(place: Place) -> None:
    known = Known(place)
    said = ask(place, "numbers", "1201", "1300", "5", "7", "13", "850", "950", code=0)
    for words in (
        f"in flight in batch {known.at['1201'][1]}, record 2 of 100, at consumer ",
        "attempt 2",
        "ready at position 1 of 700, next to be taken",
        "in file out/numbers/",
        "dead: ValueError: a seven",
        "filtered: all else that was published is where it should be, so a transform left it out",
        "variant (set aside): too odd",
        "its bytes hold these words, so it may be another",
    ):
        assert words in said
    assert "never seen" in ask(place, "numbers", "2400", code=1)
    found = json.loads(ask(place, "numbers", "1303", "2400", "--json", code=1))
    (seen,) = found["records"][0]["sightings"]
    assert (seen["state"], seen["position"], seen["becomes"]) == ("ready", 4, "filtered")
    assert found["records"][1]["verdict"] == "never seen"
    assert found["not_looked_at"] == []


def test_nothing_is_changed(place: Place, client: redis.Redis) -> None:
    known = Known(place)
    names = sorted(client.scan_iter(match=f"*{known.mark}*", count=1000))

    def all_of_it() -> list[bytes | None]:
        return [client.dump(name) for name in names]

    before = all_of_it()
    look(place, ["1201", "1300", "2400"])
    assert names == sorted(client.scan_iter(match=f"*{known.mark}*", count=1000))
    assert all_of_it() == before


def test_a_reader_may_ask_and_nobody_there_ends_it_with_4(place: Place) -> None:
    with Embedded() as server:
        own = place.at(server.url)
        known = Known(own)
        with redis.Redis.from_url(server.url) as admin:
            rules = READER.rules([known.mark], version=version_of(server)).split()
            admin.execute_command("ACL", "SETUSER", "looker", "reset", "on", ">secret", *rules)
        url = f"redis://looker:secret@127.0.0.1:{server.port}/0"
        with redis.Redis.from_url(url) as reader, pytest.raises(NoPermissionError):
            reader.lpush(known.mark, "x")
        assert "in flight" in ask(own, "numbers", "1201", "5", "850", "950", code=0, url=url)
        gone = own.start("where", "numbers", "5", REDIS_URL="redis://127.0.0.1:9/0")
        assert gone.wait() == 4, gone.said


@pytest.mark.parametrize("sink", READ_BACK)
def test_in_every_sink_that_can_be_read_back_it_is_found(place: Place, sink: str, request: Any) -> None:
    options = {"type": sink, **READ_BACK[sink]}
    if options.get("dsn"):
        options["dsn"] = request.getfixturevalue("postgres").dsn
    place.flow(source=KEYED, sink=options)
    place.publish(range(30))
    deliver(place)
    for key in ("0", "17", "29"):
        (seen,) = look(place, [key])[key].sightings
        assert isinstance(seen, Written)
        assert (seen.sink, seen.unit == "table") == (options["type"], sink in ("delta", "sqlite", "duckdb", "postgres"))
        assert seen.row == (0 if seen.unit == "table" else int(key) % 10 + 1)
    assert look(place, ["30"])["30"].verdict == "never seen"


@pytest.mark.parametrize("sink", NOT_READ_BACK)
def test_a_sink_that_cannot_be_read_back_is_said(place: Place, sink: str) -> None:
    place.flow(source=KEYED, sink={"type": sink, **NOT_READ_BACK[sink]})
    place.publish(range(3))
    assert "ready at position 2 of 3" in ask(place, "numbers", "1", code=0)
    assert f"not looked at: sink {sink}: it has no files or tables" in ask(place, "numbers", "9", code=1)


def test_every_sink_is_one_that_can_be_read_back_or_one_that_cannot() -> None:
    assert {READ_BACK[name].get("type", name) for name in READ_BACK} | set(NOT_READ_BACK) == set(SINKS)


def test_a_sink_without_names_is_said_and_one_of_several_is_not_missed(place: Place) -> None:
    place.flow(sink=[{"type": "jsonl", "path": "out/bare"}, {"type": "jsonl", "path": "out/whole", "envelope": True}])
    place.publish(range(10))
    deliver(place)
    said = ask(place, "numbers", "4", code=0)
    assert "in file out/whole/" in said
    assert "not looked at: sink jsonl: what it writes holds no name of a record" in said


def test_a_sink_that_does_not_answer_ends_it_with_4_unless_found(place: Place) -> None:
    dsn = "postgresql://nobody@127.0.0.1:9/none"
    place.flow(source=KEYED, sink={"type": "postgres", "dsn": dsn, "table": "things"})
    place.publish(range(3))
    assert "ready" in ask(place, "numbers", "1", code=0)
    assert "not looked at: sink postgres: it doesn't answer" in ask(place, "numbers", "9", code=4)
    assert "not looked at: the sinks: told not to" in ask(place, "numbers", "9", "--no-sink", code=1)


def test_a_quote_that_is_named_by_all_it_holds_is_found_in_its_file(place: Place) -> None:
    place.flow(source={"type": "scrapy", "spider": "quotes"})
    with place.queue() as queue:
        from millrace_producer.keys import key_of

        texts = [b'{"text":"%d","author":"\xc3\x84nne"}' % n for n in range(3)]
        names = [key_of("content", text) or "" for text in texts]
        records = [Record(text, key=name) for text, name in zip(texts, names, strict=True)]
        queue.publish([envelope.encode(one, id="", source="s", mark=queue.keys.ready) for one in records])
    deliver(place)
    (seen,) = look(place, [names[1]])[names[1]].sightings
    assert isinstance(seen, Written)
    assert seen.row == 2


def test_one_that_was_put_back_while_it_looked_is_not_missed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.flow(source=KEYED)
    with place.queue() as queue:
        queue.publish([], dead=[DeadLetter(line(1, queue.keys.ready), "for a while")])
        walked: list[None] = []

        def put_back(self: DeadLetters, **options: Any) -> Iterator[Any]:
            letters = list(newest(self, **options))
            if not walked:
                walked.append(None)
                assert all(map(self.replay, letters))
                return iter(())
            return iter(letters)

        newest = DeadLetters.newest
        monkeypatch.setattr(DeadLetters, "newest", put_back)
        (seen,) = look(place, ["1"])["1"].sightings
        assert isinstance(seen, OnList)


def test_halves_that_a_batch_was_split_into_while_it_looked_are_found(place: Place) -> None:
    place.flow(source=KEYED)
    place.publish(range(2500))
    with place.queue() as queue:
        first, second = queue.claim(1000), queue.claim(1500)
        assert first is not None
        assert second is not None
        seen: set[bytes] = set()
        for record, _ in walk(queue):
            if not seen:
                queue.split(second, attempts=1)
            seen.add(record)
        assert seen >= set(second.lines)


@pytest.mark.parametrize("place_of_them", ["ready", "in flight", "dead", "variants"])
def test_a_page_is_small_where_records_are_large(
    queue: Queue, place_of_them: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ask_redis = Queue.ask

    def counting(self: Queue, *commands: Any) -> list[Any]:
        replies = ask_redis(self, *commands)
        asked.append(len(b"".join(_texts(replies))))
        return replies

    variant = place_of_them == "variants"
    for size in (500_000, 10, 500_000):
        line = envelope.encode(Record("x" * size), id="i", source="s", mark=queue.keys.ready)
        for _ in range(6):
            lines = [variant_of(line, "") if variant else line] * 10
            dead = [DeadLetter(line, "")] * 10
            if place_of_them == "dead":
                queue.publish([], dead=dead)
            else:
                queue.publish(lines, variants=range(10) if variant else ())
    if place_of_them == "in flight":
        queue.claim(180)
    monkeypatch.setattr(Queue, "ask", counting)
    assert sum(1 for _ in walk(queue)) == 180
    assert max(asked) <= 8 * PAGE_BYTES
    assert sorted(asked)[-2] <= 3 * PAGE_BYTES  # the one page before tells nothing of those that are suddenly larger


def _texts(reply: Any) -> Iterator[bytes]:
    if isinstance(reply, bytes):
        yield reply
    elif isinstance(reply, list):
        for inner in reply:
            yield from _texts(inner)


def test_a_long_list_takes_no_more_memory_than_a_page(queue: Queue) -> None:
    import tracemalloc

    records = [envelope.encode(Record({"n": n, "filler": "x" * 400}), id=str(n), source="s") for n in range(5000)]
    for _ in range(20):
        queue.publish(records)
    tracemalloc.start()
    try:
        assert sum(1 for _ in walk(queue)) == 100_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


def test_of_a_dead_letter_it_says_if_the_transforms_of_today_would_deliver_it(place: Place) -> None:
    place.flow(source=KEYED, transforms=["theirs:sift"])
    with place.queue() as queue:
        dead = [DeadLetter(line(n, queue.keys.ready), "for a while") for n in (1, 3, 7)]
        queue.publish([], dead=dead)
    lives = look(place, ["1", "3", "7"])
    assert [life.sightings[0].becomes for life in lives.values()] == ["delivered", "filtered", ""]
    assert "put back on the list it would be delivered" in ask(place, "numbers", "1", code=0)


def test_text_that_would_steer_a_terminal_is_shown_as_escapes(place: Place) -> None:
    place.flow(source=KEYED)
    with place.queue() as queue:
        queue.publish([], dead=[DeadLetter(line(1, queue.keys.ready), "odd \x1b[31m\u202e")])
    said = ask(place, "numbers", "1", code=0)
    assert r"odd \x1b[31m\u202e" in said
    assert "\x1b" not in said
