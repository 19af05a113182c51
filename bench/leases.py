"""Ten thousand consumers on one list: what leases and reclaiming cost, also when many die, or all fall silent at once.

    python -m bench.leases --json leases.json --plot docs/leases.svg

The server is real, and so are the queue's code, its scripts and the time. Each consumer has a session, a connection and
leases of its own, and does what `millrace_consumer.runner` does: it claims and claims ahead, renews, acks, and
reclaims what is overdue. Only its sink is none: a batch takes a while, and that while is waited for. One process
drives them all in turn; `late` says how far behind the clock it was.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import itertools
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import results
from bench.curves import Panel, Series, svg
from bench.data import chunks
from bench.lab import KEY, Lab
from bench.rounds import WrongAnswer
from bench.scale import records, redis_cpu
from bench.server import serving
from millrace_pipeline.errors import LeaseLost
from millrace_pipeline.queue import Claim
from tests.queues import Queue

CONSUMERS = 10_000
BATCH = 5
LEASE_SECONDS = 60.0
RENEW_SECONDS = LEASE_SECONDS / 6
WORK_SECONDS = (20.0, 60.0)
"""How long a sink takes for a batch, at least and at most."""
WAIT_SECONDS = 1.0

SETTLED = 60.0
"""By then all have begun, each at a moment of its own."""
DIE_AT, DYING = 90.0, 0.3
"""When a share of the consumers is killed; others come in their place within some seconds."""
COME_WITHIN = 5.0
FREEZE_AT, FREEZE_SECONDS = 270.0, 75.0
"""When all fall silent for longer than a lease, as if a switch had died, and for how long."""
END = 480.0
IDLE_CONSUMERS, IDLE_SECONDS = 1_000, 15.0


class Consumer:
    """One of many: its session, its connection, and what it holds: a batch being written, and the one after it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.queue = Queue(fleet.lab.url, KEY, lease_seconds=LEASE_SECONDS)
        self.writing: Claim | None = None
        self.next: Claim | None = None
        self.dead = False
        self._renewed: dict[str, float] = {}

    def step(self) -> None:
        """Takes the next batch as the runner does: what was left behind goes before what is new, and alone."""
        if self.dead or (self.queue.leases.overdue and self.writing):
            return
        claim, full = self._left_behind(), False
        if claim is None:
            claim = self.queue.claim(BATCH)
            self.fleet.count("claims")
            full = claim is not None and len(claim.lines) == BATCH
        if claim is None:
            if not self.writing:
                self.fleet.after(WAIT_SECONDS, self.step)
            return
        self._renewed[claim.id] = self.fleet.now
        if full:
            self.queue.claim_ahead(BATCH)
        if self.writing:
            self.next = claim
        else:
            self._write(claim)

    def renew(self) -> None:
        """What the renewal thread does at each look."""
        if self.dead:
            return
        held = [claim for claim in (self.writing, self.next) if claim is not None]
        due = [claim for claim in held if self.fleet.now - self._renewed[claim.id] >= RENEW_SECONDS]
        for claim in due:
            self.fleet.count("renewals")
            with contextlib.suppress(LeaseLost):
                self.queue.renew(claim)
            self._renewed[claim.id] = self.fleet.now
        if due and len(self.queue.claiming.ahead):
            self.fleet.count("renewals")
            self.queue.keep_ahead()
        self.fleet.after(RENEW_SECONDS, self.renew)

    def die(self) -> None:
        """Says nothing more. What it holds is left to its leases."""
        self.dead = True
        self.queue.close_all()

    def stop(self) -> None:
        """Acks what is being written, and gives back the rest."""
        if self.writing is not None:
            self._ack(self.writing, None)
        if self.next is not None:
            self.queue.release(self.next)
        self.queue.release_ahead()

    def _left_behind(self) -> Claim | None:
        if not self.queue.leases.overdue:
            return None
        claim = self.queue.reclaim()
        self.fleet.count("reclaimed" if claim else "in vain")
        return claim

    def _write(self, claim: Claim) -> None:
        try:
            self.queue.begin(claim)
        except LeaseLost:
            self.fleet.count("lost")
            self.fleet.after(0, self.step)
            return
        self.writing = claim
        self.fleet.after(random.uniform(*WORK_SECONDS), self._written)
        if len(self.queue.claiming.ahead):
            self.step()

    def _written(self) -> None:
        claim, self.writing = self.writing, None
        if self.dead or claim is None:
            return
        following, self.next = self.next, None
        self._ack(claim, following)
        if following is not None:
            self._write(following)
        else:
            self.step()

    def _ack(self, claim: Claim, following: Claim | None) -> None:
        self._renewed.pop(claim.id)
        self.fleet.count("acks")
        try:
            self.queue.ack(
                claim, delivered=len(claim.lines), begin=following if following and not following.begun else None
            )
        except LeaseLost:
            self.fleet.count("lost")
        else:
            self.fleet.delivered.update(claim.lines)


class Fleet:
    """All consumers, their clock, and what they did in each second."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.consumers: list[Consumer] = []
        self.seconds: list[dict[str, float]] = []
        self.delivered: Counter[bytes] = Counter()
        self.now = 0.0
        self._late = self._thawed = 0.0
        self._counts: Counter[str] = Counter()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), what))

    def count(self, what: str) -> None:
        self._counts[what] += 1

    def connect(self, size: int) -> None:
        """So many consumers say their first word before the clock starts."""
        for number in range(size):
            if number % 500 == 0:
                self.lab.say(f"{number:,} consumers connected")
            consumer = Consumer(self)
            consumer.queue.lag()
            consumer.queue.leases.overdue = False
            self.consumers.append(consumer)

    def live(self) -> None:
        """The whole story in real time."""
        for consumer in self.consumers:
            self.after(random.uniform(0, SETTLED), consumer.step)
            self.after(random.uniform(0, RENEW_SECONDS), consumer.renew)
        self.after(DIE_AT, self._die)
        self.after(FREEZE_AT, self._freeze)
        self.after(1.0, self._tick)
        self._cpu, self._looked = redis_cpu(self.lab), 0.0
        self._start = time.monotonic()
        while self._events and self._events[0][0] < END:
            due, _, what = heapq.heappop(self._events)
            while (left := self._start + due - time.monotonic()) > 0:
                time.sleep(min(left, 0.01))
            self._set_clock()
            self._late = max(self._late, self.now - max(due, self._thawed))
            what()

    def stop(self) -> None:
        """Everybody stops in good order."""
        for consumer in self.consumers:
            consumer.stop()
            consumer.queue.close_all()

    def verify(self, published: Iterable[bytes]) -> None:
        """Every record is delivered once, or waits to be. Raises WrongAnswer."""
        queue = Queue(self.lab.url, KEY)
        with contextlib.closing(queue):
            books = queue.books()
        left: Counter[bytes] = Counter(self.lab.redis.lrange(KEY, 0, -1))  # type: ignore[arg-type]
        for lease in books.leases:
            left.update(self.lab.redis.lrange(queue.keys.batch(lease.batch), 0, -1))  # type: ignore[arg-type]
        if self.delivered + left != Counter(published):
            raise WrongAnswer("what was delivered, and what is left, is not what was published, each once")
        if books.difference or books.delivered != self.delivered.total():
            raise WrongAnswer(f"the books are out by {books.difference}, {books.delivered:,} delivered")

    def _die(self) -> None:
        dying = set(random.sample(self.consumers, int(len(self.consumers) * DYING)))
        for consumer in dying:
            consumer.die()
            self.after(random.uniform(0, COME_WITHIN), self._come)
        self.consumers = [consumer for consumer in self.consumers if consumer not in dying]

    def _come(self) -> None:
        consumer = Consumer(self)
        self.consumers.append(consumer)
        self.after(random.uniform(0, RENEW_SECONDS), consumer.renew)
        consumer.step()

    def _freeze(self) -> None:
        """Nobody says anything until it is over; then all say at once what was due meanwhile."""
        thaw = self.now + FREEZE_SECONDS
        while self.now < thaw:
            time.sleep(min(1.0, thaw - self.now))
            self._set_clock()
            self._look()
        self._thawed = self.now

    def _set_clock(self) -> None:
        self.now = time.monotonic() - self._start

    def _tick(self) -> None:
        self._look()
        self.after(1.0, self._tick)

    def _look(self) -> None:
        seconds, micros = self.lab.redis.time()  # type: ignore[misc]
        overdue = self.lab.redis.zcount(self.lab.keys.leases, "-inf", seconds * 1000 + micros // 1000)
        cpu = redis_cpu(self.lab)
        took = max(self.now - self._looked, 0.1)
        rates = {what: count / took for what, count in self._counts.items()}
        self.seconds.append(
            {
                "second": round(self.now, 1),
                **rates,
                "overdue": int(overdue),  # type: ignore[arg-type]
                "leases": int(self.lab.redis.zcard(self.lab.keys.leases)),  # type: ignore[arg-type]
                "redis": (cpu - self._cpu) / took * 100,
                "late": round(self._late, 3),
            }
        )
        self._counts.clear()
        self._cpu, self._looked, self._late = cpu, self.now, 0.0
        self.lab.say(f"{self.now:.0f} s of {END:.0f} s, {overdue:,} leases overdue")


def idle_cost(lab: Lab) -> float:
    """The share of a core that Redis spends on one consumer that waits, in per cent."""
    queues = [Queue(lab.url, KEY) for _ in range(IDLE_CONSUMERS)]
    waiting = ("BLMOVE", queues[0].keys.ready, queues[0].keys.woken, "RIGHT", "LEFT", WAIT_SECONDS)

    def look(queue: Queue) -> None:
        """What the runner's loop does once a second on an empty list, but for waiting until the wait is over."""
        queue.connection.collect()
        if queue.claim(BATCH) is not None:
            raise WrongAnswer("a claim on an empty list gave records")
        queue.connection.post(waiting)

    for queue in queues:
        look(queue)
    lab.say(f"{IDLE_CONSUMERS:,} idle consumers")
    before, began = redis_cpu(lab), time.monotonic()
    looks = 0
    while time.monotonic() - began < IDLE_SECONDS:
        turn = time.monotonic()
        for queue in queues:
            look(queue)
        looks += len(queues)
        time.sleep(max(0.0, turn + WAIT_SECONDS * 1.02 - time.monotonic()))
    used = redis_cpu(lab) - before
    for queue in queues:
        queue.close_all()
    return used / looks / WAIT_SECONDS * 100


def simulate(lab: Lab, consumers: int) -> dict[str, Any]:
    """Runs it all. Raises WrongAnswer."""
    lab.empty()
    idle = idle_cost(lab)
    lab.empty()
    batches = END * consumers / (sum(WORK_SECONDS) / 2) + 4 * consumers
    published = list(records(int(batches * BATCH), 100))
    queue = Queue(lab.url, KEY)
    with contextlib.closing(queue):
        for chunk in chunks(published, 500):
            queue.publish(chunk)
    fleet = Fleet(lab)
    fleet.connect(consumers)
    fleet.live()
    lab.say("stopping them all")
    fleet.stop()
    fleet.verify(published)
    return {
        "machine": results.machine(lab),
        "consumers": consumers,
        "lease_seconds": LEASE_SECONDS,
        "idle_percent": idle,
        "died": int(consumers * DYING),
        "delivered": fleet.delivered.total(),
        "seconds": fleet.seconds,
    }


def draw(made: dict[str, Any]) -> str:
    """The SVG: who died when, and what it cost."""
    seconds = made["seconds"]

    def series(shown: str, *names: str) -> Series:
        return Series(shown, [(second["second"], sum(second.get(name, 0) for name in names)) for second in seconds])

    def panel(title: str, *shown: Series) -> Panel:
        top = max(y for one in shown for _, y in one.points)
        return Panel(title, "seconds", shown, (0, END), (0, max(top, 1) * 1.25), linear_x=True, linear_y=True)

    return svg(
        [
            panel("Batches overdue", series("overdue", "overdue")),
            panel("Reclaims a second", series("took a batch over", "reclaimed"), series("found none", "in vain")),
            panel(
                "Other scripts a second", series("renewals", "renewals"), series("claims and acks", "claims", "acks")
            ),
            panel("Redis, per cent of its core", series("", "redis")),
        ],
        f"{made['consumers']:,} consumers",
    )


def main() -> int:
    """Exit codes: 0, or 1 for a wrong answer."""
    parser = argparse.ArgumentParser(prog="python -m bench.leases", description="Leases of very many consumers.")
    parser.add_argument("--consumers", type=int, default=CONSUMERS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    options = parser.parse_args()
    _allow_connections(options.consumers + 1_000)
    console = Console()
    with (
        tempfile.TemporaryDirectory(prefix="millrace-leases-") as scratch,
        serving(Path(scratch), clients=options.consumers + 1_000) as url,
        console.status("starting") as status,
    ):
        lab = Lab(url, Path(scratch), rounds=1, quick=False, say=status.update)
        try:
            made = simulate(lab, options.consumers)
        except WrongAnswer as wrong:
            console.print(f"[bold red]wrong answer[/bold red]: {wrong}", soft_wrap=True)
            return 1
    _tell(made, console)
    if options.json:
        options.json.write_text(json.dumps(made, indent=1) + "\n")
    if options.plot:
        options.plot.write_text(draw(made))
    return 0


def _tell(made: dict[str, Any], console: Console) -> None:
    seconds = made["seconds"]
    phases = {
        "calm": (SETTLED, DIE_AT),
        f"{made['died']:,} die": (DIE_AT, FREEZE_AT),
        "silence": (FREEZE_AT + 1, FREEZE_AT + FREEZE_SECONDS),
        "after it": (FREEZE_AT + FREEZE_SECONDS, END),
    }
    for phase, (begin, end) in phases.items():
        during = [second for second in seconds if begin <= second["second"] < end]
        told = [
            f"{name} {sum(second.get(name, 0) for second in during) / len(during):,.0f}/s"
            f" (most {max(second.get(name, 0) for second in during):,.0f})"
            for name in ("claims", "acks", "renewals", "reclaimed", "in vain", "lost")
        ]
        most = {name: max(second[name] for second in during) for name in ("overdue", "leases", "redis", "late")}
        console.print(
            f"[bold]{phase}[/bold]: {', '.join(told)}; "
            f"at most {most['overdue']:,} of {most['leases']:,} leases overdue; "
            f"Redis {sum(second['redis'] for second in during) / len(during):.1f} % (most {most['redis']:.0f} %); "
            f"driver late by {most['late']:.2f} s",
            soft_wrap=True,
        )
    console.print(f"an idle consumer costs Redis {made['idle_percent']:.4f} % of a core; every record once")


def _allow_connections(count: int) -> None:
    """As many files as that may be open here and in the server. Raises ValueError where the system won't have it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, hard))


if __name__ == "__main__":
    sys.exit(main())
