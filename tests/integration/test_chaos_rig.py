"""The rig that `millrace chaos` kills things in: what was lost with Redis is read again by those who can."""

from __future__ import annotations

import json
import os
import re
from contextlib import closing
from pathlib import Path

import pytest
import redis

from millrace.cli.localrig import LocalRig
from millrace.practice.stream import PracticeStream
from tests.conftest import eventually

EVENTS = 200
PATIENCE = 60.0


def rig_on(stream: PracticeStream, folder: Path, fsync: str) -> LocalRig:
    flow = {
        "source": {"type": "sse", "url": stream.url, "key": "/meta/id"},
        "queue": {"fsync": fsync},
        "sink": {"type": "jsonl", "path": str(folder / "out")},
    }
    flows_file = folder / "flows.yaml"
    flows_file.write_text(json.dumps({"flows": {"mine": flow}}))
    return LocalRig.start(flows_file, ["mine"], consumers=1, folder=folder, environ=os.environ, practice=False)


def await_end(rig: LocalRig) -> None:
    """Returns when the rig has ended with everything on the list."""

    def ended() -> bool:
        rig.look(again=False)
        books = rig.books()
        return rig.ended() and books is not None and books["mine"].published == EVENTS

    eventually(ended, PATIENCE)


def test_a_producer_that_had_ended_reads_again_what_a_power_cut_took(tmp_path: Path) -> None:
    stream = PracticeStream(total=EVENTS, end=True)
    with closing(stream), closing(rig_on(stream, tmp_path, "acknowledge")) as rig:
        with redis.Redis.from_url(rig.redis_url) as client:
            client.config_set("appendfsync", "no")  # so that the cut takes all that is published
        stream.start()
        await_end(rig)
        told = re.search(r"without the last ([\d,]+) bytes", rig.kill("power", 0.0))
        assert told
        assert int(told[1].replace(",", "")) > 100 * EVENTS
        assert not rig.ended()
        await_end(rig)


@pytest.mark.parametrize(("fsync", "once_more"), [("off", False), ("acknowledge", True), ("write", True)])
def test_after_a_kill_of_redis_producers_run_once_more_if_they_outlive_it(
    tmp_path: Path, fsync: str, once_more: bool
) -> None:
    with PracticeStream(total=EVENTS, end=True) as stream, closing(rig_on(stream, tmp_path, fsync)) as rig:
        await_end(rig)
        rig.kill("redis", 0.0)
        assert rig.ended() != once_more
        await_end(rig)


def test_the_end_of_the_sources_is_the_end_of_what_was_to_run_once_more(tmp_path: Path) -> None:
    with PracticeStream(total=EVENTS) as stream, closing(rig_on(stream, tmp_path, "write")) as rig:
        eventually(lambda: (books := rig.books()) is not None and books["mine"].published == EVENTS, PATIENCE)
        rig.kill("redis", 0.0)
        rig.look(again=False)
        rig.end_sources()
        rig.look(again=False)
        assert rig.ended()
