"""Access: the stack's ways into its Redis, a user and a password for each role; and into its PostgreSQL.

    python -m pipeline.access /access [FLOWS-FILE...]

`docker compose up` runs it before Redis starts. In folders that are volumes of whom they are named after it writes

    producer/url, consumer/url   REDIS_URL_FILE of that service; the password in it is made at the first start and stays
    redis/users.acl              the ACL file of Redis: passwords as hashes only, the keys those of the flows of today
    redis/reload                 the URL of a user who can only make Redis read users.acl again; Redis can't read it

    postgres/roles.sql           the role `consumer`, as a verifier of its password only, and a database of its own
    postgres/superuser           for the first start: nobody's password, so nobody comes over the network as superuser
    consumer/pgpass              libpq's passfile of the consumers

so that no password is ever an argument or a variable of the environment. `reader` needs none, and only looks.

Nobody can be `default`, yet it is allowed everything: Redis 8.0 replays its append-only file as that user and refuses,
at each EXEC, what it may not do. With a `default` of fewer rights every restart would lose all transactions.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from pipeline.errors import ConfigError, QueueUnavailable
from pipeline.flow import Flow, load
from pipeline.observe import logs
from pipeline.queue import Queue
from pipeline.queue.roles import CONSUMER, PRODUCER, READER, RELOADER, user
from pipeline.scram import verifier
from pipeline.settings import Settings

log = structlog.get_logger(__name__)

OWN, ALL = 0o400, 0o444

_ROLES = """\
-- Written anew at each `docker compose up`, and run by psql.
SELECT 'CREATE ROLE consumer LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'consumer') \\gexec
SELECT 'CREATE ROLE reader LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'reader') \\gexec
SELECT 'CREATE DATABASE quotes OWNER consumer TEMPLATE template0 ENCODING UTF8 LOCALE "C.UTF-8"'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'quotes') \\gexec
ALTER ROLE consumer PASSWORD '{}';
GRANT pg_read_all_data TO reader;
"""


def main() -> None:
    """Exit codes: 0 done; 2 the flows file or a setting is wrong."""
    try:
        settings = Settings.load()
        logs.configure(settings.log, settings.log_level, service="access")
        files = list(map(Path, sys.argv[2:])) or [settings.flows]
        flows = [flow for file in files for flow in load(file).values()]
        folder, lists = Path(sys.argv[1]), [flow.queue.key for flow in flows]
        if (folder / "postgres").is_dir():
            grant_tables(folder)
        grant(folder, settings.url, lists, written=_written(flows))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def grant(folder: Path, redis_url: str, lists: Sequence[str], *, written: Sequence[str] = ()) -> None:
    """Writes the files for flows on these lists, and has a Redis that runs already read them.

    `redis_url` is where the services find Redis, without user and password; `written` are keys that sinks write to.
    """
    producer, consumer, reloader = (
        _hashed(_password(folder / file, redis_url, name))
        for name, file in (("producer", "producer/url"), ("consumer", "consumer/url"), ("reloader", "redis/reload"))
    )
    users = [
        "user default reset off ~* &* +@all",
        user("reader", [], READER, lists),
        user("producer", [producer], PRODUCER, lists),
        user("consumer", [consumer], CONSUMER, lists, written=written),
        user("reloader", [reloader], RELOADER, []),
    ]
    file = folder / "redis" / "users.acl"
    first = not file.exists()
    _write(file, "\n".join(users) + "\n", ALL)
    log.info("access_granted", lists=list(lists))
    if not first:
        _reload((folder / "redis" / "reload").read_text())


def grant_tables(folder: Path) -> None:
    """Writes the files for PostgreSQL, from which the stack's service `postgres-access` makes roles and a database."""
    passfile = folder / "consumer" / "pgpass"
    try:
        password = passfile.read_text().strip().rpartition(":")[2]
    except FileNotFoundError:
        password = secrets.token_hex(32)
        _write(passfile, f"*:*:*:consumer:{password}\n", OWN)
    _write(folder / "postgres" / "roles.sql", _ROLES.format(verifier(password)), ALL)
    _write(folder / "postgres" / "superuser", verifier(secrets.token_hex(32)) + "\n", ALL)


def _written(flows: Iterable[Flow]) -> list[str]:
    """The keys that sinks write to in this very Redis."""
    sinks = [sink for flow in flows for sink in flow.sink.each if sink.type == "redis" and "url" not in sink.options]
    return [key for sink in sinks if isinstance(key := sink.options.get("key"), str)]


def _password(file: Path, redis_url: str, name: str) -> str:
    """The password of this user: the one in the file, or else a new one, which is then there."""
    with contextlib.suppress(FileNotFoundError):
        if password := urlsplit(file.read_text()).password:
            return password
    password = secrets.token_hex(32)
    place = urlsplit(redis_url)
    _write(file, place._replace(netloc=f"{name}:{password}@{place.netloc.rpartition('@')[2]}").geturl(), OWN)
    return password


def _hashed(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _write(file: Path, text: str, mode: int) -> None:
    """All of it or nothing, and at no moment more readable than it shall be."""
    beside = file.with_name(f".{file.name}.new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as out:
        os.fchmod(descriptor, mode)
        out.write(text)
        out.flush()
        os.fsync(descriptor)
    beside.replace(file)


def _reload(url: str) -> None:
    queue = Queue(url, "")
    queue.give_up.set()  # where Redis doesn't run it will read the file when it starts: ask once
    try:
        queue.ask(("ACL", "LOAD"))
    except QueueUnavailable:
        log.info("access_waits", reason="Redis reads it when it starts")
    else:
        log.info("access_reloaded")
    finally:
        queue.close()


if __name__ == "__main__":
    main()
