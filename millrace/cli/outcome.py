"""Outcome: what a run says at its end, a sentence a flow, and whether too much of it went to the dead letters."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Annotated

import structlog
import typer

from millrace.cli.books import read_books
from millrace_pipeline.errors import QueueError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process.ending import where_to_look
from millrace_pipeline.process.settings import Settings
from millrace_pipeline.process.supervisor import SUPERVISED
from millrace_pipeline.queue import Books

log = structlog.get_logger(__name__)

FailOnDeadOption = Annotated[
    bool, typer.Option("--fail-on-dead", help="End with exit code 3 if any record became a dead letter.")
]


def books_of(settings: Settings, flows: Iterable[Flow]) -> dict[str, Books]:
    """Return the books of these flows, by name; without those whose Redis doesn't answer."""
    found = {}
    for flow in flows:
        try:
            found[flow.name] = read_books(settings, flow)
        except QueueError:
            continue
    return found


def tell_outcome(
    flows: Iterable[Flow], before: Mapping[str, Books], after: Mapping[str, Books], *, fail_on_dead: bool
) -> bool:
    """Log what came of each flow in between. Returns True where too many records became dead letters."""
    over = False
    for flow in flows:
        if flow.name not in after:
            continue
        now, then = after[flow.name], before.get(flow.name)
        published = now.published + now.foreign - (then.published + then.foreign if then else 0)
        dead = now.dead + now.discarded - (then.dead + then.discarded if then else 0)
        counts = {
            "published": published,
            "delivered": now.delivered - (then.delivered if then else 0),
            "filtered": now.filtered - (then.filtered if then else 0),
            "dead": dead,
            "left": now.lag,
        }
        log.info("flow_done", flow=flow.name, **counts, **where_to_look(flow.name, dead))
        if now.lag:
            it = f"{now.lag:,} records wait" if now.lag > 1 else "1 record waits"
            go_on = f"`millrace consume {flow.name} --until-empty` delivers what is there, and so does the next run"
            log.warning("records_left", flow=flow.name, left=now.lag, reason=f"{it} on the list: {go_on}")
        over |= too_many_dead(flow, dead, published, fail_on_dead=fail_on_dead)
    return over


def tell_paused(flow: str, paused: str | None) -> None:
    """Log that something ends though a person has paused what it waits for."""
    log.error("ends_while_paused", flow=flow, reason=f"{paused}; `millrace resume {flow}`, and start it again")


def too_many_dead(flow: Flow, dead: int, records: int, *, fail_on_dead: bool) -> bool:
    """Log it, and return True, where so many dead letters of so many records are more than are allowed.

    `records` are all that came, the dead letters among them, without those that were left out as duplicates.
    """
    if SUPERVISED in os.environ:
        return False  # `millrace run` judges all of it
    limit = 0.0 if fail_on_dead else flow.dead.fail_above
    if limit is None or dead <= 0 or dead <= limit * max(records, 1):
        return False
    share = f"{dead / max(records, 1):.1%}"
    allowed = "none is allowed" if limit == 0 else f"{limit:.3%} are allowed"
    log.error("too_many_dead", flow=flow.name, dead=dead, records=records, share=share, reason=allowed)
    return True
