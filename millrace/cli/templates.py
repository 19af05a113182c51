"""Templates: what `millrace init` writes, file by file. Each is a flow that runs as it stands."""

from __future__ import annotations

YAML = """\
# Where records come from, the Redis list they wait on, and where they go.
#
#   millrace check       is this file right?
#   millrace run         run it here; `millrace run --inline {flow}` without Redis
#   pytest               the test beside it
#
# ${{NAME:-default}} takes an environment variable.
flows:
  {flow}:
{source}
    queue: {{key: {key}}} # redis-cli LLEN {key}
{steps}    batch: {{records: 1000, linger: 1s}}
    sink: {{type: jsonl, path: "${{DATA:-data}}/{flow}"}}
"""

TEST = '''\
"""The flow {flow}, from its source to its sink, with no Redis."""

import os
from pathlib import Path

from millrace import load, run_inline

FLOWS = Path(__file__).parent / "flows.yaml"


def test_every_record_is_delivered(tmp_path, monkeypatch):
    monkeypatch.chdir(FLOWS.parent)
    flow = load(FLOWS, {{**os.environ, "DATA": str(tmp_path)}})["{flow}"]
    done = run_inline(flow, records={records})
    assert [letter.reason for letter in done.dead] == []
    assert done.delivered > 0
'''

MODEL_TEST = '''\
"""What the flow {flow} makes of one record. `millrace test {flow} --record '…'` shows it, too."""

import flows


def test_a_record_fits_the_model():
    assert flows.{model}.model_validate({sample})
'''

_FILES_SOURCE = """\
    source: {type: files, path: "in/*.jsonl", key: /id}
    dedupe: {window: 1h} # a file that is handed in again doubles nothing"""

_FILES_PY = '''\
"""What flows.yaml names: models and transforms."""

from __future__ import annotations

from datetime import date
from typing import Any

from pydantic import BaseModel


class Order(BaseModel):
    """A line of in/*.jsonl. What doesn't fit becomes a dead letter: `millrace dead ls`."""

    id: str
    day: date
    article: str
    pieces: int
    price: float


def paid(order: dict[str, Any]) -> dict[str, Any] | None:
    """Leave out what costs nothing, and say what the rest comes to."""
    if not order["pieces"]:
        return None
    return {**order, "price": round(order["pieces"] * order.pop("each"), 2)}
'''

_FILES_IN = """\
{"id": "A1", "day": "2026-11-21", "article": "tea", "pieces": 2, "each": 3.4}
{"id": "A2", "day": "2026-11-21", "article": "sugar", "pieces": 0, "each": 1.2}
{"id": "A3", "day": "2026-11-22", "article": "biscuits", "pieces": 12, "each": 0.45}
"""

_PYTHON_SOURCE = """\
    source: {type: python, function: "flows:ticks"}"""

_PYTHON_PY = '''\
"""What flows.yaml names: sources, models and transforms."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from pydantic import BaseModel

from millrace import Record


class Tick(BaseModel):
    """What the sensor said. What doesn't fit becomes a dead letter: `millrace dead ls`."""

    n: int
    at: datetime
    celsius: float


def ticks(resume_from: int | None) -> Iterator[Record]:
    """Yield a reading every tenth of a second, on from where the list stopped."""
    n = (resume_from or 0) + 1
    while True:
        data = {"n": n, "at": datetime.now(UTC).isoformat(), "celsius": round(random.gauss(20, 2), 1)}
        yield Record(data, key=str(n), position=n)
        n += 1
        time.sleep(0.1)
'''

_CRAWL_SOURCE = """\
    source:
      type: scrapy
      spider: quotes # the bundled one; `project: FOLDER` names a Scrapy project of yours
      args: {start_url: "${QUOTES_URL:-https://quotes.toscrape.com/}"} # `millrace run --practice` sets it
      key: content # a quote is known by what it says
    dedupe: {window: 1h} # a crawl that starts over doubles nothing"""

_CRAWL_PY = '''\
"""What flows.yaml names: models and transforms."""

from __future__ import annotations

from pydantic import BaseModel


class Quote(BaseModel):
    """What the spider yields. What doesn't fit becomes a dead letter: `millrace dead ls`."""

    text: str
    author: str
    tags: list[str] = []
'''

_STREAM_SOURCE = """\
    source:
      type: sse
      url: ${WIKIPEDIA_URL:-https://stream.wikimedia.org/v2/stream/recentchange} # `millrace run --practice` sets it
      key: /meta/id
      time: /meta/dt
    dedupe: {window: 10m} # what a reconnect repeats is left out"""

_STREAM_PY = '''\
"""What flows.yaml names: models and transforms."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class Meta(BaseModel):
    """What an event says of itself."""

    id: str
    dt: datetime
    domain: str | None = None


class Edit(BaseModel):
    """An edit. What doesn't fit becomes a dead letter: `millrace dead ls`."""

    meta: Meta
    type: str
    wiki: str | None = None
    title: str | None = None
    user: str | None = None
    bot: bool | None = None


def by_people(edit: dict[str, Any]) -> dict[str, Any] | None:
    """Leave out what bots do, and Wikimedia's own test events."""
    return None if edit.get("bot") or edit["meta"].get("domain") == "canary" else edit
'''


def _yaml(flow: str, source: str, *, model: str, transforms: str = "") -> str:
    steps = f"    transforms: [flows:{transforms}]\n" if transforms else ""
    steps += f"    model: flows:{model} # in flows.py\n"
    return YAML.format(flow=flow, source=source, key=f"{flow.upper()}-KEY", steps=steps)


TEMPLATES: dict[str, dict[str, str]] = {
    "files": {
        "flows.yaml": _yaml("orders", _FILES_SOURCE, model="Order", transforms="paid"),
        "flows.py": _FILES_PY,
        "test_flows.py": TEST.format(flow="orders", records="100"),
        "in/orders.jsonl": _FILES_IN,
    },
    "python": {
        "flows.yaml": _yaml("ticks", _PYTHON_SOURCE, model="Tick"),
        "flows.py": _PYTHON_PY,
        "test_flows.py": TEST.format(flow="ticks", records="5"),
    },
    "crawl": {
        "flows.yaml": _yaml("quotes", _CRAWL_SOURCE, model="Quote"),
        "flows.py": _CRAWL_PY,
        "test_flows.py": MODEL_TEST.format(
            flow="quotes", model="Quote", sample='{"text": "So it goes.", "author": "K. V.", "tags": ["fate"]}'
        ),
    },
    "stream": {
        "flows.yaml": _yaml("edits", _STREAM_SOURCE, model="Edit", transforms="by_people"),
        "flows.py": _STREAM_PY,
        "test_flows.py": MODEL_TEST.format(
            flow="edits", model="Edit", sample='{"meta": {"id": "1", "dt": "2026-11-29T12:00:00Z"}, "type": "edit"}'
        ),
    },
}
"""The files of each template, by their paths in the new folder."""
