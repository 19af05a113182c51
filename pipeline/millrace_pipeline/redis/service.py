"""Service: which server or managed service a Redis is, as far as it or its address says so, and what it can't promise.

What is said here of services that nobody runs at home is from their own documentation: docs/how-to/managed-redis.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit


class Service(NamedTuple):
    """A kind of server: its name, the version that it goes by, and what it can't promise, each with what to do."""

    name: str
    version: str
    limits: tuple[tuple[str, str], ...] = ()
    oldest: tuple[int, int] = (7, 0)
    """The oldest version that will do."""
    compatible: str = ""
    """The version of Redis that it says it is like, where that is what counts."""


class _Managed(NamedTuple):
    """A service that somebody else runs, by its addresses or by what it says of its operating system."""

    name: str
    host: re.Pattern[str]
    said: tuple[str, str] | None = None
    limits: tuple[tuple[str, str], ...] = ()
    is_redis: bool = True
    """False for what only speaks as one: the version that it names says nothing of what it can do."""


ONLY_SPEAKS = "is no Redis but speaks as one: nobody has run Millrace on it"
NOT_TRIED = "Try it: `millrace chaos` kills and counts; what it finds is what you have."
NO_FILE = (
    "keeps no append-only file: what a replacement of the node forgets is gone, and queue.fsync has nothing to wait for"
)
ASYNCHRONOUS = "replicates behind its answers: a failover can cost the last moments"
WAIT_FOR_REPLICAS = "Set `queue: {replicas: 1}` for flows that must lose nothing: docs/how-to/high-availability.md"
DURABLE_ELSEWHERE = "Take MemoryDB or a server of your own where that must not be, or a source that can be read again."

MANAGED = (
    _Managed(
        "Amazon ElastiCache Serverless",
        re.compile(r"\.serverless\.[\w-]+\.cache\.amazonaws\.com(\.cn)?$"),
        limits=(
            (NO_FILE, DURABLE_ELSEWHERE),
            (
                "is a cluster, whatever its address says: each flow lies in one slot, whose share of it is limited",
                "Begin REDIS_URL with rediss+cluster://, and spread a large load over several flows.",
            ),
        ),
    ),
    _Managed(
        "Amazon ElastiCache",
        re.compile(r"\.cache\.amazonaws\.com(\.cn)?$"),
        ("os", "Amazon ElastiCache"),
        ((NO_FILE, DURABLE_ELSEWHERE), (ASYNCHRONOUS, WAIT_FOR_REPLICAS)),
    ),
    _Managed("Amazon MemoryDB", re.compile(r"\.memorydb\.[\w-]+\.amazonaws\.com(\.cn)?$"), ("os", "Amazon MemoryDB")),
    _Managed(
        "Google Cloud Memorystore",
        re.compile(r"\bmemorystore\b.*\.goog$"),  # most are reached by a number, and then nothing tells it
        limits=((ASYNCHRONOUS, WAIT_FOR_REPLICAS),),
    ),
    _Managed(
        "Upstash",
        re.compile(r"\.upstash\.io$"),
        ("upstash_version", ""),
        limits=(
            (
                "counts requests, and limits how large one may be: an idle consumer asks once a second",
                "Look at the plan's limits; keep `batch` and `publish` small enough for a request.",
            ),
            (ONLY_SPEAKS, NOT_TRIED),
        ),
        is_redis=False,
    ),
    _Managed(
        "Redis Cloud",
        re.compile(r"\.(redislabs\.com|redis-cloud\.com|rlrcp\.com)$"),
        limits=(
            (ASYNCHRONOUS, WAIT_FOR_REPLICAS),
            (
                "may be set to evict, and to keep nothing on disk",
                "In its console: data eviction policy `noeviction`, data persistence `append-only file every second`.",
            ),
        ),
    ),
    _Managed(
        "Azure Cache for Redis",
        re.compile(r"\.(redis\.cache\.windows\.net|redis\.azure\.net|redisenterprise\.cache\.azure\.net)$"),
        limits=((ASYNCHRONOUS, WAIT_FOR_REPLICAS),),
    ),
)


def service_of(info: Mapping[str, str], url: str) -> Service:
    """Return what answered to INFO with this, at this address."""
    server, places = _server_of(info), urlsplit(url).netloc.rpartition("@")[2].lower().split(",")
    hosts = [urlsplit(f"//{place}").hostname or "" for place in places]
    for managed in MANAGED:
        said = managed.said and managed.said[0] in info and managed.said[1] in info[managed.said[0]]
        if said or any(map(managed.host.search, hosts)):
            found = server._replace(name=f"{managed.name}, {server.name}", limits=(*managed.limits, *server.limits))
            return found if managed.is_redis else found._replace(oldest=(0, 0))
    return server


def _server_of(info: Mapping[str, str]) -> Service:
    like = info.get("redis_version", "0")
    if info.get("server_name") == "valkey" or "valkey_version" in info:
        return Service("Valkey", info.get("valkey_version") or like, oldest=(7, 2))
    if "dragonfly_version" in info:
        why = "runs scripts in its own way, and keeps snapshots but no append-only file: nobody has run Millrace on it"
        return Service("Dragonfly", info["dragonfly_version"], ((why, NOT_TRIED),), compatible=like)
    if "mvcc_depth" in info or "keydb" in info.get("executable", ""):
        return Service("KeyDB", like, (("has two primaries where active-replica is on: leave it off", NOT_TRIED),))
    if info.get("server_name") == "redict" or "redict_version" in info:
        return Service("Redict", info.get("redict_version") or like, compatible=like)
    for name in ("garnet", "kvrocks"):
        if f"{name}_version" in info or info.get("server_name") == name:
            version = info.get(f"{name}_version") or like
            return Service(name.capitalize(), version, ((ONLY_SPEAKS, NOT_TRIED),), (0, 0), compatible=like)
    return Service("Redis", like)
