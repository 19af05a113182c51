"""What a Redis that wants a password says, and how JMESPath wants names and numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.embedded import Embedded
from millrace_consumer.transforms.rows import Filter
from millrace_pipeline.errors import QueueMisuse
from tests.queues import Queue


def test_a_redis_that_wants_a_password_is_told_as_such(tmp_path: Path) -> None:
    with Embedded(data_dir=tmp_path / "data") as server:
        with_password, _, _ = server.url.partition("/0")
        queue = Queue(server.url, "k")
        queue.ask(("CONFIG", "SET", "requirepass", "secret"))
        queue.close_all()
        place = with_password.rpartition("@")[2].removeprefix("redis://")
        queue = Queue(f"redis://{place}/0", "k")
        queue.give_up.set()
        with pytest.raises(QueueMisuse, match=r"^this Redis wants a password; REDIS_URL has none$"):
            queue.books()
        queue.close_all()
        wrong = Queue(f"redis://:wrong@{place}/0", "k")
        wrong.give_up.set()
        with pytest.raises(QueueMisuse) as caught:
            wrong.books()
        wrong.close()
        assert ".." not in str(caught.value)
        assert "Check the user, the password" in str(caught.value)


@pytest.mark.parametrize(
    ("where", "mend"),
    [
        ("24h.price > `1`", '"24h"'),
        ("data.24h > `1`", '"24h"'),
        ("`1` < 2x", '"2x"'),
        ("content-type == 'a'", '"content-type"'),
        ("price > 5", "`5`"),
        ("price >= -1.5", "`-1.5`"),
        ("'24h' == 24h", '"24h"'),
    ],
)
def test_an_expression_that_jmespath_refuses_comes_with_how_to_write_it(where: str, mend: str) -> None:
    with pytest.raises(ValueError, match="expected a JMESPath expression") as caught:
        Filter(where=where)
    said = str(caught.value)
    assert mend in said
    assert "backticks" in said
