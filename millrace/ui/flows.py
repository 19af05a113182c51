"""Flows: the page of all flows, the page of one, and the parts of both that are sent anew as they change."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millrace.ages import span
from millrace.bottleneck import badness
from millrace.equation import delays, lines_of, verdict_of
from millrace.observing import FlowSeen
from millrace.ui.charts import HEIGHT, RANGES, WIDTH, history_of, range_of
from millrace.ui.letters import Group, grouped, within
from millrace.ui.site import Site
from millrace.ui.states import place_of, state_of
from millrace.ui.watch import Looked
from millrace_pipeline.errors import QueueError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import DeadLetters

SORTS: Mapping[str, Callable[[FlowSeen], Any]] = {
    "state": lambda seen: (badness(seen.bottleneck), -(seen.books.lag if seen.books else 0)),
    "flow": lambda seen: seen.name,
    "ready": lambda seen: -(seen.books.ready if seen.books else 0),
    "in_flight": lambda seen: -(seen.books.in_flight if seen.books else 0),
    "oldest": lambda seen: -seen.age_seconds,
    "in": lambda seen: -seen.in_a_second,
    "out": lambda seen: -seen.out_a_second,
    "dead": lambda seen: -(seen.books.dead if seen.books else 0),
}
COLUMNS = (
    ("flow", "Flow", False),
    ("state", "State", False),
    ("ready", "Ready", True),
    ("in_flight", "In flight", True),
    ("oldest", "Oldest", True),
    ("in", "In/s", True),
    ("out", "Out/s", True),
    ("dead", "Dead", True),
)
NEWEST_LETTERS, NEWEST_BYTES = 200, 8 * 1024 * 1024
"""Of so many dead letters the reasons are told on the page of a flow."""

Parts = dict[str, str]


def flow_of(site: Site, request: Request) -> Flow:
    """Return the flow that the address names. Raises HTTPException."""
    name = request.path_params["flow"]
    if name not in site.flows:
        raise HTTPException(404, f"There is no flow {name} in this flows file.")
    return site.flows[name]


def overview(site: Site, request: Request) -> Response:
    """The page of all flows."""
    asked = request.query_params
    wanted, sort = asked.get("q", "").strip(), asked.get("sort", "")
    looked = site.watch.look(chosen_names(site, wanted))
    chosen = [looked.flows[name] for name in chosen_names(site, wanted)]
    if sort in SORTS:
        chosen.sort(key=SORTS[sort])
    return site.page(
        request,
        "overview.html",
        live=f"/live?q={wanted}" if wanted else "/live",
        rows=chosen,
        numbers={name: index for index, name in enumerate(site.flows)},
        wanted=wanted,
        sort=sort,
        columns=COLUMNS,
        state_of=state_of,
        verdict_of=verdict_of,
        **_sums(chosen, len(site.flows)),
    )


def chosen_names(site: Site, wanted: str) -> list[str]:
    """Return the flows whose name a filter lets through: a glob, or a part of the name."""
    pattern = wanted.lower() if any(letter in wanted for letter in "*?[") else f"*{wanted.lower()}*"
    return [name for name in site.flows if fnmatch.fnmatchcase(name, pattern)]


def overview_parts(site: Site, looked: Looked, wanted: str) -> Parts:
    """The parts of the page of all flows, by their ids."""
    template = site.templates.get_template("overview_parts.html").module
    chosen = [looked.flows[name] for name in chosen_names(site, wanted)]
    numbers = {name: index for index, name in enumerate(site.flows)}
    parts = {
        f"flow-{numbers[seen.name]}": template.row(seen, numbers[seen.name], state_of(seen), verdict_of)  # type: ignore[attr-defined]
        for seen in chosen
    }
    sums = _sums(chosen, len(site.flows))
    parts["sums"] = template.sums(sums["sums"], sums["all_flows"])  # type: ignore[attr-defined]
    parts["attention"] = template.attention(sums["worst"])  # type: ignore[attr-defined]
    return {id: str(html) for id, html in parts.items()}


def _sums(chosen: Sequence[FlowSeen], all_flows: int) -> dict[str, Any]:
    books = [seen.books for seen in chosen if seen.books]
    bad = [seen for seen in chosen if state_of(seen).kind == "bad"]
    return {
        "sums": {
            "flows": len(chosen),
            "ready": sum(one.ready for one in books),
            "in_flight": sum(one.in_flight for one in books),
            "dead": sum(one.dead for one in books),
            "in": sum(seen.in_a_second for seen in chosen),
            "out": sum(seen.out_a_second for seen in chosen),
            "missing": sum(max(0, -one.difference) for one in books),
        },
        "all_flows": all_flows,
        "worst": sorted(bad, key=lambda seen: badness(seen.bottleneck))[:8],
    }


def flow_page(site: Site, request: Request) -> Response:
    """The page of one flow."""
    flow = flow_of(site, request)
    found = range_of(request.query_params.get("range", ""))
    back = found.name if found else ""
    looked = site.watch.look([flow.name], [flow.name])
    well = not (looked.flows[flow.name].unreachable or site.watch.waits_seconds)
    return site.page(
        request,
        "flow.html",
        live=f"/live?flow={flow.name}&range={back}",
        ranges=RANGES,
        reasons=_reasons(site, flow) if well else [],
        it=_values(looked, flow, back),
    )


def flow_parts(site: Site, looked: Looked, flow: Flow, back: str) -> Parts:
    """The parts of the page of a flow, by their ids."""
    template = site.templates.get_template("flow_parts.html").module
    values = _values(looked, flow, back)
    return {
        id: str(getattr(template, id)(values))
        for id in ("head", "picture", "books", "consumers", "troubles", "history", "checkpoints")
    }


def _values(looked: Looked, flow: Flow, back: str) -> dict[str, Any]:
    seen = looked.flows[flow.name]
    moment = seen.books.moment if seen.books else 0.0
    starts = [
        (moment - one.up_seconds, f"{one.name} started")
        for one in seen.consumers
        if one.up_seconds is not None and not one.silent_seconds
    ]
    shares = [one.write_share for one in seen.consumers if one.write_share is not None and one.works]
    starts += [(change.at / 1000, f"{change.what} by {change.by}") for change in looked.changes.get(flow.name, [])]
    return {
        "seen": seen,
        "flow": flow,
        "state": state_of(seen),
        "source": place_of(flow.source),
        "sinks": [(part.type, place_of(part)) for part in flow.sink.each],
        "lines": lines_of(seen.books) if seen.books else [],
        "verdict": verdict_of(seen.books) if seen.books else None,
        "history": history_of(looked.notes.get(flow.name, []), back, starts),
        "width": WIDTH,
        "height": HEIGHT,
        "moment": moment,
        "positions": [
            (name, msgspec.json.encode(value).decode())
            for name, value in (seen.books.checkpoints if seen.books else {}).items()
        ],
        "paused": bool(seen.books and seen.books.paused),
        "delays": delays(seen.books) if seen.books else "",
        "leases": seen.books.leases if seen.books else [],
        "working": sum(one.works for one in seen.consumers),
        "write_share": sum(shares) / len(shares) if shares else None,
        "troubles": _troubles(seen, moment),
    }


def _reasons(site: Site, flow: Flow) -> list[Group]:
    """The most frequent reasons of the flow's newest dead letters; none where Redis doesn't answer."""
    try:
        with site.reading(flow) as queue:
            newest = within(DeadLetters(queue).newest(), NEWEST_LETTERS, NEWEST_BYTES)
            return grouped(Counter(letter.reason for letter in newest))[:5]
    except QueueError:
        return []


def _troubles(seen: FlowSeen, moment: float) -> list[tuple[str, str, float]]:
    """Who has trouble, which, and since when."""
    told = [(trouble.part, trouble.reason, moment - trouble.since_seconds) for trouble in seen.troubles]
    told += [(f"sink {one.sink}", f"misses {one.records:,} records: {one.reason}", one.since) for one in seen.missing]
    for one in seen.consumers:
        if one.silent_seconds:
            told.append((one.name, f"was last heard of {span(one.silent_seconds)} ago", moment - one.silent_seconds))
        elif one.trouble:
            told.append((one.name, one.trouble, one.trouble_since))
    return told
