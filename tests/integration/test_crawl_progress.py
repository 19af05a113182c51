"""How far a crawl has come, on every screen, while it runs; and what producers say of themselves beside it."""

from __future__ import annotations

import json
import re
from typing import Any

from millrace.observing import Observer
from millrace.practice.site import PracticeSite
from millrace_pipeline.flows.flow import load
from millrace_producer.sources.crawlprocess import Under
from millrace_producer.sources.scrapy import progress_of
from tests.conftest import eventually
from tests.integration.scrapyproject import QUICK
from tests.pages import Ui, text_of
from tests.services import Place


def said(place: Place, *arguments: str) -> str:
    command = place.start(*arguments)
    assert command.wait() == 0, command.said
    return command.printed


def test_how_far_a_crawl_has_come_is_seen_while_it_runs(place: Place) -> None:
    with PracticeSite(delay=1.5) as site:
        source = {"type": "scrapy", "spider": "quotes", "args": {"start_url": site.url}, "settings": QUICK}
        place.flow("quotes", source=source)
        ui = Ui(place)
        crawl = place.produce("quotes")
        found: dict[str, Any] = {}

        def comes_far() -> bool:
            found.update(json.loads(said(place, "status", "--json"))["quotes"]["crawl_progress"] or {})
            return found.get("pages", 0) >= 2

        crawl.until(comes_far)
        assert found.keys() == {"pages", "items", "waiting", "errors", "depth"}
        assert (found["items"], found["depth"]) >= (10, 1)
        assert re.search(r"\d+ pages, \d+ items, \d+ requests wait, depth \d", text_of(ui.page("/flows/quotes")))
        assert "; crawls: " in said(place, "top", "--once", "--interval", "200ms")
        assert "quotes: crawls: " in said(place, "status")
        assert crawl.wait() == 0, crawl.said
    assert json.loads(said(place, "status", "--json"))["quotes"]["crawl_progress"] is None


def test_what_could_not_be_had_counts_as_an_error_of_the_crawl() -> None:
    stats = {
        "downloader/response_status_count/200": 6,
        "robotstxt/response_status_count/200": 1,
        "downloader/response_status_count/404": 2,
        "downloader/exception_count": 3,
        "spider_exceptions/count": 4,
        "item_scraped_count": 1234,
        "request_depth_max": 7,
    }
    assert str(progress_of(Under(stats, 9))) == "5 pages, 1,234 items, 9 requests wait, depth 7, 9 errors"
    assert str(progress_of(Under({}, 0))) == "0 pages, 0 items, 0 requests wait"


def test_a_producer_that_is_started_again_under_its_name_is_counted(place: Place) -> None:
    place.flow(source={"type": "files", "path": "in.jsonl", "mode": "tail"})
    (place.folder / "in.jsonl").write_text('{"n": 1}\n')
    observer = Observer(place.redis_url, list(load(place.folder / "flows.yaml").values()))

    def restarts() -> list[int]:
        return [one.restarts for seen in observer.look() for one in seen.producers]

    place.produce(MILLRACE_SERVICE="producer-numbers")
    eventually(lambda: restarts() == [0])
    place.services[-1].kill()
    again = place.produce(MILLRACE_SERVICE="producer-numbers")
    eventually(lambda: restarts() == [1])
    assert again.terminate() == 0
    eventually(lambda: restarts() == [])
    observer.close()
