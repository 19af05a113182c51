"""Dead: the pages of a flow's dead letters: listed, looked at, edited, put back or dropped, with the count first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from millrace.ours import may_change
from millrace.ui.content import VIEWS, content_of, editable, edited, file_of, preview, unlike_text
from millrace.ui.doing import after_doing, before_asking, list_of, verb_in
from millrace.ui.flows import flow_of
from millrace.ui.letters import COUNTED_BYTES, ID, PAGE, Count, Filter, behind, do_each, within
from millrace.ui.site import Site
from millrace_pipeline.queue import DeadLetters, SetAside

VERBS = {"replay": ("Put back on the list", "put back on the list"), "drop": ("Drop for good", "dropped")}
ANYWAY = "`millrace dead … --any-project` does it all the same"


class Row(NamedTuple):
    """A letter in the list: all but its bytes."""

    id: str
    time: str
    reason: str
    attempts: int
    size: int
    preview: str


def listed(site: Site, request: Request) -> Response:
    """The dead letters of a flow, newest first, a page at a time."""
    flow, wanted = flow_of(site, request), Filter.of(request.query_params)
    before = request.query_params.get("before", "")
    before = before if ID.fullmatch(before) else ""
    with site.reading(flow) as queue:
        letters = DeadLetters(queue)
        total = len(letters)
        found = letters.newest(since=wanted.after, before=before or wanted.before, reason=wanted.reason)
        rows = [_row(letter) for letter in islice(found, PAGE + 1)] if not wanted.error else []
    return site.page(
        request,
        "dead.html",
        flow=flow,
        wanted=wanted,
        rows=rows[:PAGE],
        total=total,
        further=wanted.query(before=rows[PAGE - 1].id) if len(rows) > PAGE else "",
        first=not before,
        verbs=VERBS,
    )


def shown(site: Site, request: Request) -> Response:
    """One dead letter, whole or cut."""
    flow = flow_of(site, request)
    with site.reading(flow) as queue:
        letter = _letter(DeadLetters(queue), request)
    return site.page(
        request,
        "letter.html",
        flow=flow,
        letter=letter,
        content=content_of(letter.record, request.query_params.get("as", "")),
        views=VIEWS,
        hidden=unlike_text(letter.record),
        text=editable(letter.record),
        verbs=VERBS,
    )


def record(site: Site, request: Request) -> Response:
    """The exact bytes of a dead letter, as a file."""
    flow = flow_of(site, request)
    with site.reading(flow) as queue:
        letter = _letter(DeadLetters(queue), request)
    return file_of(letter.record, f"{flow.name}-{letter.id}")


def asked(site: Site, request: Request) -> Response:
    """The question before something is done: how many letters it will be done to, and why these died."""
    flow, verb = flow_of(site, request), verb_in(request, VERBS)
    if (answer := before_asking(site, request)) is not None:
        return answer
    wanted = Filter.of(request.query_params)
    if wanted.error:
        raise HTTPException(400, wanted.error)
    ids = [id for id in request.query_params.getlist("id") if ID.fullmatch(id)]
    with site.reading(flow) as queue:
        count = _count(DeadLetters(queue), wanted, ids)
    return site.page(
        request,
        "ask.html",
        flow=flow,
        what="dead letters",
        verb=verb,
        words=VERBS[verb],
        wanted=wanted,
        count=count,
        ids=ids,
        fields={
            "through": count.newest,
            "since_id": f"{int(wanted.after.timestamp() * 1000)}-0" if wanted.after else "",
        },
        back=list_of(flow, "dead", wanted),
    )


def do(site: Site, request: Request, form: Sequence[tuple[str, str]]) -> Response:
    """Do to the letters that were counted what was asked for, and no others."""
    fields = dict(form)
    if (refusal := site.refusal(request, fields)) is not None:
        return refusal
    flow, verb = flow_of(site, request), verb_in(request, VERBS)
    wanted = Filter.of(fields)
    ids = [value for name, value in form if name == "id" and ID.fullmatch(value)]
    with site.writing(flow) as queue:
        may_change(site.server, flow, queue, ANYWAY)
        letters = DeadLetters(queue, site.by(queue))
        done, all_done = do_each(_chosen(letters, wanted, ids, fields), getattr(letters, verb))
    back = list_of(flow, "dead", wanted)
    return after_doing(site, request, VERBS[verb][1], done, all_done=all_done, back=back)


def edit(site: Site, request: Request, form: Sequence[tuple[str, str]]) -> Response:
    """Put a letter back on the list as it was edited; one that wasn't changed stays."""
    fields = dict(form)
    if (refusal := site.refusal(request, fields)) is not None:
        return refusal
    flow = flow_of(site, request)
    with site.writing(flow) as queue:
        may_change(site.server, flow, queue, ANYWAY)
        letters = DeadLetters(queue, site.by(queue))
        letter = _letter(letters, request)
        before = editable(letter.record)
        if before is None:
            raise HTTPException(
                400, f"This record can't be edited here: `millrace dead edit {flow.name} {letter.id}` can."
            )
        after = edited(fields.get("text", ""))
        if after == edited(before):
            site.say(request, "not changed: it stays a dead letter")
            return RedirectResponse(f"/flows/{flow.name}/dead/{letter.id}", 303)
        there = letters.replay(letter, edited=after)
    site.say(request, "put back on the list as edited" if there else "it is gone: somebody else was quicker")
    return RedirectResponse(f"/flows/{flow.name}/dead", 303)


def _chosen(letters: DeadLetters, wanted: Filter, ids: Sequence[str], fields: Mapping[str, str]) -> Iterator[SetAside]:
    """The letters that were counted: none that came since, or that time has brought into the filter."""
    if ids:
        yield from filter(None, map(letters.get, ids))
        return
    through, since = fields.get("through", ""), fields.get("since_id", "")
    if not ID.fullmatch(through) or not (not since or ID.fullmatch(since)):
        raise HTTPException(400, "This form doesn't say which letters were counted: ask again.")
    for letter in within(letters.newest(before=behind(through), reason=wanted.reason), 10**9, COUNTED_BYTES):
        if since and _order(letter.id) < _order(since):
            return
        yield letter


def _count(letters: DeadLetters, wanted: Filter, ids: Sequence[str]) -> Count:
    count = Count()
    if ids:
        found: Iterator[SetAside] = filter(None, map(letters.get, ids))
    else:
        found = within(
            letters.newest(since=wanted.after, before=wanted.before, reason=wanted.reason), 10**9, COUNTED_BYTES
        )
    size = 0
    for letter in found:
        count.newest = count.newest or letter.id
        count.reasons[letter.reason] += 1
        size += len(letter.record)
    count.whole = bool(ids) or size < COUNTED_BYTES
    return count


def _letter(letters: DeadLetters, request: Request) -> SetAside:
    id = request.path_params["id"]
    letter = letters.get(id) if ID.fullmatch(id) else None
    if letter is None:
        raise HTTPException(404, "There is no such dead letter any more: it was put back, dropped, or never there.")
    return letter


def _row(letter: SetAside) -> Row:
    time = f"{letter.time:%Y-%m-%d %H:%M:%S}"
    return Row(letter.id, time, letter.reason, letter.attempts, len(letter.record), preview(letter.record))


def _order(id: str) -> tuple[int, int]:
    moment, _, number = id.partition("-")
    return int(moment), int(number)
