"""What the clients of sinks and sources raise at their worst, for the tests that walk over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import pytest

from tests.contracts.object_store import ObjectStore, object_store
from tests.http_receiver import Receiver
from tests.moto_server import REGION, MotoServer

AWS = {"region": REGION, "access_key": "testing", "secret_key": "testing"}

Options: TypeAlias = Callable[[Callable[[str], Any], Path], dict[str, Any]]
"""From what gives a fixture by its name, and a folder of the test's own, the options of a sink or source."""

Breaks: TypeAlias = dict[tuple[object, str], Any]
"""What takes the place of the client's attributes."""


class PanicException(BaseException):
    """As libraries written in Rust raise it: no `Exception`, and each has its own."""


def fails(error: BaseException) -> Callable[..., NoReturn]:
    """What raises this, whatever it is called with."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as store:
        yield store


@pytest.fixture(scope="module")
def aws() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def queue_url(aws: MotoServer, tmp_path: Path) -> str:
    """The URL of a queue of the test's own."""
    return str(aws.client("sqs").create_queue(QueueName=f"q{abs(hash(tmp_path))}")["QueueUrl"])
