"""Asked: the Redis that a command asks: found in one place, named to the user, left alone where it isn't ours."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from millrace.cli.held import hold
from millrace.ours import may_change
from millrace.server import Server, server_of
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.layout import hold_to_layout
from millrace_pipeline.queue.marks import mark_of

AnyProjectOption = Annotated[
    bool, typer.Option("--any-project", help="Also on a list that another project's flows file uses.")
]
TakeOverOption = Annotated[
    bool, typer.Option("--take-over", help="Make these lists this flows file's, though they are marked as another's.")
]


class Asked:
    """The Redis of this folder's flows, for as long as the command runs. `settings` lead to it."""

    def __init__(self, server: Server, settings: Settings) -> None:
        self.server = server
        self.settings = settings
        self._held_to: set[str] = set()  # the names of flows whose layout is as their file says

    @classmethod
    def of(cls, settings: Settings) -> Asked:
        """Find it, and say on standard error which it is. Raises ConfigError, see `server_of`."""
        server = server_of(settings)
        hold(server)
        sys.stderr.write(f"Redis: {server}\n")
        sys.stderr.flush()
        return cls(server, settings.with_redis_url(server.url))

    def say_whose(self, flows: Iterable[Flow]) -> None:
        """Says on standard error which of these flows' lists are another project's: the counts are not ours then."""
        flows = list(flows)
        for flow in flows:
            self._hold_to_layout(flow)
        for flow in (part for one in flows for part in one.lists) if self.server.kind != "embedded" else ():
            queue = self.queue(flow)
            try:
                found = mark_of(queue)
            finally:
                queue.close()
            if found is not None and not flow.project.is_of(found):
                sys.stderr.write(
                    f"{flow.name}: list {flow.queue.key} there is another project's, {found}: these are its counts\n"
                )
                sys.stderr.flush()

    def may_change(self, flow: Flow, queue: Session, *, any_project: bool) -> None:
        """Return if a command may change this list, as `millrace.ours` says. Raises ConfigError."""
        if not any_project:
            may_change(self.server, flow, queue, "--any-project does it all the same")

    def never_heard_of(self, flow: Flow) -> bool:
        """Return True where no service of ours has ever used the flow's list there. Raises QueueError."""
        for part in flow.lists:
            queue = self.queue(part)
            try:
                if mark_of(queue) is not None:
                    return False
            finally:
                queue.close()
        return True

    def _hold_to_layout(self, flow: Flow) -> None:
        name = (flow.whole or flow).name
        if name not in self._held_to:
            hold_to_layout(self.server.url, flow)
            self._held_to.add(name)

    def queue(self, flow: Flow) -> Session:
        """The flow's queue there; it asks once, and doesn't wait out an outage: a person is waiting.

        Raises ConfigError where the flow is kept in other partitions than its file says.
        """
        queue = Session(self.server.url, flow.queue.list_name)
        self._hold_to_layout(flow)
        queue.give_up.set()
        return queue
