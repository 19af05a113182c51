"""Every key name of a flow, and nothing else.

All keys of a flow carry its list's name as their hash tag, so that they live in one slot of a Redis Cluster and one
script or transaction may touch them all (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).
"""

from __future__ import annotations

from pipeline.errors import ConfigError


class Keys:
    """The keys of the flow whose list is `ready`; `ready` itself is what `redis-cli LLEN` shows."""

    def __init__(self, ready: str) -> None:
        self.ready = ready
        stem = ready if _has_hash_tag(ready) else f"{{{ready}}}"
        self.woken = f"{stem}:woken"
        """list: records that woke a waiting consumer, on their way back into a claim; they count as ready"""
        self.leases = f"{stem}:leases"
        """zset: batch id → deadline, in milliseconds of Redis time"""
        self.claims = f"{stem}:claims"
        """hash: batch id → who holds it, as JSON {token, consumer, attempts, steps, records, since}"""
        self.counters = f"{stem}:counters"
        """hash: published, foreign, delivered, filtered, in_flight, discarded"""
        self.checkpoints = f"{stem}:checkpoints"
        """hash: source → position, as JSON"""
        self.leader = f"{stem}:leader"
        """hash: session, until (ms of Redis time), name, epoch: the one producer of a source that must not run twice"""
        self.epochs = f"{stem}:epochs"
        """string: counts the takeovers of the source; a publish watches it"""
        self.dead = f"{stem}:dead"
        """stream: dead letters, with the exact bytes in the field `record`"""
        self.variants = f"{stem}:variants"
        """list: records that the flow's contract set aside; head is newest"""
        self.states = f"{stem}:states"
        """hash: reader's name → what it remembers, as JSON"""
        self.seen = f"{stem}:seen"
        """zset: key of a published record → when, in milliseconds of Redis time"""
        self.fsync = f"{stem}:fsync"
        """hash: touched before each question about what is on disk, since Redis answers for what the asker wrote"""
        self.project = f"{stem}:project"
        """hash: whose list it is: name, flow, source, sink, place"""
        self._stem = stem

    def batch(self, id: str, step: int = 1) -> str:
        """list: the records of a batch; each step that filled it has a list of its own."""
        name = self.beside(f"batch:{id}")
        return name if step == 1 else f"{name}:{step}"

    def parts(self, id: str, steps: int) -> list[str]:
        """The lists of a batch that was filled in so many steps."""
        return [self.batch(id, step) for step in range(1, steps + 1)]

    def session(self, id: str) -> str:
        """hash: how far one producer or consumer got, so that what it sends twice is applied once."""
        return self.beside(f"session:{id}")

    def beside(self, name: str) -> str:
        """The key of this name that stands beside the list."""
        return f"{self._stem}:{name}"


def _has_hash_tag(key: str) -> bool:
    opening = key.find("{")
    if opening == -1 and "}" not in key:
        return False
    closing = key.find("}", opening + 1)
    if opening != -1 and closing > opening + 1:
        return True
    raise ConfigError(f"queue key {key!r}: braces must form a Redis hash tag such as {{name}}; leave them out")
