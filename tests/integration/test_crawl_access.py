"""A shared crawl with the rights that docs/how-to/redis.md gives: spiders, people who steer, people who look."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from millrace.embedded import Embedded
from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.errors import QueueMisuse
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.frontier import Settlement, crawl_books
from millrace_pipeline.queue.frontier.books import all_crawl_books
from millrace_pipeline.queue.frontier.dead import DeadRequests
from millrace_pipeline.queue.frontier.steering import pause_crawl, resume_crawl, stop_crawl
from millrace_pipeline.queue.frontier.walk import every_request
from millrace_pipeline.queue.roles import OPERATOR, PRODUCER, READER
from tests.frontiers import frontier, page
from tests.integration.test_acl import version_of

KEY = "crawled"


@pytest.fixture(scope="module")
def server() -> Iterator[Embedded]:
    with Embedded() as server:
        with redis.Redis.from_url(server.url) as client:
            for name, role in (("producer", PRODUCER), ("operator", OPERATOR), ("reader", READER)):
                rules = role.rules([KEY], version=version_of(server)).split()
                client.execute_command("ACL", "SETUSER", name, "on", "nopass", *rules)
        yield server


def session(server: Embedded, user: str) -> Session:
    found = Session(server.url.replace("redis://", f"redis://{user}:x@"), KEY)
    found.give_up.set()
    return found


def test_each_may_do_what_is_his_and_no_more(server: Embedded) -> None:
    spider = frontier(session(server, "producer"), start=True)
    spider.offer([page("a"), page("b")])
    first, second, third = spider.claim(5).requests
    assert spider.renew([first, second, third]) == [True] * 3
    dead = Settlement(third, "dead", [b"{}"], [DeadLetter(b"x", "no JSON")], why={"reason": "bad"})
    assert spider.settle([Settlement(first, "done", [b"{}"]), Settlement(second, "later"), dead]) == [True] * 3
    reader, operator = session(server, "reader"), session(server, "operator")
    (books,) = all_crawl_books(reader)
    assert (books.found, books.done, books.dead, books.difference) == (3, 1, 1, 0)
    assert len(list(every_request(reader, "shared"))) == 2
    (letter,) = DeadRequests(reader, "shared")
    with pytest.raises(QueueMisuse):
        pause_crawl(reader, "shared")
    assert pause_crawl(operator, "shared")
    assert resume_crawl(operator, "shared")
    assert DeadRequests(operator, "shared").replay([letter.number]) == 1
    assert frontier(operator).offer([page("c")]) == 1
    assert stop_crawl(operator, "shared", "enough")
    spider.stop("another")
    found = crawl_books(reader, "shared")
    assert found is not None
    assert (found.stopped, found.waiting) == ("enough", 2)
