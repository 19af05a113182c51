"""`millrace run --practice`: the bundled sites in place of the real ones, with no network."""

from __future__ import annotations

import signal

from tests.conftest import eventually
from tests.services import Place

OWN = """
flows:
  mine:
    source: {type: sse, url: "${WIKIPEDIA_URL:-http://192.0.2.1/}", key: /meta/id}
    queue: {key: MINE-KEY}
    batch: {records: 50, linger: 200ms}
    sink: {type: jsonl, path: out/mine}
"""


def test_in_an_empty_folder_the_bundled_flows_run_on_the_bundled_sites(place: Place) -> None:
    running = place.start("run", "--practice", REDIS_URL="", LINGER="200ms", LEASE="5s", DATA="data")
    told = running.await_event("practice_sites")
    assert told["quotes_url"].startswith("http://127.0.0.1:")
    assert told["wikipedia_url"].startswith("http://127.0.0.1:")
    running.until(lambda: list(place.folder.glob("data/quotes/*.jsonl")))
    running.until(lambda: list(place.folder.glob("data/wikipedia/*/*.parquet")))
    running.signal(signal.SIGINT)
    assert running.wait() == 0, running.said
    verified = place.start("verify", "--sink", "--flows", told["flows"], REDIS_URL="", DATA="data")
    assert verified.wait() == 0, verified.printed + verified.said


def test_the_folder_s_own_flows_run_where_they_take_the_address(place: Place) -> None:
    (place.folder / "flows.yaml").write_text(OWN)
    running = place.start("run", "--practice", REDIS_URL="")
    assert running.await_event("practice_sites")["flows"] == "flows.yaml"
    eventually(lambda: list(place.folder.glob("out/mine/*.jsonl")), 60)
    running.signal(signal.SIGINT)
    assert running.wait() == 0, running.said


def test_a_crawl_inline_needs_no_redis_either(place: Place) -> None:
    running = place.start("run", "quotes", "--practice", "--inline", "--records", "20", REDIS_URL="", DATA="data")
    assert running.wait() == 0, running.said
    assert sum(len(path.read_text().splitlines()) for path in place.folder.glob("data/quotes/*")) == 20


def test_flows_that_would_read_the_real_sites_are_refused(place: Place) -> None:
    place.flow()
    done = place.start("run", "--practice", "--flows", "flows.yaml")
    assert done.wait() == 2
    said = done.await_event("command_failed")["reason"]
    assert "no address in it is ${QUOTES_URL:-…} or ${WIKIPEDIA_URL:-…}" in said
