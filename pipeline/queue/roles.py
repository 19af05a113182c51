"""Roles: what a user of Redis may do, so that each service can do its work and nothing else.

    ACL SETUSER producer on >… PRODUCER.rules([Keys("DATA-PIPELINE-KEY")])

A script's commands are checked against the rights of whoever runs it (https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/),
so the lists name those of the scripts too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import msgspec

from pipeline.queue.keys import Keys

_CONNECT = ("ping", "info", "time", "select", "client|setname", "client|setinfo")
_TRANSACTION = ("multi", "exec")
_SCRIPT = ("script|load", "evalsha")


class Role(msgspec.Struct, frozen=True):
    """The commands a user may give, and the keys of a flow that it may write or only read, as patterns."""

    commands: tuple[str, ...]
    writes: Callable[[Keys], list[str]]
    reads: Callable[[Keys], list[str]]

    def rules(self, lists: Iterable[str]) -> str:
        """What follows name and password in `ACL SETUSER` or in an ACL file, for flows on these lists."""
        flows = [Keys(_literally(name)) for name in lists]
        patterns = [f"~{key}" for flow in flows for key in self.writes(flow)]
        patterns += [f"%R~{key}" for flow in flows for key in self.reads(flow)]
        return " ".join(["resetchannels", "-@all", *(f"+{name}" for name in self.commands), *patterns])


PRODUCER = Role(
    commands=(
        *(*_CONNECT, *_TRANSACTION, "watch", "unwatch", *_SCRIPT),
        *("lpush", "llen", "xadd"),
        *("hset", "hget", "hmget", "hincrby", "incr", "expire"),
        *("zadd", "zmscore", "zremrangebyscore"),
    ),
    writes=lambda keys: [
        *(keys.ready, keys.dead, keys.counters, keys.checkpoints, keys.seen, keys.leader, keys.epochs),
        *(keys.variants, keys.fsync, keys.project),
        keys.session("*"),
    ],
    reads=lambda keys: [keys.woken],
)
"""`millrace produce`: adds to the list and never takes from it; sets aside what can't be published."""

CONSUMER = Role(
    commands=(
        *(*_CONNECT, *_TRANSACTION, *_SCRIPT),
        *("llen", "lrange", "lindex", "ltrim", "lmove", "blmove", "rpush", "lrem", "sort", "unlink", "exists"),
        *("hset", "hget", "hmget", "hgetall", "hdel", "hincrby", "expire"),
        *("zadd", "zrem", "zcount", "zrange"),
        *("xadd", "xdel", "xlen", "xrange", "xrevrange"),
    ),
    writes=lambda keys: [
        *(keys.ready, keys.woken, keys.leases, keys.claims, keys.counters, keys.dead, keys.states),
        *(keys.variants, keys.fsync, keys.project),
        *(keys.batch("*"), keys.session("*")),
    ],
    reads=lambda keys: [keys.checkpoints],
)
"""`millrace consume`, `status`, `verify` and `dead` with all it does, such as replay."""

READER = Role(
    commands=(
        *(*_CONNECT, *_TRANSACTION),
        *("exists", "type", "ttl", "pttl", "strlen", "get", "memory|usage"),
        *("llen", "lrange", "lindex", "lpos"),
        *("hlen", "hget", "hmget", "hgetall", "hkeys", "hscan"),
        *("zcard", "zcount", "zrange", "zscore", "zmscore", "zscan"),
        *("xlen", "xrange", "xrevrange", "xinfo|stream"),
    ),
    writes=lambda _: [],
    reads=lambda keys: [keys.ready, keys.beside("*")],
)
"""People and dashboards, `redis-cli`, `millrace status`, `verify`, `dead ls`: looks, and changes nothing."""

RELOADER = Role(commands=("client|setname", "client|setinfo", "acl|load"), writes=lambda _: [], reads=lambda _: [])
"""Makes Redis read its ACL file anew."""


def user(name: str, passwords: Sequence[str], role: Role, lists: Iterable[str], *, written: Sequence[str] = ()) -> str:
    """A line of an ACL file. Passwords are SHA-256 hashes in hex; without any, the user needs none.

    `written` are the keys that sinks write to with the ack.
    """
    secrets = [f"#{password}" for password in passwords] or ["nopass"]
    patterns = [f"~{_literally(key)}" for key in written]
    # In a selector of its own: what lets it add to that list must not let it add to the flow's.
    more = [*patterns, f"(+lpush {' '.join(patterns)})"] if written else []
    return " ".join(["user", name, "reset", "on", *secrets, role.rules(lists), *more])


def _literally(name: str) -> str:
    """The name as a pattern that matches it alone."""
    return re.sub(r"([*?\[\\])", r"\\\1", name)
