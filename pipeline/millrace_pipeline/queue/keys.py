"""Every key name of a flow, and nothing else.

All keys of a flow live in its list's slot, so that one script or transaction may touch them all.
"""

from __future__ import annotations

from millrace_pipeline.redis.slot import key_beside


class Keys:
    """The keys of the flow whose list is `ready`; `ready` itself is what `redis-cli LLEN` shows."""

    def __init__(self, ready: str) -> None:
        self.ready = ready
        self.woken = self.beside("woken")
        """list: records that woke a waiting consumer, on their way back into a claim; they count as ready"""
        self.leases = self.beside("leases")
        """zset: batch id → deadline, in milliseconds of Redis time"""
        self.claims = self.beside("claims")
        """hash: batch id → who holds it, as JSON {token, consumer, attempts, steps, records, since}, and `delayed`
        while nobody may take it"""
        self.counters = self.beside("counters")
        """hash: published, foreign, delivered, filtered, in_flight, discarded, bytes_in, bytes_out"""
        self.checkpoints = self.beside("checkpoints")
        """hash: source → position, as JSON"""
        self.leader = self.beside("leader")
        """hash: session, until (ms of Redis time), name, epoch: the one producer of a source that must not run twice"""
        self.epochs = self.beside("epochs")
        """string: counts the takeovers of the source; a publish watches it"""
        self.dead = self.beside("dead")
        """stream: dead letters, with the exact bytes in the field `record`"""
        self.variants = self.beside("variants")
        """list: records that the flow's contract set aside; head is newest"""
        self.states = self.beside("states")
        """hash: reader's name → what it remembers, as JSON"""
        self.seen = self.beside("seen")
        """zset: key of a published record → when, in milliseconds of Redis time"""
        self.fsync = self.beside("fsync")
        """hash: touched before each question about what is on disk, since Redis answers for what the asker wrote"""
        self.consumers = self.beside("consumers")
        """hash: consumer → what it says of itself every few seconds, as JSON {session, starts, at, says}"""
        self.producers = self.beside("producers")
        """hash: producer → the same, with how far its crawl has come"""
        self.history = self.beside("history")
        """hash: second since 1970 → how the counters stood then, as numbers with spaces between them"""
        self.project = self.beside("project")
        """hash: whose list it is: name, flow, source, sink, place; in how many partitions the flow is kept"""
        self.steering = self.beside("steering")
        """hash: producers, consumers → who paused them, as JSON; `moves`: how often a checkpoint was set by hand"""
        self.changes = self.beside("changes")
        """list: what people changed, as JSON {id, at, records, what, …}; head is newest"""
        self.troubles = self.beside("troubles")
        """hash: `source` → what keeps it from giving anything, as JSON {reason, since, last}; else empty"""
        self.alerts = self.beside("alerts")
        """hash: who watches, `rule:<alert>` → its state, `notice:<…>` → a notice that is still to be told"""
        self.shares = self.beside("shares")
        """hash: minute, `looked` or `null`, and field → so many of the delivered records, for alerts"""
        self.tap_in = self.beside("tap:in")
        """stream: a sample of what is published, in lots; it is there while somebody listens"""
        self.tap_out = self.beside("tap:out")
        """stream: the same of what is delivered, as it was before and after the transforms"""

        self.crawls = self.beside("crawls")
        """hash: crawl → when it began, in milliseconds of Redis time"""

    def crawl(self, name: str) -> str:
        """hash: how a crawl stands; its other keys begin with this one's name."""
        return self.beside(f"crawl:{name}")

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
        return key_beside(self.ready, name)
