"""Handover: what a consumer says of a batch that it takes over, gives back, or has lost to another."""

from __future__ import annotations

import structlog

from millrace_pipeline.errors import LeaseLost, QueueError
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.process import metrics
from millrace_pipeline.queue import Claim, Leases

log = structlog.get_logger(__name__)


def tell_taken(flow: Flow, claim: Claim) -> None:
    """Say that a batch was taken over: by how it was taken, for one whose consumer never began has no attempt yet.

    Nobody lost one that was put off.
    """
    if claim.unseen:
        log.info("batch_tried_again", flow=flow.name, batch=claim.id, attempts=claim.attempts)
        return
    metrics.reclaimed.labels(flow.name).inc()
    log.info("batch_reclaimed", flow=flow.name, batch=claim.id, attempts=claim.attempts)


def give_back(flow: Flow, leases: Leases, claim: Claim) -> None:
    """Release a batch, or say why it can't be."""
    what = {"flow": flow.name, "batch": claim.id, "records": len(claim.lines)}
    try:
        leases.release(claim)
    except QueueError as error:
        log.warning("batch_release_failed", **what, lease_seconds=flow.lease, reason=str(error))
    else:
        log.warning("batch_released", **what)


def tell_lost(flow: Flow, claim: Claim, error: LeaseLost) -> None:
    """Say that a batch is someone else's now."""
    metrics.leases_lost.labels(flow.name).inc()
    log.warning("lease_lost", flow=flow.name, batch=claim.id, reason=str(error))
