"""Moving: the pages that ask before a checkpoint is moved, a list purged or a batch requeued, and then do it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from millrace.ages import age
from millrace.checkpoints import checkpoint_of, meaning_of, move_checkpoint
from millrace.ours import may_change
from millrace.requeuing import requeue_batch
from millrace.ui.doing import before_asking
from millrace.ui.flows import flow_of
from millrace.ui.site import Site
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.queue import Session, books_of
from millrace_pipeline.queue.purging import purge, ready_of

LONGEST_SECONDS = 8.0
"""A purge that takes longer than that is gone on with by whoever asks again."""

WHOLE = "a batch that any consumer can take at once, under the same id: a sink that goes by it writes nothing twice"
ON_THE_LIST = (
    "records on the list again, to be taken next in batches with other ids: what the sink has of them by then it gets "
    "twice"
)


@dataclass
class Question:
    """What is asked before something is done: what it would change, line by line, and what the form then says."""

    title: str
    lines: Sequence[tuple[str, str]]
    warning: str
    button: str
    fields: Mapping[str, str]


def asked(site: Site, request: Request) -> Response:
    """The question before something is moved: how many records it is about, and what it will mean."""
    flow, act = flow_of(site, request), _act_in(request)
    if (answer := before_asking(site, request)) is not None:
        return answer
    with site.reading(flow) as queue:
        question = act.ask(flow, queue, dict(request.query_params))
    return site.page(request, "sure.html", flow=flow, it=question)


def do(site: Site, request: Request, form: Sequence[tuple[str, str]]) -> Response:
    """Do what was asked, to as many records as were counted."""
    fields = dict(form)
    if (refusal := site.refusal(request, fields)) is not None:
        return refusal
    flow, act = flow_of(site, request), _act_in(request)
    with site.writing(flow) as queue:
        may_change(site.server, flow, queue, "the command does it with --any-project")
        site.say(request, act.do(site, flow, queue, fields))
    return RedirectResponse(f"/flows/{flow.name}/steer", 303)


def ask_checkpoint(flow: Flow, queue: Session, fields: Mapping[str, str]) -> Question:
    """What it would mean to have the source read from elsewhere."""
    position = _position(fields)
    now = checkpoint_of(flow, queue)
    meaning = meaning_of(flow, position)
    return Question(
        f"Move the checkpoint of {flow.name}?",
        [("It is", _told(now.position)), ("It becomes", _told(position)), ("That means", meaning)],
        "A producer that runs starts over from there within two seconds.",
        "Move it" if position is not None else "Take it away",
        {"position": fields.get("position", ""), "reset": fields.get("reset", "")},
    )


def move(site: Site, flow: Flow, queue: Session, fields: Mapping[str, str]) -> str:
    """Move the checkpoint, and say what it was."""
    before = move_checkpoint(flow, queue, _position(fields), by=site.by(queue))
    return f"the checkpoint is moved; it was {_told(before)}"


def ask_purge(flow: Flow, queue: Session, fields: Mapping[str, str]) -> Question:
    """How many records would be taken off the list, and where to."""
    to_dead, count = _to_dead(fields), ready_of(queue)
    where = "dead letters, from where they can be put back" if to_dead else "away, for good: they count as discarded"
    return Question(
        f"Purge {count:,} record{'s' if count != 1 else ''} of {flow.name}?",
        [("They wait on", flow.queue.key), ("They go", where)],
        "What is in flight stays with its consumers.",
        f"Set aside ({count:,})" if to_dead else f"Throw away ({count:,})",
        {"to": fields["to"], "count": str(count), "note": fields.get("note", "")},
    )


def do_purge(site: Site, _: Flow, queue: Session, fields: Mapping[str, str]) -> str:
    """Purge as many records as were counted, the oldest first, and say how many it were."""
    to_dead, count = _to_dead(fields), fields.get("count", "")
    if not (count.isascii() and count.isdigit()):
        raise HTTPException(400, "The form doesn't say how many records were counted.")
    over, done = time.monotonic() + LONGEST_SECONDS, 0

    def progress(so_far: int) -> None:
        nonlocal done
        done = so_far
        if time.monotonic() > over and done < int(count):
            raise _LongEnough

    try:
        done = purge(
            queue, int(count), to_dead=to_dead, note=fields.get("note", ""), by=site.by(queue), progress=progress
        )
    except _LongEnough:
        return f"{done:,} of {int(count):,} records purged; more are left: do it again to go on"
    return f"{done:,} records {'became dead letters' if to_dead else 'were thrown away'}"


def ask_requeue(flow: Flow, queue: Session, fields: Mapping[str, str]) -> Question:
    """Which batch would be taken from whom, and how many records it has."""
    batch = fields.get("batch", "")
    lease = next((one for one in books_of(queue).leases if one.batch == batch), None)
    if lease is None:
        raise HTTPException(404, f"No batch {batch} is in flight any more.")
    left = f"is good for {age(lease.seconds_left)} more" if lease.seconds_left > 0 else "has run out"
    whole = fields.get("how") != "list"
    return Question(
        f"Take {lease.records:,} record{'s' if lease.records != 1 else ''} of {flow.name} from their consumer?",
        [
            ("Batch", batch),
            ("Held by", f"{lease.consumer} for {age(lease.age_seconds)}, attempt {lease.attempts}"),
            ("Its lease", left),
            ("Waits for", lease.note or "nothing that it says"),
            ("It becomes", WHOLE if whole else ON_THE_LIST),
        ],
        "Who holds it can't ack it any more, and drops it.",
        f"Requeue ({lease.records:,})",
        {"batch": batch, "how": "whole" if whole else "list", "force": fields.get("force", "")},
    )


def do_requeue(site: Site, flow: Flow, queue: Session, fields: Mapping[str, str]) -> str:
    """Requeue the batch, and say how many records it had."""
    whole = fields.get("how") != "list"
    records = requeue_batch(
        flow, queue, fields.get("batch", ""), whole=whole, force=bool(fields.get("force")), by=site.by(queue)
    )
    return f"{records:,} records {'can be taken over at once' if whole else 'are on the list again'}"


class _LongEnough(Exception):
    """A purge has gone on for as long as one waits for a page."""


@dataclass(frozen=True)
class _Act:
    ask: Callable[[Flow, Session, Mapping[str, str]], Question]
    do: Callable[[Site, Flow, Session, Mapping[str, str]], str]


ACTS: Mapping[str, _Act] = {
    "checkpoint": _Act(ask_checkpoint, move),
    "purge": _Act(ask_purge, do_purge),
    "requeue": _Act(ask_requeue, do_requeue),
}


def _act_in(request: Request) -> _Act:
    act = ACTS.get(request.path_params["act"])
    if act is None:
        raise HTTPException(404, "There is nothing of that name to be done.")
    return act


def _position(fields: Mapping[str, str]) -> Any:
    """Return the position that was typed; None where the checkpoint is to be taken away. Raises ConfigError."""
    if fields.get("reset"):
        return None
    text = fields.get("position", "").strip()
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f'{text!r} is no JSON ({error}): text stands in double quotes, as in "abc"') from None
    if value is None:
        raise ConfigError("null is no position: the other button takes the checkpoint away")
    return value


def _to_dead(fields: Mapping[str, str]) -> bool:
    if fields.get("to") not in ("dead", "away"):
        raise HTTPException(400, "Say where to: into dead letters, or away.")
    return fields["to"] == "dead"


def _told(position: Any) -> str:
    return "none" if position is None else json.dumps(position, ensure_ascii=False)
