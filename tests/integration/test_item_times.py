"""When an item happened: each way in which a crawl's items come to a list reads it where it is told to."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from millrace_pipeline.envelope import Record, decode
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.process.repeats import repeats
from millrace_producer.itemfields import ItemFields
from millrace_producer.items import record_of
from millrace_producer.sources.scrapy import ScrapySource
from tests.integration.scrapyproject import QUICK, make_project

SPIDER = """

class Dated(scrapy.Spider):
    name = "dated"
    async def start(self):
        yield scrapy.Request("data:,page")
    def parse(self, response):
        yield {"deep": {"at": "94694400000"}}
"""
AT = datetime(1973, 1, 1, tzinfo=UTC)
TOLD = {"MILLRACE_RECORD_TIME": "/deep/at", "MILLRACE_RECORD_TIME_UNIT": "ms"}
WAYS = {
    "pipeline": {"ITEM_PIPELINES": '{"millrace.scrapy.RedisPipeline": 900}'},
    "shared": {
        "SCHEDULER": "millrace.scrapy.Scheduler",
        "SPIDER_MIDDLEWARES": '{"millrace.scrapy.SharedCrawl": 0}',
    },
}


def test_a_scrapy_source_reads_it(tmp_path: Path) -> None:
    project = make_project(tmp_path, spiders=SPIDER)
    source = ScrapySource(spider="dated", project=project, settings=dict(QUICK), time="/deep/at", time_unit="ms")
    (record,) = source.read(None)
    assert isinstance(record, Record)
    assert record.time == AT


@pytest.mark.parametrize("way", WAYS)
def test_a_project_of_ones_own_says_where_in_its_settings(tmp_path: Path, redis_url: str, key: str, way: str) -> None:
    options = {**WAYS[way], **TOLD, "MILLRACE_KEY": key, "ROBOTSTXT_OBEY": "False"}
    subprocess.run(
        [Path(sys.executable).parent / "scrapy", "crawl", "dated", *(f"-s{name}={it}" for name, it in options.items())],
        cwd=make_project(tmp_path, spiders=SPIDER),
        env=os.environ | {"REDIS_URL": redis_url},
        check=True,
        timeout=120,
    )
    with redis.Redis.from_url(redis_url) as client:
        (line,) = client.lrange(key, 0, -1)  # type: ignore[misc]
    assert decode(line, foreign_id=str).time == "1973-01-01T00:00:00Z"


def test_a_flows_options_reach_a_shared_crawl_as_settings() -> None:
    for fields in (ItemFields(), ItemFields(None), ItemFields("/id", "/deep/at", "ms")):
        assert ItemFields.of(fields.settings()) == fields


def test_a_unit_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"MILLRACE_RECORD_TIME_UNIT: expected auto, s, ms, us, ns, not 'minutes'"):
        ItemFields.of({"MILLRACE_RECORD_TIME_UNIT": "minutes"})


@pytest.mark.parametrize("at", ["yesterday", None, float("inf"), {"a": 1}])
def test_a_time_that_cannot_be_read_is_said_and_the_item_published(at: object) -> None:
    with repeats.heard() as heard:
        made = record_of({"at": at}, ItemFields(time="/at"))
    assert isinstance(made, Record)
    assert made.time is None
    assert ("time_not_understood", "/at") in [(event, fields.get("time")) for event, fields in heard]


@pytest.mark.parametrize("at", [AT, AT.date(), "Mon, 01 Jan 1973 00:00:00 GMT", 94_694_400, "94694400000000000"])
def test_a_time_in_an_item_may_have_any_form(at: object) -> None:
    made = record_of({"at": at}, ItemFields(time="at"))
    assert isinstance(made, Record)
    assert made.time == AT
