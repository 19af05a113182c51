"""What docs/how-to/crawl-together.md shows runs as it stands there: the flow, and the commands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace.practice.site import PracticeSite
from millrace_pipeline.queue.frontier import crawl_books
from tests.integration.scrapyproject import QUICK
from tests.linkedsite import LinkedSite
from tests.pages import Ui, text_of
from tests.queues import Queue
from tests.services import Place

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "crawl-together.md").read_text()
FLOW: dict[str, Any] = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])["flows"]["books"]


def quick(flow: dict[str, Any], **source: Any) -> dict[str, Any]:
    rest = {name: value for name, value in flow.items() if name != "sink"}
    return rest | {"source": flow["source"] | {"settings": QUICK} | source}


@pytest.mark.timeout(600)
def test_the_flow_of_the_page_has_every_book_once_and_is_over(place: Place) -> None:
    assert FLOW["producers"] == 3
    place.flow("books", **quick(FLOW))
    with PracticeSite() as site:
        run = place.start("run", "books", "--until-empty", BOOKS_URL=site.shop_url)
        assert run.wait(180) == 0, run.said
        assert {event["service"] for event in run.events("source_ended")} == {f"producer-books-{n}" for n in (1, 2, 3)}
        assert sorted(book["url"] for book in place.records("books")) == sorted(book["url"] for book in site.books)
        status = place.start("status", "books")
        assert status.wait() == 0
        assert "books: crawl shared: found 46 = done 46 + ready 0 + in flight 0; over" in status.printed
        line = "books: crawl shared: found 46 = done 46 + ready 0 + in flight 0; over"
        assert line in told(place, "top", "books", "--once")
        seen = json.loads(told(place, "top", "books", "--json"))["flows"][0]
        assert (seen["crawls"][0]["found"], seen["crawl_progress"]) == (46, None)
        assert line.partition(": ")[2] in text_of(Ui(place).page("/flows/books"))
        verify = place.start("verify", "books", "--sink")
        assert verify.wait() == 0, verify.said
        assert "found 46 = done 46" in verify.printed
        again = place.start("run", "books", "--until-empty", BOOKS_URL=site.shop_url)
        assert again.wait(180) == 0, again.said
        assert len(place.records("books")) == len(site.books)


def told(place: Place, *words: str, code: int = 0) -> str:
    done = place.start(*words)
    assert done.wait() == code, done.said
    return done.printed


@pytest.mark.timeout(600)
def test_the_commands_of_the_page_steer_a_crawl(place: Place) -> None:
    place.flow("books", **quick(FLOW))
    (place.folder / "seeds.txt").write_text("http://127.0.0.1:1/a\n\nhttp://127.0.0.1:1/b\n")
    assert "no flow has a crawl" in told(place, "crawl", "status")
    assert "crawl: shared" in place_error(place, "crawl", "pause", "books")
    assert "no URL" in place_error(place, "crawl", "add", "books", "not one")
    added = told(
        place, "crawl", "add", "books", "http://127.0.0.1:1/a", "--file", "seeds.txt", "--callback", "parse_book"
    )
    assert "crawl shared begins" in added
    assert "2 put on crawl shared, 1 seen before" in added
    said = [json.loads(line) for line in told(place, "crawl", "export", "books").splitlines()]
    assert {one.get("url") for one in said} == {None, "http://127.0.0.1:1/a", "http://127.0.0.1:1/b"}
    assert {one["where"] for one in said} == {"ready"}
    assert "shared paused" in told(place, "crawl", "pause", "books", "--note", "at night only")
    shown = told(place, "crawl", "status", "books")
    assert "at night only" in shown
    assert "127.0.0.1 2" in shown
    assert "goes on" in told(place, "crawl", "resume", "books")
    assert "shared stopped" in told(place, "crawl", "stop", "books", "--reason", "enough", "--yes")
    assert "stopped: enough" in told(place, "crawl", "status", "books")
    assert "goes on" in told(place, "crawl", "resume", "books")


def place_error(place: Place, *words: str) -> str:
    done = place.start(*words)
    assert done.wait() == 2, done.said
    return done.said


@pytest.mark.timeout(600)
def test_dead_requests_are_shown_replayed_and_dropped(place: Place) -> None:
    with LinkedSite(1) as site:
        place.flow("books", **quick(FLOW, args={"start_url": site.url(0)}) | {"max_attempts": 1, "producers": 1})
        told(place, "crawl", "add", "books", f"{site.url(0)}?x", "--callback", "renamed")
        run = place.start("run", "books", "--until-empty")
        assert run.wait(120) == 2, run.said  # the page holds no books, and its spider says so by closing itself
        assert "`millrace crawl resume books` has it go on" in run.said
        with place.queue("books") as queue:
            books = crawl_books(queue, "shared")
        assert books is not None
        assert (books.difference, books.dead, books.over) == (0, 1, True)
        number = json.loads(told(place, "crawl", "dead", "ls", "books", "--json"))[0]["number"]
        assert "no method 'renamed'" in told(place, "crawl", "dead", "show", "books", number)
        assert "goes on" in told(place, "crawl", "resume", "books")
        assert "1 of 1 put back" in told(place, "crawl", "dead", "replay", "books", "--all")
        with place.queue("books") as queue:
            fail(queue)
        assert "1 of 1 dropped" in told(place, "crawl", "dead", "drop", "books", "--reason", "by hand", "--yes")
        assert "found" in told(place, "verify", "books")


def fail(queue: Queue) -> None:
    """Have the one request that waits set aside again."""
    from millrace_pipeline.queue.frontier import Frontier, Politeness, Settlement

    frontier = Frontier(queue, "shared", politeness=Politeness())
    (claimed,) = frontier.claim(5).requests
    frontier.settle([Settlement(claimed, "dead", why={"reason": "by hand"})])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dedupe": {"window": "1d"}}, "dedupe: isn't looked at by a crawl that spiders share"),
        ({"source": FLOW["source"] | {"crawl": "own"}}, "producers: 3 producers would each read all"),
        ({"source": FLOW["source"] | {"crawl": "a b"}}, "crawl"),
    ],
)
def test_what_a_shared_crawl_has_no_use_for_is_refused(place: Place, options: dict[str, Any], said: str) -> None:
    place.flow("books", **FLOW | options)
    assert said in place_error(place, "check")
