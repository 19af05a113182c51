"""Publishing: how records get on the list, once, with the source's checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

import msgspec

from millrace_pipeline.envelope import DeadLetter, Position
from millrace_pipeline.errors import CheckpointMoved, FlowPaused, ProducerFenced, PublishesLost, QueueUnavailable
from millrace_pipeline.queue.fence import Fence
from millrace_pipeline.queue.leading import TAKEN_OVER, Leading
from millrace_pipeline.queue.pausing import Paused
from millrace_pipeline.queue.replies import milliseconds
from millrace_pipeline.queue.session import SESSION_SECONDS, Session
from millrace_pipeline.queue.tap import Sampled, Tap, cut
from millrace_pipeline.redis.connection import Command, raise_nested
from millrace_pipeline.redis.lots import in_lots


class Published(msgspec.Struct, frozen=True):
    """What a publish did: how many records it added, how many it left out as seen before, and the lag after it."""

    records: int
    duplicates: int
    lag: int


class Publishing:
    """The producer's half of a queue. One thread at a time publishes; with `leading` only while we lead."""

    def __init__(self, session: Session, leading: Leading | None = None) -> None:
        self.session = session
        self.keys = session.keys
        self._leading = leading
        self._disk = session.disk()
        # A connection apart: any other EXEC would end the WATCH that stands in it.
        self._fence = Fence(session.another_connection(), self.keys, session.key)
        self._publishes = 0
        self.paused = Paused("producers", self.keys.ready)
        """Whether we are to stand still, as far as we heard."""
        self._moves: bytes | None = None  # how often a checkpoint was set by hand, once we have read it
        self.tap = Tap(session, session.keys.tap_in)

    def publish(
        self,
        envelopes: Sequence[bytes],
        *,
        ids: Sequence[str] = (),
        variants: Collection[int] = (),
        seen_seconds: float = 0,
        dead: Sequence[DeadLetter] = (),
        checkpoint: tuple[str, Position] | None = None,
        although_paused: bool = False,
    ) -> Published:
        """Appends envelopes to the list, with the source's checkpoint, in one transaction.

        With `seen_seconds` an envelope whose id (in `ids`, one an envelope) was published within that time is left out,
        and the others' ids are remembered in the same transaction. `variants` are the indexes of those envelopes that
        go on the variant list instead, `dead` are set aside as dead letters; both count as published.

        A publish is applied once, whatever happens to connections. It is a plain MULTI, since records should not pass
        through Lua; what makes it conditional is a WATCH on our session key, sent behind the previous transaction and
        so free. Whoever is unsure whether a publish was applied first *touches* that key from a new connection. From
        then on the transaction can't be applied any more, however late it arrives, and the session's number tells the
        truth.

        Raises QueueFull where Redis is at maxmemory, and FlowPaused where a person has paused the producers (nothing
        was published; call again later, or `although_paused`), ProducerFenced where another producer took this source
        over, QueueUnavailable once `give_up` is set. Raises PublishesLost, once, where Redis has forgotten earlier
        publishes of ours (nothing was published; another call publishes), and CheckpointMoved, until `begin_at`, where
        a person has set the checkpoint.
        """
        number = self._publishes + 1
        done: Published | None = None  # applied, but perhaps not on enough replicas yet
        fresh: Sequence[int] = range(len(envelopes))

        def attempt() -> Published:
            nonlocal done, fresh
            while True:
                if not self._fence.stands:
                    if self._raise_fence() < number:
                        done = None  # also where it was applied, and a failover has lost it
                    elif done is None:
                        done = Published(len(fresh), len(envelopes) - len(fresh), self.session.lag())
                if done is not None:
                    # The fence, if there was one, was written behind the publish: who holds the one holds the other.
                    self._await_replicas()
                    return done
                if not although_paused and self.paused.now is not None:
                    raise FlowPaused(f"the producers of {self.keys.ready} are {self.paused.now}")
                if seen_seconds:
                    fresh = self._unseen(ids, seen_seconds)
                ready, apart = _parted(envelopes, fresh, variants)
                commands = self._transaction(number, ready, dead, checkpoint, apart)
                if seen_seconds:
                    commands[1:1] = self._remember([ids[i] for i in fresh], seen_seconds)
                question = self.tap.question()
                wait = self.session.replicas.wait
                results, behind = self._fence.commit(commands, (*wait, *question), may_fail=len(question))
                self.tap.hear(behind[len(wait) :])
                if results is not None:
                    raise_nested(results)
                    depth, in_flight = results[-2:]
                    done = Published(len(fresh), len(envelopes) - len(fresh), depth + int(in_flight or 0))
                    if not wait or self.session.replicas.enough(behind[len(wait) - 1]):
                        return done
                # Something we watch has changed: our own touch, or another producer's publish of the same keys.

        if self.paused.now is not None:
            self.look()
        self.session.history.note()
        published = self.session.persist(attempt)
        self._publishes = number
        self.tap.keep(
            Sampled(cut(envelopes[index]), "variant" if index in variants else "published")
            for index in (fresh[place] for place in self.tap.take(len(fresh)))
        )
        return published

    @property
    def sessions(self) -> list[Session]:
        """The sessions with the lists that are published to: the one."""
        return [self.session]

    def lag(self) -> int:
        """How many records are ready or in flight."""
        return self.session.lag()

    @property
    def publishes(self) -> int:
        """The number of publishes that Redis has told us of."""
        return self._publishes

    def publishes_on_disk(self, stop: threading.Event) -> int | None:
        """Return how many publishes of ours Redis knows of, once these are on its disk; None once `stop` is set.

        For a thread of its own; waits out an outage. Where Redis keeps no file, or can't say, nothing is waited for.
        """
        look = ("HGET", self.session.key, "published")
        seen = self.session.persist(lambda: self._disk.confirm(look, stop=stop), over=stop)
        return None if seen is None else int(seen[0] or 0)

    def publishes_known(self, stop: threading.Event) -> int:
        """Return how many publishes of ours Redis knows of. Raises QueueUnavailable once `stop` is set in an outage."""
        look = ("HGET", self.session.key, "published")
        return int(self.session.persist(lambda: self.session.connection.exchange(look), over=stop)[0] or 0)

    def check_publishes(self) -> None:
        """Raise PublishesLost, once, where Redis has forgotten publishes of ours. For the thread that publishes."""
        self.session.persist(self._raise_fence)

    def look(self) -> None:
        """Ask what people say of the flow. Raises CheckpointMoved where a person has set the checkpoint."""
        self.hear(*self.session.ask(("HMGET", self.keys.steering, "producers", "moves"))[0])

    def hear(self, paused: bytes | None, moves: bytes | None) -> None:
        """Take note of what people say of the flow. Raises CheckpointMoved where a person has set the checkpoint."""
        self.paused.hear(paused)
        if self._moves is not None and (moves or b"") != self._moves:
            raise CheckpointMoved("a person has set the checkpoint: it is read again from there")

    def forget_moves(self) -> None:
        """Forget which checkpoint is known: none is read from until `begin_at` has returned one."""
        self._moves = None

    def begin_at(self, source: str) -> Position | None:
        """Return the checkpoint of this source, to read it from there: until a person sets another."""
        text, (paused, moves) = self.session.ask_at_once(
            ("HGET", self.keys.checkpoints, source), ("HMGET", self.keys.steering, "producers", "moves")
        )
        self._moves = moves or b""
        self.paused.hear(paused)
        return None if text is None else msgspec.json.decode(text)

    def checkpoint(self, source: str) -> Position | None:
        """The position that was saved with the last publish of this source, or None."""
        text = self.session.ask(("HGET", self.keys.checkpoints, source))[0]
        return None if text is None else msgspec.json.decode(text)

    def close(self) -> None:
        """Drop the connections that are publishing's own."""
        self.tap.close()
        self._fence.close()
        self._disk.close()

    def _raise_fence(self) -> int:
        """Raise the fence, and return the number of our last publish that Redis knows of.

        Raises ProducerFenced where another leads, PublishesLost, once, where Redis has forgotten some of ours, and
        CheckpointMoved, where a person has set the checkpoint: then the next publish is one after those that it knows.
        """
        applied, leader, paused, moves = self._fence.raise_()
        if self._leading and not self._leading.is_still(*leader):
            self._publishes = applied
            self._fence.close()
            raise ProducerFenced(TAKEN_OVER)
        if applied < self._publishes:
            lost, self._publishes = self._publishes - applied, applied
            raise PublishesLost(f"Redis has forgotten the last {lost} publishes of this producer")
        try:
            self.hear(paused, moves)
        except CheckpointMoved:
            self._publishes = applied
            self._fence.close()  # so that the next publish looks again
            raise
        return applied

    def _await_replicas(self) -> None:
        """Returns once enough replicas hold what was written on this connection. Raises QueueUnavailable."""
        while self.session.replicas.wanted:
            (holding,) = self._fence.ask(*self.session.replicas.wait)
            if self.session.replicas.enough(holding):
                return
            self.session.answered()
            if self.session.give_up.is_set():
                raise QueueUnavailable(self.session.replicas.shortage)

    def _transaction(
        self,
        number: int,
        envelopes: Sequence[bytes],
        dead: Sequence[DeadLetter],
        checkpoint: tuple[str, Position] | None,
        variants: Sequence[bytes] = (),
    ) -> list[Command]:
        keys = self.keys
        commands: list[Command] = [("MULTI",)]
        commands += in_lots(("LPUSH", keys.ready), envelopes)
        commands += in_lots(("LPUSH", keys.variants), variants)
        commands += [
            ("XADD", keys.dead, "*", "reason", letter.reason, "attempts", 0, "batch", "", "record", letter.original)
            for letter in dead
        ]
        if checkpoint:
            source, position = checkpoint
            commands.append(("HSET", keys.checkpoints, source, msgspec.json.encode(position)))
        if published := len(envelopes) + len(variants) + len(dead):
            size = sum(map(len, envelopes)) + sum(map(len, variants)) + sum(len(letter.original) for letter in dead)
            commands += [
                ("HINCRBY", keys.counters, "published", published),
                ("HINCRBY", keys.counters, "bytes_in", size),
            ]
        return [
            *commands,
            ("HSET", self.session.key, "published", number),
            ("EXPIRE", self.session.key, SESSION_SECONDS),
            ("LLEN", keys.ready),
            ("HGET", keys.counters, "in_flight"),
        ]

    def _unseen(self, ids: Sequence[str], seconds: float) -> list[int]:
        """The indexes of the ids that were not published within the window, nor stand twice among these."""
        _, clock, *lots = self._fence.ask(
            ("WATCH", self.keys.seen), ("TIME",), *in_lots(("ZMSCORE", self.keys.seen), ids)
        )
        scores = [score for lot in lots for score in lot]
        self._now_ms = milliseconds(clock)
        horizon = self._now_ms - seconds * 1000
        first = {id: index for index, id in reversed(list(enumerate(ids)))}
        return [
            index
            for index, (id, score) in enumerate(zip(ids, scores, strict=True))
            if first[id] == index and (score is None or float(score) < horizon)
        ]

    def _remember(self, ids: Sequence[str], seconds: float) -> list[Command]:
        seen = self.keys.seen
        forget: Command = ("ZREMRANGEBYSCORE", seen, "-inf", f"({self._now_ms - int(seconds * 1000)}")
        scores = [part for id in ids for part in (self._now_ms, id)]
        return [forget, *in_lots(("ZADD", seen), scores, size=2)]


def _parted(
    envelopes: Sequence[bytes], fresh: Sequence[int], variants: Collection[int]
) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """Of the envelopes that are fresh those for the list, and those for the variant list."""
    if not variants and len(fresh) == len(envelopes):
        return envelopes, ()
    return [envelopes[i] for i in fresh if i not in variants], [envelopes[i] for i in fresh if i in variants]
