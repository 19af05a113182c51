"""Publishing: how records get on the list, once, with the source's checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from pipeline.envelope import DeadLetter, Position
from pipeline.errors import ProducerFenced, PublishesLost, QueueUnavailable
from pipeline.queue.connection import Command, Connection, raise_nested
from pipeline.queue.session import SESSION_SECONDS, Session


class Published(msgspec.Struct, frozen=True):
    """What a publish did: how many records it added, how many it left out as seen before, and the lag after it."""

    records: int
    duplicates: int
    lag: int


class Publishing(Session):
    """The producer's half of a queue. One thread at a time publishes."""

    def __init__(self, url: str, key: str, **options: Any) -> None:
        super().__init__(url, key, **options)
        self._publishing = Connection(self._address)  # apart: any other EXEC would end the WATCH that stands in it
        self._publishes = 0
        self._watching: int | None = None  # the connection generation in which our WATCH stands
        self._leads = False

    def publish(
        self,
        envelopes: Sequence[bytes],
        *,
        ids: Sequence[str] = (),
        variants: Collection[int] = (),
        seen_seconds: float = 0,
        dead: Sequence[DeadLetter] = (),
        checkpoint: tuple[str, Position] | None = None,
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

        Raises QueueFull where Redis is at maxmemory (nothing was published; call again later), ProducerFenced where
        another producer took this source over, QueueUnavailable once `give_up` is set. Raises PublishesLost, once,
        where Redis has forgotten earlier publishes of ours (nothing was published; another call publishes).
        """
        number = self._publishes + 1
        done: Published | None = None  # applied, but perhaps not on enough replicas yet

        connection = self._publishing

        def attempt() -> Published:
            nonlocal done
            while True:
                if self._watching != connection.generation:
                    if self._fence(connection) < number:
                        done = None  # also where it was applied, and a failover has lost it
                    elif done is None:
                        done = Published(len(envelopes), 0, self.lag())
                    self._watching = connection.generation
                if done is not None:
                    # The fence, if there was one, was written behind the publish: who holds the one holds the other.
                    self._await_replicas(connection)
                    return done
                fresh = self._unseen(connection, ids, seen_seconds) if seen_seconds else range(len(envelopes))
                ready, apart = _parted(envelopes, fresh, variants)
                commands = self._transaction(number, ready, dead, checkpoint, apart)
                if seen_seconds:
                    commands[1:1] = self._remember([ids[i] for i in fresh], seen_seconds)
                self._watching = None  # EXEC ends it, and an error on the way leaves it open
                watch = ("WATCH", self._session_key, self.keys.epochs)
                replies = connection.exchange(*commands, ("EXEC",), watch, *self._replicas.wait)
                results = replies[len(commands)]
                if results is not None:
                    self._watching = connection.generation
                    raise_nested(results)
                    depth, in_flight = results[-2:]
                    done = Published(len(fresh), len(envelopes) - len(fresh), depth + int(in_flight or 0))
                    if not self._replicas.wanted or self._replicas.enough(replies[-1]):
                        return done
                # Something we watch has changed: our own touch, or another producer's publish of the same keys.

        published = self._persist(attempt)
        self._publishes = number
        return published

    def lead(self, lease_seconds: float) -> float:
        """Becomes or stays the one producer of this list. Returns 0 where we lead, else the seconds to wait at most.

        Once we have led, a publish after somebody else's takeover raises ProducerFenced.
        """
        keys = [self.keys.leader, self.keys.epochs]
        (left_ms,) = self.ask_script("lead", keys, [self.session, int(lease_seconds * 1000), self.name])
        if left_ms == 0:
            self._leads = True
        elif self._leads:
            raise ProducerFenced("another producer has taken over this source")
        return float(left_ms) / 1000

    def resign(self) -> None:
        """Stops leading, so that a standby needn't wait for the lease to run out."""
        if self._leads:
            self.ask_script("resign", [self.keys.leader], [self.session])

    def checkpoint(self, source: str) -> Position | None:
        """The position that was saved with the last publish of this source, or None."""
        text = self.ask(("HGET", self.keys.checkpoints, source))[0]
        return None if text is None else msgspec.json.decode(text)

    def close(self) -> None:
        """Drops the connection of publishing, too."""
        super().close()
        self._publishing.close()

    def _fence(self, connection: Connection) -> int:
        """Touches our session key, so that nothing sent before can still be applied, then watches it.

        Returns the number of the last publish that was applied.
        """
        replies = connection.exchange(
            ("UNWATCH",),
            ("MULTI",),
            ("HINCRBY", self._session_key, "fences", 1),
            ("EXPIRE", self._session_key, SESSION_SECONDS),
            ("HGET", self._session_key, "published"),
            ("EXEC",),
            ("WATCH", self._session_key, self.keys.epochs),
            ("HGET", self.keys.leader, "session"),
        )
        # Read behind the WATCH: a takeover from here on breaks it, one before shows here. No leader at all is a Redis
        # that came back empty: nobody has taken over.
        leader = (replies[7] or b"").decode()
        if self._leads and leader not in ("", self.session):
            raise ProducerFenced("another producer has taken over this source")
        applied = int(replies[5][2] or 0)
        if applied < self._publishes:
            lost, self._publishes = self._publishes - applied, applied
            raise PublishesLost(f"Redis has forgotten the last {lost} publishes of this producer")
        return applied

    def _await_replicas(self, connection: Connection) -> None:
        """Returns once enough replicas hold what was written on this connection. Raises QueueUnavailable."""
        while self._replicas.wanted:
            self._watching = None  # should it fail, the next one has written nothing: fence first, then ask again
            (holding,) = connection.exchange(*self._replicas.wait)
            self._watching = connection.generation
            if self._replicas.enough(holding):
                return
            self._outage.ends()
            if self.give_up.is_set():
                raise QueueUnavailable(self._replicas.shortage)

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
        if envelopes:
            commands.append(("LPUSH", keys.ready, *envelopes))
        if variants:
            commands.append(("LPUSH", keys.variants, *variants))
        commands += [
            ("XADD", keys.dead, "*", "reason", letter.reason, "attempts", 0, "batch", "", "record", letter.original)
            for letter in dead
        ]
        if checkpoint:
            source, position = checkpoint
            commands.append(("HSET", keys.checkpoints, source, msgspec.json.encode(position)))
        if published := len(envelopes) + len(variants) + len(dead):
            commands.append(("HINCRBY", keys.counters, "published", published))
        return [
            *commands,
            ("HSET", self._session_key, "published", number),
            ("EXPIRE", self._session_key, SESSION_SECONDS),
            ("LLEN", keys.ready),
            ("HGET", keys.counters, "in_flight"),
        ]

    def _unseen(self, connection: Connection, ids: Sequence[str], seconds: float) -> list[int]:
        """The indexes of the ids that were not published within the window, nor stand twice among these."""
        _, clock, scores = connection.exchange(
            ("WATCH", self.keys.seen), ("TIME",), ("ZMSCORE", self.keys.seen, *(ids or ("",)))
        )
        self._now_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
        horizon = self._now_ms - seconds * 1000
        first = {id: index for index, id in reversed(list(enumerate(ids)))}
        return [
            index
            for index, (id, score) in enumerate(zip(ids, scores, strict=False))
            if first[id] == index and (score is None or float(score) < horizon)
        ]

    def _remember(self, ids: Sequence[str], seconds: float) -> list[Command]:
        seen = self.keys.seen
        forget: Command = ("ZREMRANGEBYSCORE", seen, "-inf", f"({self._now_ms - int(seconds * 1000)}")
        scores = [part for id in ids for part in (self._now_ms, id)]
        return [forget, ("ZADD", seen, *scores)] if ids else [forget]


def _parted(
    envelopes: Sequence[bytes], fresh: Sequence[int], variants: Collection[int]
) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """Of the envelopes that are fresh those for the list, and those for the variant list."""
    if not variants and len(fresh) == len(envelopes):
        return envelopes, ()
    return [envelopes[i] for i in fresh if i not in variants], [envelopes[i] for i in fresh if i in variants]
