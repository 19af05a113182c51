"""What every test may use: a real server, a list of its own, and a way to wait that is no sleep."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis
import structlog
from hypothesis import settings

from millrace import embedded
from millrace.embedded import Embedded
from millrace.testing import eventually as eventually
from tests.queues import Queue

if TYPE_CHECKING:
    from tests.contracts.object_store import ObjectStore
    from tests.postgres_server import PostgresServer
    from tests.services import Place

DATA = Path(os.environ.get("MILLRACE_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


EXAMPLES = str(Path(__file__).resolve().parents[1] / "examples")

FETCH = Path(__file__).parent / "servers" / "fetch"
IN_THE_WHEEL = "valkey-9"
SERVERS = (IN_THE_WHEEL, "redis-7.0", "redis-8.0", "redict-7.3", "valkey-8.0", "valkey-8.1")


@pytest.fixture(autouse=True)
def _forgotten_flows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget the modules beside a flows.yaml, and the way to them, before those of another test bear the same names."""
    yield
    folders = (str(tmp_path_factory.getbasetemp()), EXAMPLES)
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(folders):
            del sys.modules[name]
    sys.path[:] = [folder for folder in sys.path if not folder.startswith(folders)]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--server`: whatever a test of this process starts as an embedded server is then that one."""
    parser.addoption("--server", choices=SERVERS, help="what the tests run on")


settings.register_profile("told", print_blob=True)
settings.load_profile("told")  # whatever an example fails of is in the log, as what makes it again


def pytest_configure(config: pytest.Config) -> None:
    """Bring that server, and end here if it can't be had: no test may pass on another one."""
    name = config.getoption("--server")
    if name and "REDIS_URL" in os.environ:
        raise pytest.UsageError(f"REDIS_URL and --server {name} are two servers: unset one")
    if name in (None, IN_THE_WHEEL):
        return
    fetched = subprocess.run([FETCH, name], stdout=subprocess.PIPE, text=True, check=False)
    if fetched.returncode:
        raise pytest.UsageError(f"there is no server {name} to test on: see above")
    program = Path(fetched.stdout.strip())
    patch = pytest.MonkeyPatch()
    patch.setattr(embedded, "_binary", lambda: program)
    config.add_cleanup(patch.undo)


@pytest.fixture(autouse=True)
def logs_as_they_come() -> Iterator[None]:
    """What a test made of the logs, by being a program that configures them, no other test hears of."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """REDIS_URL if it is set, else an embedded Valkey for this worker."""
    if url := os.environ.get("REDIS_URL"):
        yield url
    else:
        with Embedded() as server:
            yield server.url


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for this worker."""
    from tests.postgres_server import PostgresServer  # which imports this module

    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    """An object store for the tests of this file."""
    from tests.contracts.object_store import object_store  # which takes long to import

    with object_store() as store:
        yield store


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A plain client, for what other people do to the list."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def key(request: pytest.FixtureRequest, client: redis.Redis) -> Iterator[str]:
    """A list that no other test uses; its flow's keys are removed after the test."""
    name = f"test:{os.getpid()}:{request.node.name}".translate(str.maketrans("", "", "[]{} "))[:120]
    yield name
    for left in client.scan_iter(match="*" + name.replace("?", "\\?").replace("*", "\\*") + "*", count=1000):
        client.delete(left)


@pytest.fixture
def queue(redis_url: str, key: str) -> Iterator[Queue]:
    """A queue on that list."""
    queue = Queue(redis_url, key)
    yield queue
    queue.close_all()


@pytest.fixture
def place(tmp_path: Path, redis_url: str, key: str) -> Iterator[Place]:
    """A folder with flows of the test's own, to run real services in."""
    from tests.services import Place  # which imports this module

    with Place(tmp_path, redis_url, key) as place:
        yield place


@pytest.fixture(scope="session")
def wikimedia_events() -> list[bytes]:
    """Real recentchange events, one JSON text each."""
    path = DATA / "recentchange.jsonl"
    if not path.exists():
        pytest.skip(f"no recorded events at {path}: set MILLRACE_TEST_DATA")
    return path.read_bytes().splitlines()
