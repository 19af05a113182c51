"""What sets the servers apart that README promises, as far as the queue goes by it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from millrace.embedded import Embedded
from millrace_pipeline.queue.disk import Disk
from millrace_pipeline.queue.keys import Keys
from millrace_pipeline.queue.roles import CONSUMER, DURABLE, PRODUCER, READER, RELOADER, REPLICATED, UNKNOWN_BEFORE
from millrace_pipeline.redis.address import Address
from millrace_pipeline.redis.connection import Connection
from millrace_pipeline.redis.preflight import preflight

OTHERS = ("redict-7.3", "valkey-8.0", "valkey-8.1", "valkey-9")
UNKNOWN = {"redis-7.0": set(UNKNOWN_BEFORE), "redis-8.0": set(), **{name: set() for name in OTHERS}}
"""The commands of our roles that a server doesn't know."""

HAS_WAITAOF_AND_IS_HONEST = {
    "redis-7.0": (False, False),
    "redis-8.0": (True, True),
    **dict.fromkeys(OTHERS, (True, False)),
}


@pytest.fixture
def server() -> Iterator[Embedded]:
    with Embedded(aof=True) as server:
        yield server


def test_the_tests_run_on_the_server_that_was_asked_for(asked: str, server: Embedded) -> None:
    version = preflight(server.url)[0]
    assert version.level == "ok"
    assert f"{version.message}.".startswith(asked.replace("-", " ").capitalize() + ".")


def test_a_role_names_no_command_that_the_server_refuses_to_know(asked: str, server: Embedded) -> None:
    roles = (PRODUCER, CONSUMER, READER, RELOADER)
    named = sorted({*DURABLE, *REPLICATED, *(command for role in roles for command in role.commands)})
    connection = Connection(Address(server.url))
    replies = connection.exchange(*(("COMMAND", "INFO", command) for command in named))
    connection.close()
    assert {command for command, (known,) in zip(named, replies, strict=True) if not known} == UNKNOWN[asked]


def test_its_word_on_its_disk_is_taken_for_what_it_is_worth(asked: str, server: Embedded) -> None:
    disk = Disk(Connection(Address(server.url)), Keys("list"), replicas=0, give_up=threading.Event())
    try:
        found = disk._look_at_server()
        assert (found.keeps_file, found.has_waitaof, found.honest) == (True, *HAS_WAITAOF_AND_IS_HONEST[asked])
        assert disk.confirm(("LLEN", "list"), stop=threading.Event()) == [0]
        assert disk.reason is None
    finally:
        disk.close()
