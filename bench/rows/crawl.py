"""Row 7: a Scrapy crawl with our pipeline, with none, and with scrapy-redis'. Row 16: with a frontier in Redis."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import msgspec

from bench import check
from bench.lab import KEY, Lab, Process
from bench.rounds import Figure, Goal, Row, Side, WrongAnswer
from bench.site import quotes_on

QUOTES_A_PAGE = 10


def _crawl(lab: Lab, site: str, pages: int, pipeline: str) -> Side:
    """From the spider's first request until the spider is closed, its items on the list."""

    def run() -> tuple[float, ...]:
        count = pages * QUOTES_A_PAGE
        with lab.folder() as folder:
            lab.empty()
            with lab.peer(folder, "crawler", site, pages, pipeline) as process:
                process.wait()
            began, ended = (float((folder / name).read_text()) for name in ("began", "ended"))
            stats = json.loads((folder / "stats.json").read_text())
            if stats != {"item_scraped_count": count, "finish_reason": "finished"}:
                raise WrongAnswer(f"the crawl with pipeline {pipeline}: {stats} instead of {count} items")
            if pipeline != "none":
                expected = (msgspec.json.encode(quote) for n in range(pages) for quote in quotes_on(site, n + 1))
                check.agree(f"pipeline {pipeline}", _on_the_list(lab, pipeline), check.total(expected, check.as_json))
            return (count / (ended - began),)

    return run


class _Wire(msgspec.Struct):
    data: msgspec.Raw


def _on_the_list(lab: Lab, pipeline: str) -> check.Sum:
    lines = lab.redis.lrange(KEY, 0, -1)
    if pipeline in ("millrace", "shared"):
        lines = [bytes(msgspec.json.decode(line, type=_Wire).data) for line in lines]  # type: ignore[union-attr]
    return check.total(lines, check.as_json)  # type: ignore[arg-type]


def _row(number: str, goal: float, name: str, pipeline: str, ours: str = "millrace") -> Row:
    @contextlib.contextmanager
    def sides(lab: Lab, pages: int) -> Iterator[tuple[Side, Side]]:
        with lab.folder() as folder, Process(["-m", "bench.site", str(folder), str(pages)], folder, {}) as site:
            url = lab.await_file(folder / "site", site)
            yield _crawl(lab, url, pages, ours), _crawl(lab, url, pages, pipeline)

    figures = (Figure("items/s", Goal(goal)),)
    what, side = (
        ("a shared crawl", "Scheduler") if ours == "shared" else ("a Scrapy crawl with our pipeline", "RedisPipeline")
    )
    return Row(number, f"{what}, {{size}} pages", side, name, figures, (500, 60), sides)


ROWS = [
    _row("7a", 0.97, "no pipeline", "none"),
    _row("7b", 1.0, "scrapy-redis' pipeline", "scrapy-redis"),
    _row("16a", 0.9, "Scrapy's queue in memory, no pipeline", "none", "shared"),
    _row("16b", 3.0, "scrapy-redis' scheduler and pipeline", "scrapy-redis frontier", "shared"),
]
