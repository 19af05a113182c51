"""Courier: the thread that speaks to Redis for a spider, so that its reactor never waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

import structlog

from millrace_pipeline.errors import QueueError, QueueFull
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.queue.frontier import Answer, Claimed, Frontier, Settlement, Waiting

log = structlog.get_logger(__name__)

MOST_SETTLED = 64
"""So many pages are settled in one go, at most."""

POLL_SECONDS = 0.1
"""So often a spider with nothing to do looks whether there is something."""

FULL_SECONDS = 0.25

LIMITS = {"CLOSESPIDER_ITEMCOUNT": "items", "CLOSESPIDER_PAGECOUNT": "done"}
"""Scrapy's limits that hold for the whole crawl, and what of it they are limits of."""


class Courier:
    """Settles, claims, renews and offers, in turn.

    From its thread `settled` is called with each settlement, and whether it was ours to settle; `heard` with what was
    claimed and how the crawl stands; `failed` with what waiting won't mend.
    """

    def __init__(
        self,
        frontier: Frontier,
        *,
        heard: Callable[[Answer], None],
        settled: Callable[[Settlement, bool], None],
        failed: Callable[[QueueError], None],
        max_ready: int,
        limits: Mapping[str, int],
    ) -> None:
        self._frontier = frontier
        self.session = frontier.session
        self._heard, self._settled, self._failed = heard, settled, failed
        self._max_ready = max_ready
        self._limits = {name: limit for name, limit in limits.items() if limit > 0}
        self._changed = threading.Condition()
        self._settlements: deque[Settlement] = deque()
        self._offers: list[Waiting] = []
        self._asked: list[Claimed] = []
        self._want = 0
        self._claim_at = 0.0
        self._held: dict[str, tuple[Claimed, float]] = {}
        self._renew_at = float("inf")
        self._sure = self.session.outages
        """Of what is held Redis has said so since its last outage but so many."""
        self._closing = False
        self._crowded = False
        self._full = False
        self.error: QueueError | None = None
        self._thread = threading.Thread(target=self._run, name=f"crawl {frontier.name}", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def settle(self, settlement: Settlement, *, at_once: bool = True) -> None:
        """Have this settled, behind all that came before; `at_once`, or when it is next said how many are wanted."""
        with self._changed:
            self._settlements.append(settlement)
            if at_once:
                self._changed.notify()

    def offer(self, request: Waiting) -> None:
        """Have this put on the frontier."""
        with self._changed:
            self._offers.append(request)
            self._changed.notify()

    def say_asked(self, claimed: Claimed) -> None:
        """Say that its host has been asked: whoever is next has its turn when the delay is over."""
        with self._changed:
            self._asked.append(claimed)
            self._changed.notify()

    def want(self, requests: int) -> None:
        """Claim up to so many from now on."""
        with self._changed:
            if requests != self._want or self._settlements:
                self._want = requests
                self._changed.notify()

    def stop_all(self, reason: str) -> None:
        """Have all spiders of the crawl end with this finish reason. For a thread that may wait."""
        self._frontier.stop(reason)
        self.session.close()

    @property
    def offers(self) -> bool:
        """True while something that was offered is still to be put."""
        return bool(self._offers)

    def is_held(self, claimed: Claimed) -> bool:
        """True while the lease on it has not run out, by our own clock, and Redis knows of it since it was away."""
        held = self._held.get(claimed.number)
        if self._sure != self.session.outages:
            return False
        return held is not None and held[0].token == claimed.token and time.monotonic() < held[1]

    def close(self) -> None:
        """Settle and offer what is to be, and end. For a thread that may wait."""
        with self._changed:
            self._closing, self._want = True, 0
            self._changed.notify()
        self._thread.join()
        self._frontier.session.close()

    def _run(self) -> None:
        try:
            while self._await_work():
                self._work()
        except QueueError as error:
            self.error = error
            self._failed(error)
        except Exception as error:
            log.exception("courier_failed", crawl=self._frontier.name)
            self.error = QueueError(f"{type(error).__name__}: {error}")
            self._failed(self.error)
        finally:
            self._frontier.session.close()

    def _await_work(self) -> bool:
        """Wait for something to do; False where all is done and we are to end."""
        with self._changed:
            while not (self._settlements or self._offers or self._asked):
                if self._closing:
                    return False
                now = time.monotonic()
                soonest = min(self._renew_at, self._claim_at if self._want else now + 4 * POLL_SECONDS)
                if soonest <= now:
                    return True
                if not self._changed.wait(soonest - now) and not self._want:
                    return True
            return True

    def _work(self) -> None:
        with self._changed:
            batch = [self._settlements[n] for n in range(min(len(self._settlements), MOST_SETTLED))]
            offers, want, asked = self._offers[:1000], self._want, self._asked[:1000]
        try:
            if offers:
                self._frontier.offer(offers)
                with self._changed:
                    del self._offers[: len(offers)]
            if time.monotonic() >= self._renew_at:
                self._renew()
            killpoint("crawl.before_settle")
            since = time.monotonic()
            ours, answer = self._frontier.step(batch, 0 if self._closing or self._crowded else want, asked)
            killpoint("crawl.after_settle")
        except QueueFull as error:
            if not self._full:
                self._full = True
                log.warning("spider_held_back", crawl=self._frontier.name, reason=str(error))
            if time.monotonic() >= self._renew_at:
                self._renew()
            self._frontier.session.give_up.wait(FULL_SECONDS)
            return
        if self._full:
            self._full = False
            log.info("spider_goes_on", crawl=self._frontier.name)
        with self._changed:
            for _ in batch:
                self._settlements.popleft()
            del self._asked[: len(asked)]
        for settlement, mine in zip(batch, ours, strict=True):
            if settlement.outcome != "part" or not mine:
                self._held.pop(settlement.claimed.number, None)
            self._settled(settlement, mine)
        self._hold(answer, since)
        if self._sure != self.session.outages:
            self._renew()
        self._look_at_limits(answer)
        self._crowded = answer.lag >= self._max_ready
        wait = POLL_SECONDS if answer.due_ms < 0 else min(POLL_SECONDS, max(0.002, answer.due_ms / 1000))
        if want > len(answer.requests):
            self._claim_at = time.monotonic() + wait
        elif want or batch or asked:
            self._claim_at = 0.0
        with self._changed:
            self._want = 0  # until the spider says anew how many it has room for
            if self._closing:  # nobody is there any more to have them
                self._settlements.extend(Settlement(one, "back", outputs=one.outputs) for one in answer.requests)
        if not self._closing:
            self._heard(answer)

    def _hold(self, answer: Answer, since: float) -> None:
        seconds = self._frontier.lease_ms / 1000
        for claimed in answer.requests:
            self._held[claimed.number] = (claimed, since + seconds)
        if self._held and self._renew_at == float("inf"):
            self._renew_at = since + seconds / 3
        elif not self._held:
            self._renew_at = float("inf")

    def _renew(self) -> None:
        """Extend all leases; those that were lost are held no more."""
        held, since, outages = [claimed for claimed, _ in self._held.values()], time.monotonic(), self.session.outages
        for at in range(0, len(held), 500):
            some = held[at : at + 500]
            for claimed, ours in zip(some, self._frontier.renew(some), strict=True):
                if ours:
                    self._held[claimed.number] = (claimed, since + self._frontier.lease_ms / 1000)
                else:
                    self._held.pop(claimed.number, None)
        self._renew_at = since + self._frontier.lease_ms / 3000
        self._sure = outages

    def _look_at_limits(self, answer: Answer) -> None:
        for name, limit in self._limits.items():
            if not answer.stopped and getattr(answer, LIMITS[name]) >= limit:
                self._frontier.stop(name.lower())
