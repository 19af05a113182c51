"""Variants: the pages of what a flow's contract set aside: listed, looked at, let pass after all or dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from millrace.ours import may_change
from millrace.ui.content import VIEWS, content_of, file_of, preview, unlike_text
from millrace.ui.doing import after_doing, before_asking, list_of, verb_in
from millrace.ui.flows import flow_of
from millrace.ui.letters import PAGE, Count, Filter, do_each
from millrace.ui.site import Site
from millrace_pipeline.queue import Variant, Variants

VERBS = {"replay": ("Let pass", "put on the list, past the contract"), "drop": ("Drop for good", "dropped")}
ANYWAY = "`millrace variants … --any-project` does it all the same"


class Row(NamedTuple):
    """A variant in the list."""

    id: str
    time: str
    reason: str
    size: int
    preview: str


def listed(site: Site, request: Request) -> Response:
    """The variants of a flow, newest first, a page at a time."""
    flow, wanted = flow_of(site, request), Filter(reason=request.query_params.get("reason", "").strip())
    skip = _number(request.query_params.get("skip", ""))
    with site.reading(flow) as queue:
        variants = Variants(queue)
        total = len(variants)
        rows = [_row(one) for one in islice(variants.newest(reason=wanted.reason), skip, skip + PAGE + 1)]
    return site.page(
        request,
        "variants.html",
        flow=flow,
        wanted=wanted,
        rows=rows[:PAGE],
        total=total,
        further=wanted.query(skip=str(skip + PAGE)) if len(rows) > PAGE else "",
        first=not skip,
        verbs=VERBS,
    )


def shown(site: Site, request: Request) -> Response:
    """One variant, whole or cut."""
    flow = flow_of(site, request)
    with site.reading(flow) as queue:
        variant = _variant(Variants(queue), request)
    return site.page(
        request,
        "variant.html",
        flow=flow,
        id=variant.envelope.id,
        variant=variant,
        size=len(variant.line),
        content=content_of(variant.line, request.query_params.get("as", "")),
        views=VIEWS,
        hidden=unlike_text(variant.line),
        verbs=VERBS,
    )


def record(site: Site, request: Request) -> Response:
    """The exact bytes of a variant, as a file."""
    flow = flow_of(site, request)
    with site.reading(flow) as queue:
        variant = _variant(Variants(queue), request)
    return file_of(variant.line, f"{flow.name}-{variant.envelope.id}")


def asked(site: Site, request: Request) -> Response:
    """The question before something is done: how many variants it will be done to, and why they were set aside."""
    flow, verb = flow_of(site, request), verb_in(request, VERBS)
    if (answer := before_asking(site, request)) is not None:
        return answer
    wanted, ids = Filter(reason=request.query_params.get("reason", "").strip()), request.query_params.getlist("id")
    with site.reading(flow) as queue:
        found = Variants(queue).newest(reason=wanted.reason, ids=frozenset(ids) or None)
        count = Count(Counter(one.reason for one in found))
    return site.page(
        request,
        "ask.html",
        flow=flow,
        what="variants",
        verb=verb,
        words=VERBS[verb],
        wanted=wanted,
        count=count,
        ids=ids,
        fields={"count": str(count.total)},
        back=list_of(flow, "variants", wanted),
    )


def do(site: Site, request: Request, form: Sequence[tuple[str, str]]) -> Response:
    """Do to so many variants as were counted what was asked for: the oldest, since others come before them."""
    fields = dict(form)
    if (refusal := site.refusal(request, fields)) is not None:
        return refusal
    flow, verb = flow_of(site, request), verb_in(request, VERBS)
    wanted, ids = Filter(reason=fields.get("reason", "")), [value for name, value in form if name == "id"]
    counted = _number(fields.get("count", ""))
    with site.writing(flow) as queue:
        may_change(site.server, flow, queue, ANYWAY)
        variants = Variants(queue, site.by(queue))
        found = list(variants.newest(reason=wanted.reason, ids=frozenset(ids) or None))
        done, all_done = do_each(found[max(0, len(found) - counted) :], getattr(variants, verb))
    back = list_of(flow, "variants", wanted)
    return after_doing(site, request, VERBS[verb][1], done, all_done=all_done, back=back)


def _variant(variants: Variants, request: Request) -> Variant:
    id = request.path_params["id"]
    variant = next(variants.newest(ids=frozenset([id])), None)
    if variant is None:
        raise HTTPException(404, "There is no such variant any more: it was put on the list, dropped, or never there.")
    return variant


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _row(variant: Variant) -> Row:
    moment = variant.time
    return Row(
        variant.envelope.id,
        f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "–",
        variant.reason,
        len(variant.line),
        preview(bytes(variant.envelope.text)),
    )
