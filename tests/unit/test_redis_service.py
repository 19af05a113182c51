"""Which service a Redis is, by what it and its address say, and what `check --connect` says that it can't promise."""

from __future__ import annotations

import pytest

from millrace_pipeline.redis.preflight import _eviction, _memory, _version
from millrace_pipeline.redis.service import MANAGED, service_of

REDIS = {"redis_version": "7.2.4", "executable": "/usr/bin/redis-server", "os": "Linux 6.1 x86_64"}
VALKEY = {**REDIS, "server_name": "valkey", "valkey_version": "8.1.1"}
FOUND = {
    "Redis 7.2.4": (REDIS, "redis://redis:6379/0"),
    "Valkey 8.1.1": (VALKEY, "redis://h:6379/0"),
    "KeyDB 6.3.4": ({"redis_version": "6.3.4", "mvcc_depth": "0"}, "redis://h/0"),
    "Dragonfly df-v1.30.0": ({"redis_version": "7.4.0", "dragonfly_version": "df-v1.30.0"}, "redis://h/0"),
    "Redict 7.3.6": ({"redis_version": "7.2.4", "redict_version": "7.3.6"}, "redis://h/0"),
    "Garnet 1.0.80": ({"redis_version": "7.4.3", "garnet_version": "1.0.80"}, "redis://h/0"),
    "Kvrocks 2.9.0": ({"redis_version": "4.0.0", "kvrocks_version": "2.9.0"}, "redis://h/0"),
    "Amazon ElastiCache, Valkey 8.1.1": (
        VALKEY,
        "rediss://u:p@master.shop.abc123.euw1.cache.amazonaws.com:6379/0",
    ),
    "Amazon ElastiCache, Redis 7.2.4": ({**REDIS, "os": "Amazon ElastiCache"}, "rediss://10.0.0.9/0"),
    "Amazon ElastiCache Serverless, Valkey 8.1.1": (
        VALKEY,
        "rediss+cluster://u:p@shop-abc123.serverless.euw1.cache.amazonaws.com:6379/",
    ),
    "Amazon MemoryDB, Valkey 8.1.1": (
        VALKEY,
        "rediss+cluster://clustercfg.shop.abc123.memorydb.eu-west-1.amazonaws.com:6379,other:6379/",
    ),
    "Google Cloud Memorystore, Valkey 8.1.1": (VALKEY, "rediss://shop.europe-west1.memorystore.goog/0"),
    "Upstash, Redis 6.2.6": ({"redis_version": "6.2.6", "upstash_version": "1.7"}, "rediss://h/0"),
    "Redis Cloud, Redis 7.2.4": (REDIS, "rediss://default:p@redis-123.c1.eu-west-1-3.ec2.redns.redis-cloud.com:123/0"),
    "Azure Cache for Redis, Redis 7.2.4": (REDIS, "rediss://:p@shop.redis.cache.windows.net:6380/0"),
}
TOO_OLD = {"KeyDB 6.3.4"}
HOLDS_ALL = {"Redis 7.2.4", "Valkey 8.1.1", "Redict 7.3.6", "Amazon MemoryDB, Valkey 8.1.1"}
"""Those of which there is nothing to say but what INFO tells of this one."""


@pytest.mark.parametrize("name", FOUND)
def test_it_is_named_and_its_version_is_looked_at(name: str) -> None:
    service = service_of(*FOUND[name])
    finding = _version(service)
    assert finding.message.startswith(name)
    assert finding.level == ("error" if name in TOO_OLD else "ok")
    assert (not service.limits) == (name in HOLDS_ALL)
    assert all(limit and mend for limit, mend in service.limits)


def test_every_managed_service_is_among_them() -> None:
    assert {managed.name for managed in MANAGED} == {name.partition(",")[0] for name in FOUND if "," in name}


def test_a_host_that_only_looks_like_one_is_none() -> None:
    assert service_of(REDIS, "redis://cache.amazonaws.com.example.org/0").name == "Redis"
    assert service_of(REDIS, "redis://user:x.upstash.io@h/0").name == "Redis"


def test_what_info_does_not_tell_is_unknown_and_no_failure() -> None:
    assert (_eviction({}).level, _memory({}).level) == ("unknown", "unknown")
    assert "can't be known" in _eviction({}).message
