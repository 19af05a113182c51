"""`millrace produce` as a real process: real sources, killed and stopped, on a real server."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from millrace.embedded import Embedded
from millrace.practice.site import PracticeSite
from millrace.practice.stream import PracticeStream
from tests.services import QUICKLY, Place

COUNTING = '''\
import threading
from pathlib import Path
from millrace_producer.sources.base import Record, Source


class Counting(Source):
    """Counts without end or rest, and says in a file how far it has read. It can't be asked for a number again."""

    def read(self, resume_from):
        number = 0
        with open("read", "w") as said:
            while True:
                yield Record({"n": number})
                number += 1
                said.seek(0)
                said.write(str(number))
                said.flush()


class Silent(Source):
    """Yields three records and then blocks for good."""

    def read(self, resume_from):
        for number in range(3):
            yield Record({"n": number})
        threading.Event().wait()
'''


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Embedded]:
    """A server of the test's own, to be killed."""
    with Embedded(data_dir=tmp_path / "valkey", aof=True) as server:
        yield server


def sse(stream: PracticeStream, **options: Any) -> dict[str, Any]:
    return {"type": "sse", "url": stream.url, **options}


def on_the_list(client: redis.Redis, place: Place) -> list[Any]:
    """The data of every record on the list, oldest first."""
    return [json.loads(line)["data"] for line in reversed(client.lrange(place.key_of(), 0, -1))]


def events_of(stream: PracticeStream, count: int) -> list[Any]:
    return [json.loads(stream.data(number)) for number in range(count)]


def test_a_stream_that_ends_is_on_the_list_in_order_and_the_exit_code_is_0(place: Place, client: redis.Redis) -> None:
    with PracticeStream(total=120, end=True) as stream:
        place.flow(source=sse(stream))
        producer = place.produce()
        assert producer.wait() == 0, producer.said
        assert on_the_list(client, place) == events_of(stream, 120)
    assert producer.events("producer_done", published=120, ended=True)
    assert place.books().difference == 0


def test_sigterm_ends_with_0_quickly_and_a_restart_goes_on_where_the_list_stops(
    place: Place, client: redis.Redis
) -> None:
    with PracticeStream(rate=500) as stream:
        place.flow(source=sse(stream))
        for _ in range(2):
            before = client.llen(place.key_of())
            producer = place.produce()
            producer.until(lambda before=before: client.llen(place.key_of()) > before + 50)  # type: ignore[misc]
            assert producer.terminate(QUICKLY) == 0, producer.said
        found = on_the_list(client, place)
        assert found == events_of(stream, len(found))
    assert place.books().published == len(found)


def test_sigterm_while_a_silent_source_blocks_ends_with_0_and_what_it_said_is_on_the_list(
    place: Place, client: redis.Redis
) -> None:
    place.module(COUNTING)
    place.flow(source={"type": "theirs:Silent"}, publish={"records": 10, "linger": "60s"})
    producer = place.produce()
    producer.await_event("source_opened")
    assert producer.terminate(QUICKLY) == 0
    found = on_the_list(client, place)
    assert found == [{"n": number} for number in range(len(found))]


def test_sigterm_publishes_everything_that_was_read_from_a_source_that_cant_be_read_again(
    place: Place, client: redis.Redis
) -> None:
    place.module(COUNTING)
    place.flow(source={"type": "theirs:Counting"})
    producer = place.produce()
    producer.until(lambda: client.llen(place.key_of()) > 100)
    assert producer.terminate(QUICKLY) == 0, producer.said
    found = on_the_list(client, place)
    assert found == [{"n": number} for number in range(len(found))]
    assert len(found) >= int((place.folder / "read").read_text())


def test_a_producer_holds_back_at_max_ready_and_goes_on_as_the_list_falls(place: Place, client: redis.Redis) -> None:
    with PracticeStream(total=500, end=True) as stream:
        place.flow(source=sse(stream), queue={"max_ready": 100})
        producer = place.produce()
        producer.await_event("producer_held_back")
        assert 100 <= client.llen(place.key_of()) < 110
        consumer = place.consume()
        assert producer.wait() == 0, producer.said
        consumer.until(lambda: place.books().delivered == 500)
        assert consumer.terminate() == 0
        expected = sorted(event["meta"]["id"] for event in events_of(stream, 500))
    assert sorted(record["meta"]["id"] for record in place.records()) == expected


def test_sigterm_while_held_back_publishes_what_was_read_and_ends_quickly(place: Place, client: redis.Redis) -> None:
    place.module(COUNTING)
    place.flow(source={"type": "theirs:Counting"}, queue={"max_ready": 50})
    producer = place.produce()
    producer.await_event("producer_held_back")
    assert producer.terminate(QUICKLY) == 0, producer.said
    found = on_the_list(client, place)
    assert found == [{"n": number} for number in range(len(found))]
    assert len(found) >= int((place.folder / "read").read_text())


def test_a_refused_source_ends_with_2_and_says_why(place: Place) -> None:
    with PracticeStream() as stream:
        place.flow(source={"type": "sse", "url": stream.url + "/nowhere"})
        producer = place.produce()
        assert producer.wait() == 2
    (told,) = producer.events("producer_failed")
    assert "404" in told["reason"]
    assert "Traceback" not in producer.said


def test_a_source_that_fails_is_opened_again_and_readyz_says_so_meanwhile(place: Place, client: redis.Redis) -> None:
    with PracticeStream(total=20, end=True) as stream:
        for _ in range(2):
            stream.answer_next(503)
        place.flow(source=sse(stream, max_failures=1))
        producer = place.produce(http=True)
        producer.await_event("source_failed")
        assert producer.get("/readyz")[0] == 503
        assert producer.wait() == 0, producer.said
        assert on_the_list(client, place) == events_of(stream, 20)
    assert producer.events("source_failed")[0]["reason"].find("503") > 0


def test_redis_away_at_the_start_is_waited_for(place: Place, server: Embedded) -> None:
    place.redis_url = server.url
    server.kill()
    with PracticeStream(total=30, end=True) as stream:
        place.flow(source=sse(stream))
        producer = place.produce()
        producer.await_event("redis_unavailable")
        server.start()
        assert producer.wait() == 0, producer.said
    assert (place.books().ready, place.books().published) == (30, 30)


def test_redis_killed_in_the_middle_costs_no_event_and_doubles_none(place: Place, server: Embedded) -> None:
    place.redis_url = server.url
    with PracticeStream(rate=500, total=500, end=True) as stream, redis.Redis.from_url(server.url) as client:
        place.flow(source=sse(stream))
        producer = place.produce()
        producer.until(lambda: client.llen(place.key_of()) > 50)
        server.kill()
        producer.await_event("redis_unavailable")
        server.start()
        assert producer.wait() == 0, producer.said
        assert on_the_list(client, place) == events_of(stream, 500)
    assert len(producer.events("redis_unavailable")) == len(producer.events("redis_available")) >= 1


def test_sigterm_while_redis_is_away_ends_with_1_after_the_grace_and_says_what_was_left(
    place: Place, server: Embedded
) -> None:
    place.redis_url = server.url
    place.module(COUNTING)
    place.flow(source={"type": "theirs:Counting"})
    producer = place.produce(MILLRACE_GRACE_SECONDS="0.5")
    producer.until(lambda: place.books().published > 0)
    server.kill()
    producer.await_event("redis_unavailable")
    assert producer.terminate(QUICKLY) == 1
    assert producer.events("records_not_published")[0]["records"] > 0
    assert "Traceback" not in producer.said


def test_sigterm_with_nothing_to_publish_ends_with_0_quickly_though_redis_is_away(
    place: Place, server: Embedded
) -> None:
    place.redis_url = server.url
    with PracticeStream(total=10) as stream:  # and then silence
        place.flow(source=sse(stream))
        producer = place.produce()
        producer.until(lambda: place.books().published == 10)
        server.kill()
        assert producer.terminate(QUICKLY) == 0, producer.said


def test_a_crawl_killed_in_the_middle_starts_over_and_every_quote_is_on_the_list_once(
    place: Place, client: redis.Redis
) -> None:
    with PracticeSite(delay=0.05) as site:
        quick = {"DOWNLOAD_DELAY": 0, "AUTOTHROTTLE_ENABLED": False}
        place.flow(
            source={
                "type": "scrapy",
                "spider": "quotes",
                "args": {"start_url": site.url},
                "settings": quick,
                "key": "content",
            },
            dedupe={"window": "1h"},
        )
        killed = place.produce()
        killed.until(lambda: client.llen(place.key_of()) >= 30)
        killed.kill()
        assert client.llen(place.key_of()) < 100
        again = place.produce()
        assert again.wait() == 0, again.said
        quotes = site.quotes
    found = [quote["text"] for quote in on_the_list(client, place)]
    assert sorted(found) == sorted(quote["text"] for quote in quotes)
    assert again.events("producer_done")[0]["duplicates"] >= 30


def test_a_half_open_source_does_not_keep_a_producer_from_stopping(place: Place) -> None:
    class Mute(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            connected.set()
            over.wait(30)

    connected, over = threading.Event(), threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mute) as mute:
        threading.Thread(target=mute.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        place.flow(source={"type": "sse", "url": f"http://127.0.0.1:{mute.server_address[1]}/"})
        producer = place.produce()
        assert connected.wait(20)
        assert producer.terminate(QUICKLY) == 0
        over.set()
        mute.shutdown()
