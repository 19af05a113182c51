"""The practice stream: what the demo, the compose stack and the tests read instead of Wikimedia."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import requests

from millrace.practice.stream import PracticeStream
from millrace.practice.timeline import Timeline
from millrace_pipeline.envelope import Record
from millrace_producer.sources.sse import SseSource
from tests.conftest import DATA, eventually
from tests.services import Place

START = 1_795_222_800.0


def read(url: str, resume_from: str | None = None, count: int | None = None, **options: Any) -> list[Record]:
    source = SseSource(url=url, backoff_initial=0.01, **({"key": "/meta/id", "time": "/meta/dt"} | options))
    reading = source.read(resume_from)
    came = list(islice(reading, count))
    reading.close()  # type: ignore[attr-defined]  # a generator
    assert all(isinstance(record, Record) for record in came)
    return came  # type: ignore[return-value]


def test_the_same_seed_and_start_give_the_same_stream() -> None:
    with PracticeStream(total=300, seed=7, start=START, end=True) as one:
        first = read(one.url)
    with PracticeStream(total=300, seed=7, start=START, end=True) as other:
        again = read(other.url)
    with PracticeStream(total=300, seed=8, start=START, end=True) as different:
        third = read(different.url)
    assert len(first) == 300
    assert first == again
    assert not {record.key for record in first} & {record.key for record in third}


@pytest.mark.parametrize("rate", [0, 7.3, 100_000.0])
def test_a_client_goes_on_exactly_on_a_server_started_later(rate: float) -> None:
    with PracticeStream(rate=rate, total=50, seed=3, start=START, end=True) as stream:
        whole = read(stream.url)
    with PracticeStream(rate=rate, total=50, seed=3, start=START + 1234.567, end=True) as later:
        for after in (0, 1, 24, 48):
            assert read(later.url, whole[after].position) == whole[after + 1 :]
        assert read(later.url, whole[-1].position) == []


def test_a_dropped_client_gets_every_event_once() -> None:
    with PracticeStream(total=500, seed=1, end=True) as stream:
        stream.drop_next(0, 100, 1, 250)
        came = read(stream.url)
        assert [record.data for record in came] == [stream.data(number) for number in range(500)]
        assert len(stream.visits) == 6


def test_the_ids_are_wikimedias_kafka_positions() -> None:
    with PracticeStream(total=3, start=START, end=True) as stream:
        positions = [json.loads(record.position) for record in read(stream.url)]
    assert positions[2] == [
        {"topic": "eqiad.mediawiki.recentchange", "partition": 0, "offset": 5_600_000_002, "timestamp": 1795222800002},
        {"topic": "codfw.mediawiki.recentchange", "partition": 0, "offset": -1},
    ]


def test_an_id_that_names_only_a_time_resumes_by_time() -> None:
    with PracticeStream(total=10, start=START, end=True) as stream:
        last_id = f'[{{"topic":"eqiad.mediawiki.recentchange","partition":0,"timestamp":{int(START * 1000) + 4}}}]'
        assert [record.data for record in read(stream.url, last_id)] == [stream.data(number) for number in range(4, 10)]


@pytest.mark.parametrize(
    "last_id", ["7", "[]", "{}", "null", '[{"topic":"eqiad.mediawiki.recentchange","offset":"x"}]']
)
def test_an_id_of_another_stream_is_a_bad_request(last_id: str) -> None:
    with PracticeStream() as stream:
        assert requests.get(stream.url, headers={"Last-Event-ID": last_id}, timeout=5).status_code == 400


def test_since_begins_at_that_time() -> None:
    with PracticeStream(rate=1, total=60, start=START, end=True) as stream:
        assert [record.data for record in read(stream.url, since=START + 57.5)] == [stream.data(58), stream.data(59)]
        millis = requests.get(f"{stream.url}?since={int(START * 1000) + 59_000}", timeout=5)
        assert millis.content.count(b"\ndata: ") == 1
        assert requests.get(f"{stream.url}?since=soon", timeout=5).status_code == 400


def test_the_events_are_of_the_recorded_schema() -> None:
    with PracticeStream(total=6000, seed=2, end=True) as stream:
        texts = [record.data for record in read(stream.url)]
    events = [json.loads(text) for text in texts]
    kinds = Counter(event["type"] for event in events)
    assert {"edit", "categorize", "new", "log", "142"} == set(kinds)
    assert kinds["edit"] > kinds["categorize"] > kinds["new"] > kinds["log"]
    assert len({event["meta"]["id"] for event in events}) == 6000
    assert 5 < sum(event["meta"]["domain"] == "canary" for event in events) < 100
    assert max(event.get("id", 0) for event in events) > 2**31
    logs = [event for event in events if event["type"] == "log"]
    assert {type(event["log_params"]) for event in logs} == {dict, list}
    assert {"id" in event for event in logs} == {True, False}
    assert 900 < sum(map(len, texts)) / len(texts) < 1500
    assert sum(not text.isascii() for text in texts) > 3000


def test_the_events_have_the_fields_of_recorded_ones(wikimedia_events: list[bytes]) -> None:
    def shape(event: dict[str, Any]) -> dict[str, str]:
        return {name: type(value).__name__ for name, value in event.items() if name != "log_params"}

    recorded: dict[str, set[tuple[str, str]]] = {}
    for event in map(json.loads, wikimedia_events):
        recorded.setdefault(event["type"], set()).update(shape(event).items())
        recorded.setdefault("meta", set()).update(shape(event["meta"]).items())
    with PracticeStream(total=3000, end=True) as stream:
        for event in (json.loads(record.data) for record in read(stream.url)):
            assert shape(event["meta"]).items() <= recorded["meta"]
            if event["meta"]["domain"] != "canary":
                assert shape(event).items() <= recorded[event["type"]], event["type"]


def test_events_come_at_their_rate_and_near_now() -> None:
    with PracticeStream(rate=200) as stream:
        began = time.time()
        came = read(stream.url, count=300)
        took = time.time() - began
    assert 1.2 < took < 6
    assert came[0].time is not None
    assert abs(came[0].time.timestamp() - began) < 5
    assert came[299].time is not None
    assert came[299].time.timestamp() - came[0].time.timestamp() == pytest.approx(299 / 200, abs=0.002)


def test_a_client_that_was_away_gets_what_it_missed_at_once() -> None:
    with PracticeStream(rate=100, start=time.time() - 20) as stream:
        began = time.monotonic()
        assert len(read(stream.url, count=1900)) == 1900
        assert time.monotonic() - began < 10


def test_after_the_last_event_the_stream_stays_open_with_comments() -> None:
    with PracticeStream(total=1, keep_alive=0.05) as stream:
        answer = requests.get(stream.url, stream=True, timeout=5)
        said = b""
        while said.count(b"\n:\n\n") < 3:
            said += answer.raw.read1(1000, decode_content=True)
        assert said.startswith(b":ok\n\nevent: message\nid: [{")
        assert said.count(b"\ndata: ") == 1
        answer.close()
        eventually(lambda: stream.connections == 0)


def test_a_recording_is_replayed_byte_for_byte_compressed_and_cut(wikimedia_events: list[bytes]) -> None:
    with PracticeStream(replay=DATA / "recentchange.jsonl", gzip=True, chunk_bytes=1000, end=True) as stream:
        assert [record.data for record in read(stream.url)] == wikimedia_events
        assert stream.visits[0].headers["accept-encoding"] == "gzip, deflate"


def test_several_clients_are_served_at_once() -> None:
    counts: list[int] = []
    with PracticeStream(total=1000, end=True) as stream:
        clients = [threading.Thread(target=lambda: counts.append(len(read(stream.url)))) for _ in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(60)
    assert counts == [1000] * 4


def test_closing_cuts_its_clients_off() -> None:
    stream = PracticeStream(total=1)
    stream.start()
    answer = requests.get(stream.url, stream=True, timeout=5)
    answer.raw.read1(10)
    began = time.monotonic()
    stream.close()
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        list(answer.iter_content(1000))
    assert time.monotonic() - began < 5


def test_the_command_serves_until_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "millrace.practice.stream", "--port", "0", "--rate", "500", "--seed", "4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        assert len(read(url, count=20)) == 20
        assert requests.get(url.rpartition("/v2/")[0] + "/healthz", timeout=5).text == "ok\n"
        assert requests.get(url + "s", timeout=5).status_code == 404
        answer = requests.get(url, stream=True, timeout=5)
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
        assert time.monotonic() - began < 5
        answer.close()


@pytest.mark.parametrize("rate", [0, 0.3, 1, 7.3, 999, 2000, 123_456.7])
def test_every_id_leads_back_to_its_number_and_its_time(rate: float) -> None:
    timeline = Timeline(1_795_222_800_123, rate)
    other = Timeline(5, rate)
    for number in [*range(50), 999, 123_456_789]:
        assert other.resumed(timeline.id_of(number)) == (number + 1, timeline)
        assert timeline.first_since(timeline.moment_of(number)) <= number
        assert timeline.moment_of(timeline.first_since(timeline.moment_of(number))) == timeline.moment_of(number)


def test_the_example_keeps_new_articles(place: Place) -> None:
    place.example("sse")
    with PracticeStream(total=400, seed=1, end=True) as stream:
        producer = place.produce("articles", STREAM_URL=stream.url)
        assert producer.wait() == 0, producer.said
        events = [json.loads(stream.data(number)) for number in range(400)]
    place.deliver_the_rest()
    written = [line for path in (place.folder / "data").rglob("*.jsonl") for line in path.read_text().splitlines()]
    new = [event for event in events if event["type"] == "new" and event["namespace"] == 0]
    assert sorted(json.loads(line)["title"] for line in written) == sorted(event["title"] for event in new)
    assert 0 < len(new) < 400
    assert place.books("articles").filtered == 400 - len(new)
