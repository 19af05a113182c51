"""Pages: what comes of one request while its spider works on it, and what is settled in the end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from scrapy import Request
from scrapy.exceptions import IgnoreRequest
from scrapy.http import Response
from scrapy.spidermiddlewares.httperror import HttpError

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.queue.frontier import Claimed, Settlement, Waiting

SERVERS_FAULT = frozenset({408, 429, *range(500, 600)})
"""Statuses that say nothing about the page: it may be there another time."""

LONGEST_TRACEBACK = 4000


class Page:
    """One claimed request, its outputs so far, and what went wrong.

    Outputs are counted as the callback yields them. The first `claimed.outputs` are put already, by an attempt before.
    """

    def __init__(self, claimed: Claimed, request: Request | None) -> None:
        self.claimed = claimed
        self.request = request
        self.items: list[bytes] = []
        self.dead: list[DeadLetter] = []
        self.requests: list[Waiting] = []
        self.dropped = 0
        self.yielded = 0
        self.put = claimed.outputs
        """How many outputs are put, by this attempt and those before."""
        self.pending = 0
        """Items that are in the hands of the item pipelines."""
        self.bytes = 0
        self.answered = False
        self.went_on = False
        """A redirect or a retry stands for it from now on."""
        self.failure: Any = None
        self.error: tuple[str, str, str] | None = None
        """Kind, reason and traceback of what the spider's code raised."""
        self.lasting = False
        """To try again would end in the same."""
        self.retry_after_ms = 0
        self.turn = 0.0
        """Its host's delay, while the host's turn is its own: until it is said that the host was asked."""
        self.lost = False
        self._through: asyncio.Future[None] | None = None

    def fails(self, error: BaseException, traceback: str, *, lasting: bool = False) -> None:
        """Take note that the spider's code raised this; the first counts."""
        if self.error is None:
            reason = f"{type(error).__name__}: {error}"
            self.error = (type(error).__name__, reason[:1000], traceback[-LONGEST_TRACEBACK:])
            self.lasting = lasting

    def item_is_through(self) -> None:
        """Take note that the item pipelines are done with an item."""
        self.pending -= 1
        if self._through is not None and self.pending <= 0:
            self._through.set_result(None)
            self._through = None

    async def all_through(self) -> None:
        """Return once the item pipelines are done with all items of the page so far."""
        while self.pending > 0:
            self._through = self._through or asyncio.get_running_loop().create_future()
            with contextlib.suppress(asyncio.InvalidStateError):
                await self._through

    def part(self) -> Settlement:
        """Return the outputs so far, as a part, and begin anew."""
        return self._with_outputs(Settlement(self.claimed, "part"))

    def outcome(self, *, max_attempts: int, retry_ms: int) -> Settlement:
        """Return what becomes of the request, with what its page gave."""
        kind, why = self._trouble()
        settled = Settlement(self.claimed, "done", kind=kind, hold_ms=self.retry_after_ms)
        if why is None:
            return self._with_outputs(settled)
        if self.error is not None and not self.lasting and self.claimed.attempts < max_attempts:
            settled.outcome, settled.later_ms = "later", retry_ms * 2 ** (self.claimed.attempts - 1)
            settled.outputs = self.put
            return settled
        settled.outcome, settled.why = "dead", why
        return self._with_outputs(settled)

    def given_back(self) -> Settlement:
        """Return that somebody else is to have it; what is put stays put."""
        return Settlement(self.claimed, "back", outputs=self.put)

    def _with_outputs(self, settled: Settlement) -> Settlement:
        settled.items, settled.dead, settled.requests = self.items, self.dead, self.requests
        self.put = max(self.claimed.outputs, self.yielded)
        settled.dropped, settled.outputs = self.dropped, self.put
        self.items, self.dead, self.requests, self.dropped, self.bytes = [], [], [], 0, 0
        return settled

    def _trouble(self) -> tuple[str, dict[str, str] | None]:
        """Return the kind of error to count, or nothing, and why the request is to be set aside, or None."""
        if self.error is not None:
            kind, reason, traceback = self.error
            return kind, {"reason": reason, "kind": kind, "traceback": traceback}
        failure = self.failure
        if failure is not None and not self.went_on:
            error = failure.value
            if isinstance(error, HttpError):
                status = error.response.status
                kind = f"http {status}"
                if status not in SERVERS_FAULT or self.yielded:
                    return kind, None
                return kind, {"reason": f"the server answered {status}", "kind": kind}
            kind = type(error).__name__
            if isinstance(error, IgnoreRequest) or self.yielded:
                return kind, None
            return kind, {"reason": f"{kind}: {error}"[:1000], "kind": kind}
        if not (self.answered or self.went_on):
            return "nothing came", {"reason": "nothing came of it: no response, no failure", "kind": "nothing came"}
        return "", None


def is_answer_to(response: Any) -> Request | None:
    """Return the request that this response, or failure, is of."""
    if isinstance(response, Response):
        return response.request
    request = getattr(response, "request", None)
    return request if isinstance(request, Request) else None
