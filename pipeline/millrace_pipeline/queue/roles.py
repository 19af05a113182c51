"""Roles: what a user of Redis may do, so that each service can do its work and nothing else.

    ACL SETUSER producer on >… PRODUCER.rules([Keys("DATA-PIPELINE-KEY")])

A script's commands are checked against the rights of whoever runs it (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/),
so the lists name those of the scripts too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import msgspec

from millrace_pipeline.queue.keys import Keys

SINCE = (7, 2)
UNKNOWN_BEFORE = ("client|setinfo", "waitaof")
"""Commands that Redis and Valkey know from that version on. redis-py does without the first."""

_CONNECT = ("ping", "info", "time", "select", "client|setname", "client|setinfo")
_TRANSACTION = ("multi", "exec")
_SCRIPT = ("script|load", "evalsha")


class Role(msgspec.Struct, frozen=True):
    """The commands a user may give, and the keys of a flow that it may write or only read, as patterns."""

    commands: tuple[str, ...]
    writes: Callable[[Keys], list[str]]
    reads: Callable[[Keys], list[str]]

    def rules(self, lists: Iterable[str], *, also: Sequence[str] = (), version: tuple[int, int] = SINCE) -> str:
        """What follows name and password in `ACL SETUSER` or in an ACL file, for flows on these lists.

        `also` are commands that only some flows need: DURABLE, REPLICATED. `version` is the server's, which refuses a
        rule that names a command it doesn't know, and does not start with an ACL file that has such a rule.
        """
        known = (name for name in (*self.commands, *also) if version >= SINCE or name not in UNKNOWN_BEFORE)
        commands = [f"+{name}" for name in known]
        return " ".join(["resetchannels", "-@all", *commands, *self.patterns(lists)])

    def patterns(self, lists: Iterable[str]) -> list[str]:
        """The keys of flows on these lists, as an ACL has them."""
        flows = [Keys(_literally(name)) for name in lists]
        patterns = [f"~{key}" for flow in flows for key in self.writes(flow)]
        return patterns + [f"%R~{key}" for flow in flows for key in self.reads(flow)]


PRODUCER = Role(
    commands=(
        *(*_CONNECT, *_TRANSACTION, "watch", "unwatch", *_SCRIPT),
        *("lpush", "llen", "xadd", "xlen"),
        *("hset", "hget", "hmget", "hgetall", "hlen", "hkeys", "hdel", "hincrby", "hsetnx", "incr", "expire"),
        *("zadd", "zmscore", "zremrangebyscore", "zrem", "zrange", "zcard"),
    ),
    writes=lambda keys: [
        *(keys.ready, keys.woken, keys.dead, keys.counters, keys.checkpoints, keys.seen, keys.leader, keys.epochs),
        *(keys.variants, keys.fsync, keys.project, keys.troubles, keys.history, keys.tap_in, keys.alerts),
        *(keys.producers, keys.session("*"), keys.crawls, keys.crawl("*")),
    ],
    reads=lambda keys: [keys.steering, keys.shares],
)
"""`millrace produce`: adds to the list and never takes from it; sets aside what can't be published."""

CONSUMER = Role(
    commands=(
        *(*_CONNECT, *_TRANSACTION, *_SCRIPT),
        *("llen", "lrange", "lindex", "ltrim", "lmove", "blmove", "sort", "unlink", "exists"),
        *("hset", "hget", "hmget", "hgetall", "hkeys", "hdel", "hincrby", "expire"),
        *("zadd", "zrem", "zcount", "zrange", "zcard", "hlen"),
        *("xadd", "xlen", "xrange", "xrevrange"),
    ),
    writes=lambda keys: [
        *(keys.ready, keys.woken, keys.leases, keys.claims, keys.counters, keys.dead, keys.states),
        *(keys.variants, keys.fsync, keys.project, keys.consumers, keys.history, keys.steering),
        *(keys.tap_in, keys.tap_out, keys.alerts, keys.shares),
        *(keys.batch("*"), keys.session("*")),
    ],
    reads=lambda keys: [keys.checkpoints, keys.troubles, keys.producers, keys.crawls, keys.crawl("*")],
)
"""`millrace consume`, `tap` and all that looks: takes, sets aside, and puts back nothing but what it holds."""

READER = Role(
    commands=(
        *(*_CONNECT, *_TRANSACTION),
        *("exists", "type", "ttl", "pttl", "strlen", "get", "memory|usage"),
        *("llen", "lrange", "lindex", "lpos"),
        *("hlen", "hget", "hmget", "hgetall", "hkeys", "hscan"),
        *("zcard", "zcount", "zlexcount", "zrange", "zscore", "zmscore", "zscan"),
        *("xlen", "xrange", "xrevrange", "xinfo|stream"),
    ),
    writes=lambda _: [],
    reads=lambda keys: [keys.ready, keys.beside("*")],
)
"""People and dashboards, `redis-cli`, `millrace status`, `verify`, `dead ls`: looks, and changes nothing."""

OPERATOR = Role(
    commands=(
        *(*READER.commands, *_SCRIPT, "acl|whoami"),
        *("lpush", "rpush", "lrem", "lset", "ltrim", "lmove"),
        *("hset", "hdel", "hincrby", "xadd", "xdel", "zadd", "zrem", "expire"),
    ),
    writes=lambda keys: [
        *(keys.ready, keys.woken, keys.counters, keys.dead, keys.variants, keys.history),
        *(keys.steering, keys.changes, keys.checkpoints, keys.leases, keys.claims, keys.batch("*")),
        *(keys.tap_in, keys.tap_out, keys.session("*"), keys.crawls, keys.crawl("*")),
    ],
    reads=READER.reads,
)
"""A person who steers: pauses, moves a checkpoint, purges, requeues, and puts back, edits or drops dead letters."""

DURABLE = ("waitaof",)
"""To wait until what was written is on disk."""

REPLICATED = ("wait",)
"""For a flow with `queue.replicas`."""

RELOADER = Role(commands=("client|setname", "client|setinfo", "acl|load"), writes=lambda _: [], reads=lambda _: [])
"""Makes Redis read its ACL file anew."""


def user(
    name: str,
    passwords: Sequence[str],
    role: Role,
    lists: Sequence[str],
    *,
    also: Sequence[str] = (),
    written: Sequence[str] = (),
    version: tuple[int, int] = SINCE,
) -> str:
    """A line of an ACL file. Passwords are SHA-256 hashes in hex; without any, the user needs none.

    `also` and `version` are as `Role.rules` takes them, and `written` the keys that sinks write to with the ack.
    """
    secrets = [f"#{password}" for password in passwords] or ["nopass"]
    more = _selectors(role.patterns(lists), [f"~{_literally(key)}" for key in written]) if written else []
    return " ".join(["user", name, "reset", "on", *secrets, role.rules(lists, also=also, version=version), *more])


def _selectors(own: Sequence[str], written: Sequence[str]) -> list[str]:
    """Rights in parentheses, apart from the user's others: what lets it add to those keys must not let it add to the
    flow's list, nor what it may do with the flow's list be done to those keys, which may be the list of another flow.

    The script names all keys of an ack; what it does with each is looked at one by one.
    """
    adding = " ".join(f"+{name}" for name in ("llen", "xlen", "hget", "lpush", "rpush", "xadd", "hset"))
    return [f"(+evalsha {' '.join((*own, *written))})", f"({adding} {' '.join(written)})"]


def _literally(name: str) -> str:
    """The name as a pattern that matches it alone."""
    return re.sub(r"([*?\[\\])", r"\\\1", name)
