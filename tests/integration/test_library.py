"""`millrace.reader` and `millrace.writer`: what a program of one's own is promised, on a real server."""

from __future__ import annotations

import decimal
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import redis

import millrace
from millrace_consumer.reader import Reader
from millrace_pipeline.errors import ConfigError, LeaseLost, QueueUnavailable, RecordError
from millrace_pipeline.process import metrics
from millrace_pipeline.queue import DeadLetters
from millrace_producer.writer import Writer
from tests.conftest import eventually
from tests.services import Place, Service

THEIRS = """\
from pydantic import BaseModel


class Numbered(BaseModel):
    n: int
    word: str = "none"


def no_fives(record):
    return None if record["n"] % 5 == 0 else record


def doubled(record):
    return [record, record]
"""


@pytest.fixture(autouse=True)
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The program runs in the place's folder, as its environment says."""
    place.module(THEIRS)
    place.flow()
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("REDIS_URL", place.redis_url)
    monkeypatch.delenv("MILLRACE_FLOWS", raising=False)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    yield
    sys.modules.pop("theirs", None)


def reading(**options: Any) -> Reader:
    return millrace.reader("numbers", **{"until_empty": True, **options})


def all_of(messages: Reader) -> list[int]:
    return [message.data["n"] for message in messages]


class TestReader:
    def test_messages_come_in_order_with_their_envelope_and_are_done_once_checkpointed(self, place: Place) -> None:
        place.publish(range(25))
        with reading() as messages:
            seen = list(messages)
            assert place.books().in_flight == 25
            messages.checkpoint()
            assert (place.books().in_flight, place.books().delivered) == (0, 25)
        assert [message.data for message in seen] == [{"n": n} for n in range(25)]
        assert (seen[7].id, seen[7].source, seen[7].type, seen[7].model) == ("7", "numbers", "record", None)
        assert seen[7].time is not None
        assert abs((datetime.now(UTC) - seen[7].time).total_seconds()) < 600

    def test_what_was_handed_out_and_not_checkpointed_comes_again_at_once(self, place: Place) -> None:
        place.flow(lease="1h")
        place.publish(range(25))
        with reading() as messages:
            for message in messages:
                if message.data["n"] == 13:
                    messages.checkpoint({"last": 13})
                if message.data["n"] == 17:
                    break
        books = place.books()
        assert (books.delivered, books.lag, books.difference) == (14, 11, 0)
        with reading() as messages:
            assert messages.state == {"last": 13}
            assert all_of(messages) == list(range(14, 25))

    def test_a_program_that_is_killed_goes_on_from_its_state_and_each_message_counts_once_in_it(
        self, place: Place
    ) -> None:
        place.flow(batch={"records": 7})
        place.publish(range(200))
        (place.folder / "program.py").write_text(SUM)
        for messages_to_live in (30, 1, 50, 20, 1000):
            program = subprocess.run([sys.executable, "program.py", str(messages_to_live)], timeout=60)
            assert program.returncode == (0 if messages_to_live == 1000 else -signal.SIGKILL)
        with reading() as messages:
            assert messages.state == {"sum": sum(range(200)), "count": 200}
        books = place.books()
        assert (books.delivered, books.lag, books.difference) == (200, 0, 0)

    def test_the_state_is_a_readers_own_and_readable_with_redis_cli(self, place: Place) -> None:
        place.publish(range(2))
        with reading(name="totals") as messages:
            assert messages.state is None
            assert all_of(messages) == [0, 1]
            messages.checkpoint([1, {"deep": None}])
            assert messages.state == [1, {"deep": None}]
            assert messages.redis.hget(messages.queue.keys.states, "totals") == b'[1,{"deep":null}]'
            messages.checkpoint()
            assert messages.state == [1, {"deep": None}]
        with reading() as messages:
            assert messages.state is None
        with reading(name="totals") as messages:
            assert messages.state == [1, {"deep": None}]

    def test_a_state_that_is_no_json_is_refused_and_nothing_is_done(self, place: Place) -> None:
        place.publish(range(3))
        with reading() as messages:
            assert all_of(messages) == [0, 1, 2]
            with pytest.raises(RecordError):
                messages.checkpoint({"a": object()})
            assert place.books().delivered == 0
            messages.checkpoint({"a": 1})
        assert place.books().delivered == 3

    def test_leases_are_renewed_while_the_program_takes_its_time(self, place: Place) -> None:
        place.flow(lease="300ms")
        place.publish(range(20))
        with reading() as messages:
            walking = iter(messages)
            for _ in range(15):  # of two batches
                next(walking)
            asked = [lease.seconds_left for lease in place.books().leases]
            assert len(asked) == 2
            with place.queue() as other:
                for _ in range(20):
                    threading.Event().wait(0.05)  # in which others look for what was left behind
                    assert other.reclaim() is None
            messages.checkpoint()
            assert [next(walking).data["n"] for _ in range(5)] == list(range(15, 20))

    def test_a_lease_that_was_lost_is_said_and_neither_state_nor_counts_change(self, place: Place) -> None:
        place.publish(range(20))
        with reading() as messages, place.queue() as other:
            walking = iter(messages)
            for _ in range(12):
                next(walking)
            first = place.books().leases[0].batch
            messages.redis.zadd(messages.queue.keys.leases, {first: 0})
            taken = other.reclaim()
            assert taken is not None
            assert taken.id == first
            with pytest.raises(LeaseLost):
                messages.checkpoint({"seen": 12})
            assert (place.books().delivered, messages.state) == (0, None)
            other.ack(taken, delivered=10)
        with reading() as messages:
            assert (messages.state, all_of(messages)) == (None, list(range(10, 20)))

    def test_transforms_and_the_model_apply_and_what_they_leave_out_or_refuse_is_counted(self, place: Place) -> None:
        place.flow(transforms=["theirs:no_fives"], model="theirs:Numbered")
        place.publish(range(12))
        messages: Reader
        with place.queue() as queue:
            queue.ask(("LPUSH", place.key_of(), b'{"n": "many"}', b"{no json", b'{"n": 99}'))
        with reading() as messages:
            seen = list(messages)
            messages.checkpoint()
        assert [message.data["n"] for message in seen] == [1, 2, 3, 4, 6, 7, 8, 9, 11, 99]
        assert seen[0].data == {"n": 1, "word": "none"}
        assert seen[0].model is not None
        assert type(seen[0].model).__name__ == "Numbered"
        books = place.books()
        assert (books.delivered, books.filtered, books.dead, books.foreign, books.difference) == (10, 3, 2, 3, 0)

    def test_a_record_that_became_two_messages_is_done_after_the_second(self, place: Place) -> None:
        place.flow(transforms=["theirs:doubled"])
        place.publish(range(3))
        with reading() as messages:
            walking = iter(messages)
            for handed, done in ((1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3)):
                next(walking)
                messages.checkpoint()
                assert (place.books().delivered, handed) == (done, handed)

    def test_a_list_of_nothing_to_hand_out_is_done_without_a_message(self, place: Place) -> None:
        place.flow(transforms=["theirs:no_fives"])
        place.publish(range(0, 200, 5))
        with reading() as messages:
            assert list(messages) == []
        assert (place.books().filtered, place.books().lag) == (40, 0)

    def test_a_message_that_makes_its_program_fail_every_time_ends_as_a_dead_letter(self, place: Place) -> None:
        place.flow(max_attempts=2)
        place.publish(range(20))
        failures = 0
        while place.books().lag:
            try:
                with reading() as messages:
                    for message in messages:
                        if message.data["n"] == 13:
                            raise KeyError("thirteen")
                        messages.checkpoint()
            except KeyError:
                failures += 1
                assert failures < 20
        with place.queue() as queue:
            (letter,) = DeadLetters(queue).newest()
        assert b'"data":{"n":13}' in letter.record
        assert letter.reason.startswith("killed its consumer")
        assert (place.books().delivered, place.books().difference) == (19, 0)

    def test_leaving_in_good_order_or_by_ctrl_c_counts_no_attempt(self, place: Place) -> None:
        place.flow(lease="1h")
        place.publish(range(3))

        def interrupted() -> None:
            with reading() as messages:
                next(iter(messages))
                raise KeyboardInterrupt

        for _ in range(5):
            with pytest.raises(KeyboardInterrupt):
                interrupted()
        assert [lease.attempts for lease in place.books().leases] == [0]

    def test_a_batch_that_it_takes_over_is_counted_as_a_consumer_s_is(self, place: Place) -> None:
        place.flow()
        place.publish(range(3))
        with place.queue() as queue:
            left = queue.claim(3)
            assert left is not None
            queue.release(left)
        counted = metrics.reclaimed.labels("numbers")
        before = counted._value.get()
        with reading() as messages:
            assert [message.data["n"] for message in messages] == [0, 1, 2]
        assert counted._value.get() == before + 1

    def test_it_waits_for_messages_and_stops_when_told(self, place: Place) -> None:
        seen: list[int] = []
        with reading(until_empty=False) as messages:

            def walk() -> None:
                for message in messages:
                    seen.append(message.data["n"])
                    messages.checkpoint()

            walking = threading.Thread(target=walk)
            walking.start()
            place.publish([1, 2])
            eventually(lambda: seen == [1, 2])
            place.publish([3])
            eventually(lambda: seen == [1, 2, 3])
            messages.stop()
            walking.join(20)
            assert not walking.is_alive()
        assert place.books().delivered == 3

    def test_two_programs_share_a_list(self, place: Place) -> None:
        place.publish(range(60))
        first: list[int] = []
        second: list[int] = []

        def walk(into: list[int]) -> None:
            with reading() as messages:
                for message in messages:
                    into.append(message.data["n"])
                    messages.checkpoint()

        threads = [threading.Thread(target=walk, args=(into,)) for into in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(first + second) == list(range(60))

    def test_a_flow_that_is_not_there_is_named(self) -> None:
        with pytest.raises(ConfigError, match="no flow 'nubmers'; there are: numbers"):
            millrace.reader("nubmers")


class TestFrames:
    @pytest.mark.parametrize("form", ["arrow", "pandas", "polars"])
    def test_batches_are_data_frames_with_the_models_columns(self, place: Place, form: Any) -> None:
        place.flow(model="theirs:Numbered", batch={"records": 8})
        place.publish(range(20))
        with reading() as messages:
            frames = []
            for frame in messages.batches(form):
                frames.append(frame)
                messages.checkpoint(len(frames))
        assert type(frames[0]) is {"arrow": pa.Table, "pandas": pd.DataFrame, "polars": pl.DataFrame}[form]
        rows = [
            row
            for frame in frames
            for row in (
                frame.to_pylist() if form == "arrow" else frame.to_dict("records") if form == "pandas" else frame.rows()
            )
        ]
        assert [row[0] if form == "polars" else row["n"] for row in rows] == list(range(20))
        assert (place.books().delivered, place.books().lag) == (20, 0)

    def test_without_a_model_the_columns_are_id_time_and_data(self, place: Place) -> None:
        place.publish([7])
        with reading() as messages:
            (table,) = messages.batches()
            messages.checkpoint()
        assert table.column_names == ["id", "time", "data"]
        assert table.column("data").to_pylist() == ['{"n":7}']

    def test_a_record_that_fits_no_column_becomes_a_dead_letter(self, place: Place) -> None:
        place.flow(model="theirs:Numbered")
        place.publish([1, 2**70, 3])
        with reading() as messages:
            (table,) = messages.batches()
            messages.checkpoint()
        assert table.column("n").to_pylist() == [1, 3]
        assert (place.books().dead, place.books().delivered) == (1, 2)

    def test_a_batch_lingers_for_more(self, place: Place) -> None:
        place.flow(batch={"records": 10, "linger": "1h"})
        place.publish(range(4))
        with reading(until_empty=False) as messages:
            tables: list[pa.Table] = []
            walking = threading.Thread(target=lambda: tables.append(next(messages.batches())))
            walking.start()
            eventually(lambda: place.books().in_flight == 4)
            place.publish(range(4, 10))
            walking.join(20)
            assert [len(table) for table in tables] == [10]

    @pytest.mark.parametrize(
        "make",
        [
            pd.DataFrame,
            pl.DataFrame,
            lambda columns: pa.table(columns),
            lambda columns: pa.table(columns).to_reader(max_chunksize=1),
        ],
        ids=["pandas", "polars", "arrow", "an arrow stream"],
    )
    def test_a_data_frames_rows_become_records(self, place: Place, make: Any) -> None:
        moment = datetime(2026, 11, 21, 1, 30, 0, 123456, tzinfo=UTC)
        with millrace.writer("numbers") as writer:
            frame = make({"n": [1, None], "word": ["ä", None], "at": [moment, moment], "id": ["a", "b"]})
            writer.write_dataframe(frame, key="id")
        with reading() as messages:
            seen = list(messages)
            messages.checkpoint()
        assert [message.id for message in seen] == ["a", "b"]
        assert [(message.data["n"], message.data["word"]) for message in seen] == [(1, "ä"), (None, None)]
        assert datetime.fromisoformat(seen[0].data["at"]) == moment

    def test_types_that_json_does_not_have_are_written_as_text(self, place: Place) -> None:
        with millrace.writer("numbers") as writer:
            writer.write_dataframe(
                pa.table(
                    {
                        "price": [decimal.Decimal("1.10")],
                        "nanoseconds": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")),
                        "tags": [["a", "b"]],
                        "bytes": [b"\x00\xff"],
                    }
                )
            )
        with reading() as messages:
            (message,) = messages
            messages.checkpoint()
        assert message.data == {
            "price": "1.10",
            "nanoseconds": "2023-11-14T22:13:20.123456",
            "tags": ["a", "b"],
            "bytes": "AP8=",
        }

    def test_what_is_no_data_frame_or_has_no_such_column_is_refused(self) -> None:
        with millrace.writer("numbers") as writer:
            with pytest.raises(TypeError, match="list is no data frame"):
                writer.write_dataframe([{"n": 1}])
            with pytest.raises(RecordError, match="no column 'id': there are n"):
                writer.write_dataframe(pa.table({"n": [1]}), key="id")


class TestWriter:
    def test_what_is_written_is_on_the_list_after_a_flush_and_what_is_left_when_the_block_ends(
        self, place: Place
    ) -> None:
        with millrace.writer("numbers") as writer:
            for n in range(25):
                writer.write({"n": n})
            writer.flush()
            assert place.books().ready == writer.published == 25
            writer.write(b'{"n": 25}', key="twenty-five", type="Number", time=datetime(2020, 2, 29, tzinfo=UTC))
        place.deliver_the_rest()
        place.assert_once(range(26))

    def test_a_position_is_kept_with_the_record_and_read_on_restart(self, place: Place) -> None:
        with millrace.writer("numbers") as writer:
            assert writer.position is None
            for n in range(10):
                writer.write({"n": n}, position={"offset": n})
        with millrace.writer("numbers") as writer:
            assert writer.position == {"offset": 9}
        assert place.books().checkpoints == {"numbers": {"offset": 9}}

    def test_the_flows_dedupe_leaves_out_what_is_written_again(self, place: Place) -> None:
        place.flow(dedupe={"window": "1h"})
        for _ in range(2):
            with millrace.writer("numbers") as writer:
                for n in range(10):
                    writer.write({"n": n}, key=str(n))
        assert (writer.published, writer.duplicates) == (0, 10)
        assert place.books().ready == 10

    @pytest.mark.parametrize("data", [{"a": object()}, b"{no json", b'{"a": "\xff"}'])
    def test_what_is_no_json_is_refused_at_once(self, place: Place, data: Any) -> None:
        with millrace.writer("numbers") as writer:
            with pytest.raises(RecordError):
                writer.write(data)
            writer.write({"n": 1})
        assert (place.books().ready, place.books().dead) == (1, 0)

    def test_it_blocks_while_the_list_is_full(self, place: Place) -> None:
        place.flow(queue={"max_ready": 20})
        written: list[int] = []

        def write(writer: Writer) -> None:
            for n in range(80):
                writer.write({"n": n})
                written.append(n)

        with millrace.writer("numbers") as writer:
            writing = threading.Thread(target=write, args=(writer,))
            writing.start()
            eventually(lambda: place.books().ready >= 20)
            with pytest.raises(QueueUnavailable):
                writer.flush(0.5)
            assert len(written) < 80
            with reading(until_empty=False) as messages:
                for number, message in enumerate(messages):
                    assert message.data["n"] == number
                    messages.checkpoint()
                    if number == 79:
                        break
            writing.join(20)
        assert place.books().delivered == 80

    def test_the_native_client_speaks_to_the_same_redis(self, place: Place) -> None:
        with millrace.writer("numbers") as writer:
            writer.write({"n": 1})
            writer.flush()
            assert isinstance(writer.redis, redis.Redis)
            assert writer.redis.llen(writer.queue.keys.ready) == 1

    def test_a_program_that_writes_what_it_reads_is_delivered_by_the_services(self, place: Place) -> None:
        place.flow("raw")
        place.publish(range(30), "raw")
        with millrace.reader("raw", until_empty=True) as messages, millrace.writer("numbers") as writer:
            for message in messages:
                writer.write({"n": message.data["n"] + 100}, key=message.id)
                writer.flush()
                messages.checkpoint()
        delivering: Service = place.deliver_the_rest()
        assert delivering.wait() == 0
        place.assert_once(range(100, 130))


SUM = """\
import os, signal, sys
import millrace

with millrace.reader("numbers", until_empty=True) as messages:
    state = messages.state or {"sum": 0, "count": 0}
    for handled, message in enumerate(messages, 1):
        state = {"sum": state["sum"] + message.data["n"], "count": state["count"] + 1}
        if state["count"] % 3 == 0:
            messages.checkpoint(state)
        if handled == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
    messages.checkpoint(state)
"""
