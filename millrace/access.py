"""Access: the stack's ways into its Redis, a user and a password for each role; and into its PostgreSQL.

    python -m millrace.access /access [FLOWS-FILE...]
    python -m millrace.access --folders /access [FLOWS-FILE...]     # only makes the folders, those of each flow too

`docker compose up` runs it before Redis starts. Its folders are volumes of whom they are named after, and say who there
is to be. Into those that are there it writes

    producer-FLOW/url            REDIS_URL_FILE of a producer, or a consumer, of this flow, whose user can reach no
    consumer-FLOW/url            other; the password in it is made at the first start and stays
    producer/url, consumer/url   the same of users who can reach all flows
    operator/token               what signs in to the page, `millrace ui`, which changes things as that user
    operator/url                 that of a person who steers all flows; operator-FLOW of one who steers this flow alone
    redis/users.acl              the ACL file of Redis: passwords as hashes only, the keys those of the flows of today
    redis/reload                 the URL of a user who can only make Redis read users.acl again; Redis can't read it

    postgres/roles.sql           the role `consumer`, as a verifier of its password only, and a database of its own
    postgres/superuser           for the first start: nobody's password, so nobody comes over the network as superuser
    consumer…/pgpass             libpq's passfile of the consumers, and of those of one flow where that writes tables

so that no password is ever an argument or a variable of the environment. `reader` needs none, and only looks.

Nobody can be `default`, yet it is allowed everything: Redis 8.0 replays its append-only file as that user and refuses,
at each EXEC, what it may not do. With a `default` of fewer rights every restart would lose all transactions.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from millrace.scram import verifier
from millrace_pipeline.errors import ConfigError, QueueUnavailable
from millrace_pipeline.flows.flow import Flow, load
from millrace_pipeline.process import logs
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.roles import (
    CONSUMER,
    DURABLE,
    OPERATOR,
    PRODUCER,
    READER,
    RELOADER,
    REPLICATED,
    SINCE,
    user,
)

log = structlog.get_logger(__name__)

OWN, ALL = 0o400, 0o444
NEXT, OLD = "url.next", "url.old"
ROLES = {"producer": PRODUCER, "consumer": CONSUMER, "operator": OPERATOR}

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
    """Exit codes: 0 done; 2 the flows file, a setting or a folder is wrong."""
    parser = argparse.ArgumentParser(prog="python -m millrace.access", description="Makes users of Redis for flows.")
    parser.add_argument("folder", type=Path, help="where the folders are that say who there is to be")
    parser.add_argument("files", type=Path, nargs="*", help="flows files; else MILLRACE_FLOWS, else ./flows.yaml")
    parser.add_argument("--folders", action="store_true", help="only make the folders: of all, and of each flow")
    parser.add_argument("--redis", type=_version, default=SINCE, help="version of that Redis, if older than 7.2")
    options = parser.parse_args()
    try:
        settings = Settings.load()
        logs.configure(settings.log, settings.log_level, service="access")
        flows = [flow for file in options.files or [settings.flows] for flow in load(file).values()]
        if options.folders:
            make_folders(options.folder, flows)
            return
        if _is_wanted(options.folder / "postgres"):
            grant_tables(options.folder, flows)
        grant(options.folder, settings.url, flows, version=options.redis)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    except OSError as error:
        sys.stderr.write(f"can't write {error.filename}: {error.strerror}\n")
        sys.exit(2)


def make_folders(folder: Path, flows: Sequence[Flow]) -> None:
    """Makes the folder of Redis, and for each flow those of its producer, its consumer and its operator."""
    for name in ("redis", *(f"{role}-{flow.name}" for flow in flows for role in ROLES)):
        (folder / name).mkdir(parents=True, exist_ok=True)


def grant(
    folder: Path, redis_url: str, flows: Sequence[Flow], *, version: tuple[int, int] = SINCE, reload: bool = True
) -> None:
    """Writes the files for these flows, and has a Redis of this version that runs already read them, with `reload`.

    `redis_url` is where the services find Redis, without user and password.
    """
    lists = _lists(flows)
    reloader = _hashed(_password(folder / "redis" / "reload", redis_url, "reloader"))
    users = ["user default reset off ~* &* +@all", user("reader", [], READER, lists, version=version)]
    services = {role: (role, list(flows)) for role in ROLES}
    for flow in flows:
        for role in ROLES:
            services.setdefault(f"{role}-{flow.name}", (role, []))[1].append(flow)
    users += [
        _service(folder, redis_url, name, role, own, version)
        for name, (role, own) in services.items()
        if _is_wanted(folder / name)
    ]
    for name, (role, _) in services.items():
        token = folder / name / "token"
        if role == "operator" and _is_wanted(folder / name) and not token.exists():
            write(token, secrets.token_hex(32) + "\n", OWN)
    users.append(user("reloader", [reloader], RELOADER, [], version=version))
    file = folder / "redis" / "users.acl"
    first = not file.exists()
    write(file, "\n".join(users) + "\n", ALL)
    log.info("access_granted", lists=lists, users=[line.split()[1] for line in users])
    if reload and not first:
        _reload((folder / "redis" / "reload").read_text())


def _lists(flows: Sequence[Flow]) -> list[str]:
    """The names of all lists, and those that are noted beside to have partitions."""
    return list(
        dict.fromkeys(key for flow in flows for key in (flow.queue.key, *(one.queue.key for one in flow.lists)))
    )


def _service(
    folder: Path, redis_url: str, name: str, role: str, flows: Sequence[Flow], version: tuple[int, int]
) -> str:
    """The line of a producer or consumer of these flows."""
    passwords = [_password(folder / name / "url", redis_url, name), *others(folder / name)]
    also = (*DURABLE, *(REPLICATED if any(flow.queue.replicas for flow in flows) else ()))
    written = _written(flows) if role == "consumer" else ()
    lists = _lists(flows)
    hashes = [_hashed(password) for password in passwords]
    return user(name, hashes, ROLES[role], lists, also=also, written=written, version=version)


def others(folder: Path) -> list[str]:
    """The passwords of this user that are valid beside the one in use: see `millrace.rotation`."""
    found = (urlsplit(file.read_text()).password for name in (NEXT, OLD) if (file := folder / name).exists())
    return [password for password in found if password]


def _is_wanted(folder: Path) -> bool:
    """Whether there is such a folder to write to. The image has some that nobody has put a volume on: they can't be."""
    if folder.is_dir() and folder.is_mount() and not os.access(folder, os.W_OK):
        raise ConfigError(f"can't write to {folder}: build the image anew, with this flow in flows.yaml")
    return os.access(folder, os.W_OK)


def grant_tables(folder: Path, flows: Sequence[Flow]) -> None:
    """Writes the files for PostgreSQL, from which the stack's service `postgres-access` makes roles and a database."""
    writing = [flow.name for flow in flows if any(sink.type == "postgres" for sink in flow.sink.each)]
    folders = (folder / name for name in ("consumer", *(f"consumer-{name}" for name in writing)))
    consumers = [one for one in dict.fromkeys(folders) if _is_wanted(one)]
    known = [one / "pgpass" for one in consumers if (one / "pgpass").exists()]
    password = known[0].read_text().strip().rpartition(":")[2] if known else secrets.token_hex(32)
    for one in consumers:
        if one / "pgpass" not in known:
            write(one / "pgpass", f"*:*:*:consumer:{password}\n", OWN)
    write(folder / "postgres" / "roles.sql", _ROLES.format(verifier(password)), ALL)
    write(folder / "postgres" / "superuser", verifier(secrets.token_hex(32)) + "\n", ALL)


def _written(flows: Sequence[Flow]) -> list[str]:
    """The keys that sinks write to in this very Redis."""
    sinks = [sink for flow in flows for sink in flow.sink.each if sink.type == "redis" and "url" not in sink.options]
    return [key for sink in sinks if isinstance(key := sink.options.get("key"), str)]


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor.partition(".")[0] or 0)


def _password(file: Path, redis_url: str, name: str) -> str:
    """The password of this user: the one in the file, or else a new one, which is then there, as is the place."""
    found = file.read_text() if file.exists() else ""
    password = urlsplit(found).password or secrets.token_hex(32)
    if found != (url := address(redis_url, name, password)):
        write(file, url, OWN)
    return password


def address(redis_url: str, name: str, password: str) -> str:
    """The URL by which this user finds Redis."""
    place = urlsplit(redis_url)
    return place._replace(netloc=f"{name}:{password}@{place.netloc.rpartition('@')[2]}").geturl()


def _hashed(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def write(file: Path, text: str, mode: int) -> None:
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
    queue = Session(url, "")
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
