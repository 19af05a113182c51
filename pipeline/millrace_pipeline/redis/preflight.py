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

OLDEST_REDIS = (7, 0)
OLDEST_VALKEY = (7, 2)
CLOCK_SKEW_SECONDS = 60.0


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `mend` is what to do, a command where there is one; empty where all is well."""

    level: Literal["ok", "warning", "error"]
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
        return [*_look(connection), *_look_around(connection, address)]
    except QueueMisuse as error:
        return [Finding("error", str(error), "docs/how-to/redis.md lists what REDIS_URL may be and its user needs.")]
    except QueueError as error:
        return [
            Finding("error", f"Redis does not answer: {error}", "Start it, or set REDIS_URL to where it is.", False)
        ]
    finally:
        if connection is not None:
            connection.close()


def _look(connection: Connection) -> Iterator[Finding]:
    info = _info(connection)
    yield _version(info)
    yield _eviction(info)
    yield _persistence(connection, info)
    yield _memory(info)
    yield _clock(connection)
    if info.get("role") != "master" and info.get("cluster_enabled") != "1":  # a cluster's leads on to its primary
        yield Finding(
            "error", "this is a read-only replica", "Point REDIS_URL at the primary, or use a Sentinel URL.", False
        )


def _version(info: dict[str, str]) -> Finding:
    valkey = info.get("server_name") == "valkey"
    name, oldest = ("Valkey", OLDEST_VALKEY) if valkey else ("Redis", OLDEST_REDIS)
    version = info.get("valkey_version") or info.get("redis_version", "0")
    if tuple(int(number) for number in re.findall(r"\d+", version)[:2]) >= oldest:
        return Finding("ok", f"{name} {version}")
    return Finding(
        "error",
        f"{name} {version} is too old",
        f"Use Redis ≥ {_dotted(OLDEST_REDIS)} or Valkey ≥ {_dotted(OLDEST_VALKEY)}.",
    )


def _eviction(info: dict[str, str]) -> Finding:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return Finding("ok", "maxmemory-policy is noeviction: a full Redis refuses, it doesn't throw away")
    return Finding(
        "error",
        f"maxmemory-policy is {policy}: a full Redis would throw records away",
        "redis-cli CONFIG SET maxmemory-policy noeviction (and in redis.conf)",
    )


def _persistence(connection: Connection, info: dict[str, str]) -> Finding:
    if info.get("aof_enabled") == "1":
        fsync = _config(connection, "appendfsync") or "everysec"
        if fsync == "no":
            return Finding(
                "warning",
                "append-only file, fsync no: nobody knows what is on disk, so queue.fsync has nothing to go by",
                "redis-cli CONFIG SET appendfsync everysec (and in redis.conf)",
            )
        lasting = "nothing is lost" if fsync == "always" else "its last second is lost: see queue.fsync"
        return Finding("ok", f"append-only file, fsync {fsync}: if the machine loses power {lasting}")
    saved = "snapshots only" if _config(connection, "save") else "no persistence"
    return Finding(
        "warning",
        f"{saved}: what waits on the list is lost if Redis dies, and queue.fsync has nothing to wait for",
        "redis-cli CONFIG SET appendonly yes (and in redis.conf)",
    )


def _memory(info: dict[str, str]) -> Finding:
    if int(info.get("maxmemory", 0)):
        return Finding("ok", f"maxmemory is {info['maxmemory_human']}, {info['used_memory_human']} in use")
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
    wrong = finding.level != "ok"
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


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
