"""The examples that keep Wikipedia's edits: as CSV in S3, and as a lake that DuckDB reads."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from millrace.practice.stream import PracticeStream
from millrace_consumer.readback import BATCH_ID
from tests.contracts.object_store import ObjectStore
from tests.services import Place

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EVENTS = 450
COLUMNS = ["id", "time", "wiki", "type", "title", "user", "bot", "comment", "bytes_before", "bytes_after"]


def sent(stream: PracticeStream) -> list[dict[str, Any]]:
    """The events that the flows deliver."""
    events = [json.loads(stream.data(number)) for number in range(EVENTS)]
    return [event for event in events if event["meta"]["domain"] != "canary"]


class Bucket:
    """What the first example has put there."""

    def __init__(self, store: ObjectStore, place: Place) -> None:
        self.store, self.place = store, place
        options = store.options()
        self.environ = {
            "LINGER": "100ms",
            "EDITS": store.url(place.folder),
            "AWS_ENDPOINT_URL": options["endpoint"],
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": options["region"],
            "AWS_ACCESS_KEY_ID": options["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": options["secret_access_key"],
        }

    @property
    def objects(self) -> dict[str, bytes]:
        return self.store.objects(self.place.folder)

    def rows(self) -> list[dict[str, str]]:
        found = []
        for name, body in self.objects.items():
            assert BATCH_ID.fullmatch(name.removesuffix(".csv"))
            reader = csv.DictReader(io.StringIO(body.decode(), newline=""))
            rows = list(reader)
            assert reader.fieldnames == COLUMNS
            assert 0 < len(rows) <= 100
            found += rows
        return found


def test_each_batch_of_edits_is_a_csv_in_s3_and_no_edit_is_lost_or_there_twice(
    place: Place, store: ObjectStore
) -> None:
    bucket = Bucket(store, place)
    place.example("wikipedia-s3-csv")
    place.flow("edits", **{**place.flows["edits"], "lease": "1s"})  # not a minute until another takes over
    with PracticeStream(total=EVENTS, end=True) as stream:
        producer = place.produce("edits", WIKIPEDIA_URL=stream.url)
        assert producer.wait() == 0, producer.said
        events = sent(stream)
    killed = place.consume(MILLRACE_KILLPOINT="sink.after_put:2", **bucket.environ)
    assert killed.wait() == -signal.SIGKILL
    assert len(bucket.objects) == 2
    # The second object is durable, but nobody had come to say so: its records are still the queue's.
    books = place.books("edits")
    assert books.delivered + books.filtered == 100
    rest = place.consume("--until-empty", **bucket.environ)
    assert rest.wait() == 0, rest.said
    rows = bucket.rows()
    assert sorted(row["id"] for row in rows) == sorted(event["meta"]["id"] for event in events)
    by_id = {event["meta"]["id"]: event for event in events}
    for row in rows:
        event = by_id[row["id"]]
        assert row["wiki"] == event["wiki"]
        assert row["bytes_after"] == str(event.get("length", {}).get("new", ""))
    assert any(row["bytes_after"] == "" for row in rows), "an event without a length"
    verify = place.start("verify", "--sink", **bucket.environ)
    assert verify.wait() == 0, verify.printed + verify.said
    assert "each once (by its /meta/id)" in verify.printed


def test_records_wait_in_the_queue_until_the_store_has_their_object(place: Place, store: ObjectStore) -> None:
    bucket = Bucket(store, place)
    place.example("wikipedia-s3-csv")
    with PracticeStream(total=EVENTS, end=True) as stream:
        assert place.produce("edits", WIKIPEDIA_URL=stream.url).wait() == 0
    published = place.books("edits").published
    store.proxy.refuse()
    try:
        consumer = place.consume("--until-empty", **bucket.environ)
        reason = consumer.await_event("sink_unavailable")["reason"]
        assert bucket.environ["EDITS"] in reason
        books = place.books("edits")
        assert (books.lag, books.delivered, books.difference) == (published, 0, 0)
    finally:
        store.proxy.refuse(False)
    assert consumer.wait() == 0, consumer.said
    books = place.books("edits")
    assert (books.lag, books.delivered + books.filtered) == (0, published)
    assert len(bucket.rows()) == books.delivered


def test_the_lake_answers_the_question_of_its_readme(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.example("wikipedia-lake")
    with PracticeStream(total=EVENTS, end=True) as stream:
        run = place.start("run", "--until-empty", WIKIPEDIA_URL=stream.url, LINGER="100ms")
        assert run.wait() == 0, run.said
        events = sent(stream)
    monkeypatch.chdir(place.folder)
    query = re.search(r"```sql\n(.*?);\n```", (EXAMPLES / "wikipedia-lake" / "README.md").read_text(), re.DOTALL)
    assert query
    changes = [event for event in events if event["type"] in ("edit", "new")]
    edits = Counter(event["wiki"] for event in changes)
    bots = Counter(event["wiki"] for event in changes if event["bot"])
    with duckdb.connect() as connection:
        # The practice stream has a clock of its own; the README's reader asks about the last week.
        text = query[1].replace("current_date - 7", "DATE '2000-01-01'")
        found = connection.execute(text).fetchall()
        days = connection.execute(
            "SELECT count(*) FROM read_parquet('data/lake/edits/**/*.parquet', hive_partitioning = true) "
            "WHERE date = CAST(timezone('UTC', time) AS DATE)"
        ).fetchall()
    assert {wiki: (count, by_bots) for wiki, count, by_bots, _ in found} == {
        wiki: (count, bots[wiki]) for wiki, count in edits.most_common(10)
    }
    assert days == [(len(events),)]
    assert all(re.fullmatch(r"wiki=\w+", path.parent.parent.name) for path in Path("data/lake").rglob("*.parquet"))
