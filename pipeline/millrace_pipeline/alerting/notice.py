"""Notice: what people are told of an alert, as JSON and in words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from millrace_pipeline.flows.alerts import Alert
from millrace_pipeline.flows.units import duration_text

What = Literal["raised", "over", "test"]


class Notice(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What a webhook and a command get. `id` is the same for what begins and for its end, however often it is told."""

    id: str
    state: What
    text: str
    """One line for people: what Slack and its like show."""
    flow: str
    project: str = ""
    alert: str
    """age, dead, silent, null_share, held_back or outage."""
    rule: str
    """The alert as the flow has it, in words."""
    value: float | None = None
    threshold: float | None = None
    unit: str = ""
    since: str
    """When it began to hold; ISO 8601, UTC."""
    at: str
    """When this was made."""

    @property
    def event(self) -> str:
        """Return what it is called in the log."""
        return {"raised": "alert_raised", "over": "alert_over", "test": "alert_test"}[self.state]


UNITS = {"dead": "records", "null_share": "share"}


def notice_of(
    alert: Alert, state: What, *, flow: str, project: str, id: str, value: float, since: float, at: float
) -> Notice:
    """Return the notice of an alert; times are in seconds since 1970."""
    said = _said(alert, value)
    if state == "over":
        text = f"{flow}: over after {duration_text(float(round(max(0.0, at - since))))}: {said}"
    elif state == "test":
        text = f"{flow}: this is a test of its notices; nothing is wrong"
    else:
        text = f"{flow}: {said} since {_iso(since)}"
    return Notice(
        id=id,
        state=state,
        text=text,
        flow=flow,
        project=project,
        alert=alert.kind,
        rule=alert.rule,
        value=round(value, 4),
        threshold=alert.threshold,
        unit=UNITS.get(alert.kind, "seconds"),
        since=_iso(since),
        at=_iso(at),
    )


def _said(alert: Alert, value: float) -> str:
    span = duration_text(float(round(value)))
    limit = alert.rule.partition(" ")[2]
    if alert.kind == "age":
        return f"the oldest record that waits was published {span} ago ({limit})"
    if alert.kind == "dead":
        return f"{value:,.0f} dead letter{'s' * (value != 1)} ({limit})"
    if alert.kind == "silent":
        return f"nothing was published for {span} ({limit})"
    if alert.kind == "held_back":
        return f"producers hold back, the list or Redis is full ({limit})"
    if alert.kind == "outage":
        return f"Redis can't be reached ({limit})"
    assert alert.null_share is not None
    return f"{value:.1%} of the records have no {alert.null_share.field} (more than {alert.null_share.above * 100:g}%)"


def _iso(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"


def dropped_notice(rule: str, *, flow: str, project: str, id: str, since: float, at: float) -> Notice:
    """Return the notice that an alert is over which the flow has no more."""
    return Notice(
        id=id,
        state="over",
        text=f"{flow}: no longer watched: {rule}",
        flow=flow,
        project=project,
        alert=rule.partition(" ")[0],
        rule=rule,
        since=_iso(since),
        at=_iso(at),
    )
