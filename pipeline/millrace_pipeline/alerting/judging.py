"""Judging: which alerts hold, as a flow stands, and what has changed since they were looked at before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from millrace_pipeline.alerting.timeline import Timeline
from millrace_pipeline.flows.alerts import Alert
from millrace_pipeline.queue.alerts import Stand, State


class Finding(NamedTuple):
    """Whether an alert holds, by which value, and since when, in seconds since 1970."""

    holds: bool
    value: float
    since: float


class Turn(NamedTuple):
    """An alert whose state has changed. `state` is None where it is well again; told of is what was `raised`."""

    alert: Alert
    before: State | None
    state: State | None
    value: float


def judge(
    alert: Alert, stand: Stand, timeline: Timeline, max_ready: int, shares: Callable[[str, float], tuple[int, int]]
) -> Finding | None:
    """Return what there is to say of an alert; None where nobody can tell now, and it stays as it was."""
    now = stand.now
    if alert.age is not None:
        age = timeline.oldest_age(now, stand.came, stand.waiting)
        return Finding(age > alert.age.above, age, now)
    if alert.dead is not None:
        return Finding(stand.dead > alert.dead.above, stand.dead, now)
    if alert.silent is not None:
        quiet = timeline.quiet(now, stand.came)
        return Finding(quiet >= alert.silent, quiet, now - quiet)
    if alert.held_back is not None:
        return Finding(stand.full or stand.waiting >= max_ready, stand.waiting, now)
    if alert.null_share is not None:
        looked, null = shares(alert.null_share.field, now - alert.null_share.over)
        if looked < alert.null_share.at_least:
            return None
        return Finding(null / looked > alert.null_share.above, null / looked, now)
    return None  # an outage is nothing that Redis can tell of


def turn(alert: Alert, finding: Finding, state: State | None, now: float, flow: str) -> Turn | None:
    """Return what becomes of an alert by a finding; None where nothing does."""
    if not finding.holds:
        if state is None:
            return None
        return Turn(alert, state, None, finding.value if alert.held_back is None else now - state.since / 1000)
    since = state.since / 1000 if state is not None else finding.since
    if state is not None and state.raised:
        return None
    raised = now - since >= alert.lasting
    if state is not None and not raised:
        return None
    if alert.held_back is not None:
        finding = finding._replace(value=now - since)
    made = State(raised, round(since * 1000), f"{flow}:{alert.rule}:{round(since * 1000)}", finding.value)
    return Turn(alert, state, made, finding.value)


def dropped(alerts: Iterable[Alert], states: Mapping[str, State]) -> list[str]:
    """Return the rules that have a state and that the flow has no more."""
    known = {alert.rule for alert in alerts}
    return [rule for rule in states if rule not in known]
