"""Steering: the page on which a person pauses a flow and has it go on, and that tells what people changed of it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from millrace.checkpoints import checkpoint_of
from millrace.ours import may_change
from millrace.ui.flows import flow_of
from millrace.ui.site import Site
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Session, books_of
from millrace_pipeline.queue.changes import changes_of
from millrace_pipeline.queue.pausing import PARTS, pause, pauses_of, resume
from millrace_pipeline.queue.purging import ready_of

SHOWN = 50
MOST_BATCHES = 100
VERBS = ("pause", "resume")


def steer(site: Site, request: Request) -> Response:
    """What is paused, where the source is read from, what waits and what is in flight, each with what can be done."""
    flow = flow_of(site, request)
    with site.reading(flow) as queue:
        return site.page(
            request,
            "steer.html",
            flow=flow,
            parts=PARTS,
            pauses=pauses_of(queue),
            changes=changes_of(queue, limit=SHOWN),
            checkpoint=_checkpoint(flow, queue),
            ready=ready_of(queue),
            leases=books_of(queue).leases[:MOST_BATCHES],
        )


def do(site: Site, request: Request, form: Sequence[tuple[str, str]]) -> Response:
    """Pause a part of a flow, or have it go on."""
    fields = dict(form)
    if (refusal := site.refusal(request, fields)) is not None:
        return refusal
    flow, verb = flow_of(site, request), request.path_params["verb"]
    parts = [part for part in PARTS if part == fields.get("part")]
    if verb not in VERBS or not parts:
        raise HTTPException(404, "There is nothing of that name to be done.")
    with site.writing(flow) as queue:
        may_change(site.server, flow, queue, f"`millrace {verb} {flow.name} --any-project` does it all the same")
        by = site.by(queue)
        if verb == "pause":
            pause(queue, parts, note=fields.get("note", "").strip(), by=by)
        else:
            resume(queue, parts, by=by)
    site.say(request, f"{parts[0]} {'are paused' if verb == 'pause' else 'go on'}")
    return RedirectResponse(f"/flows/{flow.name}/steer", 303)


def _checkpoint(flow: Flow, queue: Session) -> tuple[str, str] | None:
    """The checkpoint and where the source is read from, in words; None where this process lacks what that takes."""
    try:
        found = checkpoint_of(flow, queue)
    except ConfigError:
        return None
    return "" if found.position is None else json.dumps(found.position, ensure_ascii=False), found.words
