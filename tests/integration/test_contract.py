"""A flow's contract: what becomes of records that don't fit its model, from the source to the sink and back."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

import millrace
from millrace.cli import variants as variants_cli
from millrace.cli.status import app as status_app
from millrace.cli.verify import app as verify_app
from millrace.inline import run_inline
from millrace_consumer.runner import Consumer
from millrace_pipeline.flows.flow import load
from millrace_pipeline.queue import DeadLetters, Variants
from millrace_producer.runner import Producer
from tests.queues import Queue
from tests.services import Place, read

THEIRS = '''\
from pydantic import BaseModel, ConfigDict, Field

from millrace_producer.sources.base import Record, Source


class Place(BaseModel):
    lat: float


class Sale(BaseModel):
    n: int
    price: float = Field(0.0, alias="$price")
    place: Place | None = None


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    n: int


class Sales(Source):
    """Sells, and changes its mind about what a sale looks like."""

    def read(self, resume_from):
        for number, data in enumerate(SALES):
            if resume_from is None or number > resume_from:
                yield Record(data, key=str(number), position=number)


SALES = [
    {"n": 0, "$price": 1.5},
    {"n": 1, "currency": "EUR"},
    {"n": "two"},
    {"$price": 3},
    {"n": 4, "place": {"lat": 1, "lon": 2}},
    {"n": 5, "$price": "5.5", "place": None},
]


def but_no_fives(record):
    return None if record.get("n") == 5 else record
'''

MISFITS = {
    1: "does not fit Sale: currency: Extra inputs are not permitted",
    2: "does not fit Sale: n: Input should be a valid integer, unable to parse string as an integer",
    3: "does not fit Sale: n: Field required",
    4: "does not fit Sale: place.lon: Extra inputs are not permitted",
}


@pytest.fixture
def sales(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place.module(THEIRS)
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("REDIS_URL", place.redis_url)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    yield place
    sys.modules.pop("theirs", None)


def flow(place: Place, contract: str | None, **options: Any) -> None:
    held = {"contract": contract} if contract else {}
    place.flow(**{"source": {"type": "theirs:Sales"}, "model": "theirs:Sale", **held, **options})


def produce(place: Place) -> None:
    never = threading.Event()
    loaded = load(place.folder / "flows.yaml")["numbers"]
    Producer(loaded, place.redis_url, stopping=never, give_up=never).run()


def consume(place: Place) -> None:
    never = threading.Event()
    loaded = load(place.folder / "flows.yaml")["numbers"]
    Consumer(loaded, place.redis_url, stopping=never, give_up=never, until_empty=True).run()


def run(place: Place) -> None:
    produce(place)
    consume(place)


def keys_in(place: Place) -> list[int]:
    """Which of the sales are in the files, by what they hold."""
    theirs = [json.dumps(sale) for sale in __import__("theirs").SALES]
    return sorted(theirs.index(json.dumps(record)) for record in place.records())


def letters(place: Place) -> dict[int, str]:
    with place.queue() as queue:
        found = list(DeadLetters(queue).newest())
    return {int(json.loads(letter.record)["id"]): letter.reason for letter in found}


def variants(place: Place) -> dict[int, str]:
    with place.queue() as queue:
        return {int(variant.envelope.id): variant.reason for variant in Variants(queue).newest()}


def test_without_a_contract_the_consumer_alone_judges_and_ignores_what_the_model_does_not_know(sales: Place) -> None:
    flow(sales, None)
    run(sales)
    assert keys_in(sales) == [0, 1, 4, 5]
    assert letters(sales) == {2: MISFITS[2], 3: MISFITS[3]}
    assert sales.books().published == 6


def test_evolve_keeps_everything_to_the_end_and_says_once_what_has_changed(sales: Place) -> None:
    flow(sales, "evolve")
    produced = sales.produce()
    assert produced.wait() == 0
    consume(sales)
    assert keys_in(sales) == [0, 1, 2, 3, 4, 5]
    assert letters(sales) == {}
    told = produced.events("record_does_not_fit", contract="evolve")
    assert sorted(event["reason"] for event in told) == sorted(MISFITS.values())


def test_freeze_makes_dead_letters_of_misfits_before_anybody_consumes_them(sales: Place) -> None:
    flow(sales, "freeze")
    produce(sales)
    assert letters(sales) == MISFITS
    books = sales.books()
    assert (books.published, books.ready, books.dead, books.difference) == (6, 2, 4, 0)
    consume(sales)
    assert keys_in(sales) == [0, 5]


def test_quarantine_sets_misfits_aside_in_a_list_of_their_own_and_the_books_balance(
    sales: Place, client: redis.Redis
) -> None:
    flow(sales, "quarantine")
    run(sales)
    assert keys_in(sales) == [0, 5]
    assert variants(sales) == MISFITS
    assert letters(sales) == {}
    books = sales.books()
    assert (books.published, books.variants, books.delivered, books.difference) == (6, 4, 2, 0)
    newest = json.loads(client.lrange(f"{{{sales.key_of()}}}:variants", 0, 0)[0])  # as redis-cli shows it
    assert (newest["id"], newest["specversion"], newest["misfit"]) == ("4", "1.0", MISFITS[4])
    assert newest["data"] == {"n": 4, "place": {"lat": 1, "lon": 2}}


def test_a_model_that_allows_other_fields_knows_them(sales: Place) -> None:
    flow(sales, "freeze", model="theirs:Open")
    run(sales)
    assert keys_in(sales) == [0, 1, 4, 5]
    assert sorted(letters(sales)) == [2, 3]


def test_the_contract_is_held_before_transforms(sales: Place) -> None:
    flow(sales, "quarantine", transforms=["theirs:but_no_fives"])
    run(sales)
    assert keys_in(sales) == [0]
    assert (sorted(variants(sales)), sales.books().filtered) == ([1, 2, 3, 4], 1)


def test_evolve_with_typed_columns_loses_only_what_no_column_can_hold(sales: Place) -> None:
    flow(sales, "evolve", sink={"type": "parquet", "path": "out/numbers"})
    run(sales)
    (file,) = sales.files()
    rows = {row["n"]: row for row in read(file)}
    assert set(rows) == {0, 1, None, 4, 5}
    assert (rows[None]["price"], rows[4]["place"], rows[5]["price"]) == (3.0, {"lat": 1.0}, 5.5)
    assert letters(sales) == {2: letters(sales)[2]}
    assert letters(sales)[2].startswith("n: does not fit int64")


def test_what_dedupe_knows_is_not_set_aside_twice(sales: Place) -> None:
    flow(sales, "quarantine", dedupe={"window": "1h"})
    for _ in range(2):
        produce(sales)
        with sales.queue() as queue:  # as if the source began anew
            queue.ask(("DEL", queue.keys.checkpoints))
    books = sales.books()
    assert (books.published, books.variants, books.ready) == (6, 4, 2)


class TestCommands:
    @pytest.fixture(autouse=True)
    def quarantined(self, sales: Place) -> None:
        flow(sales, "quarantine")
        produce(sales)

    def run(self, *arguments: str, code: int = 0, say: str | None = None) -> str:
        done = CliRunner().invoke(variants_cli.app, list(arguments), input=say, env={"COLUMNS": "200"})
        assert done.exit_code == code, (done.output, done.exception)
        return done.stdout

    def test_they_are_listed_newest_first_with_ids_and_reasons(self) -> None:
        shown = self.run("ls", "numbers")
        assert [shown.index(MISFITS[key]) for key in (4, 3, 2, 1)] == sorted(map(shown.index, MISFITS.values()))
        assert "4 variants in all" in shown
        (told,) = json.loads(self.run("ls", "numbers", "--json", "--reason", "required"))
        assert (told["id"], told["reason"], told["record"]) == ("3", MISFITS[3], '{"$price":3}')

    def test_replayed_they_pass_the_contract_and_the_consumer_judges_them(self, sales: Place) -> None:
        assert "2 put on the list" in self.run("replay", "numbers", "--all", "--reason", "Extra inputs", say="y\n")
        consume(sales)
        assert keys_in(sales) == [0, 1, 4, 5]
        assert b"misfit" not in b"".join(file.read_bytes() for file in sales.files())
        assert sorted(variants(sales)) == [2, 3]
        self.run("replay", "numbers", "2")
        consume(sales)
        assert (letters(sales), sales.books().difference) == ({2: MISFITS[2]}, 0)

    def test_dropped_they_count_as_discarded(self, sales: Place) -> None:
        assert "4 would be thrown away" in self.run("drop", "numbers", "--all", "--dry-run")
        assert "4 thrown away" in self.run("drop", "numbers", "--all", "--yes")
        books = sales.books()
        assert (books.variants, books.discarded, books.difference) == (0, 4, 0)

    def test_exported_they_can_be_tried_with_the_model_of_today(self, sales: Place) -> None:
        exported = self.run("export", "numbers")
        assert exported.splitlines()[0] == '{"n":4,"place":{"lat":1,"lon":2}}'
        tested = sales.start("test", "numbers", "--json", "--record", exported.splitlines()[0])
        assert tested.wait() == 1
        named = {"key": None, "time": None, "notes": []}
        assert json.loads(tested.printed)[0] == {"verdict": "variant", "reason": MISFITS[4], "outputs": [], **named}

    def test_a_choice_that_is_none_is_refused_with_the_mend(self) -> None:
        for arguments, mend in ((["replay", "numbers"], "--all"), (["drop", "numbers", "7"], "millrace variants ls")):
            done = CliRunner().invoke(variants_cli.app, arguments)
            assert mend in str(done.exception)

    def test_status_and_verify_show_them(self, sales: Place) -> None:
        environ = {"COLUMNS": "200", "REDIS_URL": sales.redis_url}
        shown = CliRunner().invoke(status_app, [], env=environ).stdout
        assert shown.splitlines()[0].split()[-4:] == ["variants", "published", "delivered", "filtered"]
        assert shown.splitlines()[1].split()[-4:] == ["4", "6", "0", "0"]
        verified = CliRunner().invoke(verify_app, [], env=environ)
        assert verified.exit_code == 0
        assert "− variants" in verified.output
        assert "balanced" in verified.output


def test_a_writer_and_an_inline_run_keep_the_contract_too(sales: Place) -> None:
    flow(sales, "freeze")
    with millrace.writer("numbers") as writer:
        writer.write({"n": 1})
        writer.write({"n": 1, "more": 2})
    assert (writer.published, writer.dead) == (2, 1)
    flow(sales, "quarantine")
    done = run_inline(load(Path("flows.yaml"))["numbers"])
    assert (done.read, done.delivered, len(done.variants), done.dead) == (6, 2, 4, [])


def test_many_variants_are_walked_page_by_page(queue: Queue) -> None:
    line = b'{"specversion":"1.0","id":"%d","source":"s","type":"t","data":%d,"misfit":"m"}'
    lines = [line % (n, n) for n in range(450)]
    queue.publish(lines, variants=range(450))
    assert [int(variant.envelope.id) for variant in Variants(queue).newest()] == list(range(449, -1, -1))
    chosen = list(Variants(queue).newest())
    assert all(map(Variants(queue).replay, chosen))
    claim = queue.claim(1000)
    assert claim is not None
    assert [json.loads(line)["data"] for line in claim.lines] == list(range(450))
    assert not Variants(queue).replay(chosen[0])
    assert (len(Variants(queue)), queue.books().difference) == (0, 0)
