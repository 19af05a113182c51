"""Preflight: whether a Redis is fit to hold a queue, before anything is trusted to it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from millrace_pipeline.errors import QueueError, QueueMisuse
from millrace_pipeline.redis.address import Address, Sentinels
from millrace_pipeline.redis.connection import Connection
from millrace_pipeline.redis.nodes import Place, silent
from millrace_pipeline.redis.service import Service, service_of

CLOCK_SKEW_SECONDS = 60.0
OLDEST_REDIS, OLDEST_VALKEY = "7.0", "7.2"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `mend` is what to do, a command where there is one; empty where all is well.

    Unknown is what this server, or this user's rights, keep from us: it may be well, and nothing waits for it.
    """

    level: Literal["ok", "unknown", "warning", "error"]
    message: str
    mend: str = ""
    lasting: bool = True
    """False where waiting may mend it: it doesn't answer yet, or is a replica for the moment."""


def preflight(url: str) -> list[Finding]:
    """Looks at the server behind `url`: version, eviction, persistence, clock, and whether our scripts run; at its TLS,
    its Sentinels, or the cluster it belongs to.

    Never raises for what is wrong with the server: that is what the findings say.
    """
    connection = None
    try:
        address = Address(url)
        connection = Connection(address)
        connection.load_scripts()
        return [*_look(connection, url), *_look_around(connection, address)]
    except QueueMisuse as error:
        return [Finding("error", str(error), "docs/how-to/redis.md lists what REDIS_URL may be and its user needs.")]
    except QueueError as error:
        return [
            Finding("error", f"Redis does not answer: {error}", "Start it, or set REDIS_URL to where it is.", False)
        ]
    finally:
        if connection is not None:
            connection.close()


def _look(connection: Connection, url: str) -> Iterator[Finding]:
    info = _info(connection)
    service = service_of(info, url)
    yield _version(service)
    yield _eviction(info)
    yield _persistence(connection, info)
    yield _memory(info)
    yield _clock(connection)
    for limit, mend in service.limits:
        yield Finding("warning", f"{service.name.partition(',')[0]} {limit}", mend)
    # A cluster's replica leads on to its primary.
    if info.get("role", "master") != "master" and info.get("cluster_enabled") != "1":
        yield Finding(
            "error", "this is a read-only replica", "Point REDIS_URL at the primary, or use a Sentinel URL.", False
        )


def _version(service: Service) -> Finding:
    said = f"{service.name} {service.version}"
    if service.compatible:
        said += f", which says that it is like Redis {service.compatible}"
    if _numbers(service.compatible or service.version) >= service.oldest:
        return Finding("ok", said)
    return Finding("error", f"{said} is too old", f"Use Redis ≥ {OLDEST_REDIS} or Valkey ≥ {OLDEST_VALKEY}.")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _eviction(info: dict[str, str]) -> Finding:
    policy = info.get("maxmemory_policy")
    if policy is None:
        mend = "See in its console, or ask who runs it, that it is noeviction."
        return Finding("unknown", "maxmemory-policy can't be known: INFO doesn't tell it", mend)
    if policy == "noeviction":
        return Finding("ok", "maxmemory-policy is noeviction: a full Redis refuses, it doesn't throw away")
    return Finding(
        "error",
        f"maxmemory-policy is {policy}: a full Redis would throw records away",
        "redis-cli CONFIG SET maxmemory-policy noeviction (and in redis.conf); of a managed one in its console",
    )


def _persistence(connection: Connection, info: dict[str, str]) -> Finding:
    kept = info.get("aof_enabled")
    if kept is None:
        mend = "See in its console, or ask who runs it, what it keeps on disk."
        return Finding("unknown", "whether there is an append-only file can't be known: INFO doesn't tell it", mend)
    if kept == "1":
        fsync = _config(connection, "appendfsync")
        if fsync is None:
            return Finding(
                "unknown",
                "append-only file; how often it is synced can't be known, as CONFIG is refused: if the machine loses "
                "power, its last second may be lost (see queue.fsync)",
            )
        if fsync == "no":
            return Finding(
                "warning",
                "append-only file, fsync no: nobody knows what is on disk, so queue.fsync has nothing to go by",
                "redis-cli CONFIG SET appendfsync everysec (and in redis.conf)",
            )
        lasting = "nothing is lost" if fsync == "always" else "its last second is lost: see queue.fsync"
        return Finding("ok", f"append-only file, fsync {fsync}: if the machine loses power {lasting}")
    snapshots = _config(connection, "save")
    saved = "snapshots only" if snapshots else "no persistence"
    if snapshots is None:
        saved = "no append-only file (whether there are snapshots can't be known, as CONFIG is refused)"
    return Finding(
        "warning",
        f"{saved}: what waits on the list is lost if Redis dies, and queue.fsync has nothing to wait for",
        "redis-cli CONFIG SET appendonly yes (and in redis.conf)",
    )


def _memory(info: dict[str, str]) -> Finding:
    if "maxmemory" not in info:
        mend = "See in its console how large it is."
        return Finding("unknown", "maxmemory can't be known: INFO doesn't tell it", mend)
    if int(info["maxmemory"]):
        used = info.get("used_memory_human", "?")
        return Finding("ok", f"maxmemory is {info.get('maxmemory_human', info['maxmemory'])}, {used} in use")
    return Finding(
        "warning",
        "no maxmemory: a long outage of a sink fills the machine, and the kernel then kills Redis",
        "redis-cli CONFIG SET maxmemory 1gb (or what fits the machine)",
    )


def _clock(connection: Connection) -> Finding:
    (clock,) = connection.exchange(("TIME",))
    skew = abs(time.time() - int(clock[0]))
    if skew < CLOCK_SKEW_SECONDS:
        return Finding("ok", "its clock and ours agree")
    return Finding(
        "warning",
        f"its clock and ours are {skew:.0f} s apart: delivery goes by its clock alone, but ages shown will be off",
        "Run NTP on both machines.",
    )


def _look_around(connection: Connection, address: Address) -> Iterator[Finding]:
    if address.tls:
        yield _tls(address)
    info = _info(connection)
    if address.sentinels is not None:
        yield _sentinels(address.sentinels)
        if info.get("role") == "master" and info.get("connected_slaves") == "0":
            yield Finding("warning", "the primary has no replica: there is nothing to fail over to", "Start one.")
    if info.get("cluster_enabled") == "1":
        yield from _cluster(connection, address)


def _tls(address: Address) -> Finding:
    if address.checks_certificate:
        return Finding("ok", "TLS, and its certificate is one that we trust")
    return Finding(
        "warning",
        "TLS, but nobody checks its certificate: whoever sits in between can read and write all",
        "Take ssl_cert_reqs out of REDIS_URL, and name the CA's file: ?ssl_ca_certs=/path/to/ca.pem",
    )


def _sentinels(sentinels: Sentinels) -> Finding:
    primary = sentinels.primary()
    # Who was silent just now, while the primary was looked for, is not waited for again.
    quiet = [place for place in sorted(sentinels.places) if silent(place) or sentinels.silent(place)]
    message = f"{sentinels.name} is at {primary}, say {len(sentinels.places) - len(quiet)} Sentinels"
    if not quiet:
        return Finding("ok", message)
    return Finding("warning", f"{message}; no answer from {_listed(quiet)}", "Start them, or name others.")


def _cluster(connection: Connection, address: Address) -> Iterator[Finding]:
    quiet = [place for place in address.named if _silent(address, place)]
    if quiet:
        mend = "Start them, or name others in REDIS_URL."
        yield Finding("warning", f"no answer from {_listed(quiet)}, which REDIS_URL names", mend, False)
    try:
        said, slots = connection.exchange(("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))
    except QueueMisuse:
        mend = "Let its user ask: ACL SETUSER … +cluster|info +cluster|slots"
        yield Finding("warning", "a cluster that we may not ask for its nodes: while this one is down, all waits", mend)
        return
    primaries = {Place(host.decode(), port) for _, _, (host, port, *_), *_ in slots if host}
    if b"cluster_state:ok" in said:
        yield Finding("ok", f"a cluster of {len(primaries)} primaries: each flow lives on one of them")
    else:
        mend = "redis-cli --cluster check, and --cluster fix"
        yield Finding("error", "a cluster that doesn't serve all slots: flows on the others wait", mend, False)
    for place in sorted(primaries):
        reason, findings = _look_at_node(address, place)
        if reason is not None and place not in quiet:
            yield Finding("warning", f"node {place} of the cluster does not answer: {reason}", "Start it.", False)
        yield from findings


def _silent(address: Address, place: Place) -> str | None:
    """Why the node does not answer; None where it does. Who was silent just now is not waited for again."""
    if reason := silent(place):
        return reason
    connection = Connection(address.at(place))
    try:
        connection.open()
    except QueueError as error:
        return str(error)
    finally:
        connection.close()
    return None


def _look_at_node(address: Address, place: Place) -> tuple[str | None, list[Finding]]:
    """Why the node does not answer, if so, and what else is wrong with it."""
    if reason := silent(place):
        return reason, []
    node = Connection(address.at(place))
    try:
        finding = _eviction(_info(node))
    except QueueError as error:
        return str(error), []
    finally:
        node.close()
    wrong = finding.level not in ("ok", "unknown")
    return None, [msgspec.structs.replace(finding, message=f"node {place}: {finding.message}")] if wrong else []


def _listed(places: list[Place]) -> str:
    return ", ".join(map(str, places))


def _info(connection: Connection) -> dict[str, str]:
    (text,) = connection.exchange(("INFO",))
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


def _config(connection: Connection, name: str) -> str | None:
    """A directive's value; None where we may not ask (CONFIG is often forbidden)."""
    try:
        (reply,) = connection.exchange(("CONFIG", "GET", name))
    except QueueMisuse:
        return None
    pairs: Any = reply
    return pairs[1].decode() if pairs else None
