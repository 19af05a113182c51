"""Steering: the page on which a person pauses a flow and has it go on, and that tells what people changed of it."""

from __future__ import annotations

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
from millrace_pipeline.queue import Session
from millrace_pipeline.queue.changes import changes_of
from millrace_pipeline.queue.pausing import PARTS, pause, pauses_of, resume

SHOWN = 50
VERBS = ("pause", "resume")


def steer(site: Site, request: Request) -> Response:
    """What is paused, with the buttons for it; where the source is read from; and the audit list."""
    flow = flow_of(site, request)
    with site.reading(flow) as queue:
        return site.page(
            request,
            "steer.html",
            flow=flow,
            parts=PARTS,
            pauses=pauses_of(queue),
            changes=changes_of(queue, limit=SHOWN),
            position=_position(flow, queue),
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


def _position(flow: Flow, queue: Session) -> str:
    """Where the source is read from, in words; empty where this process lacks what the source needs, and can't tell."""
    try:
        return checkpoint_of(flow, queue).words
    except ConfigError:
        return ""
