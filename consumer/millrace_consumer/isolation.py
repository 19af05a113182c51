"""Isolation: finding the record that kills whoever tries to deliver it."""

from __future__ import annotations

import structlog

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.mark import foreign_among
from millrace_pipeline.process import metrics
from millrace_pipeline.queue import Claim, Leases

log = structlog.get_logger(__name__)


def isolate(leases: Leases, flow: Flow, claim: Claim) -> None:
    """Splits a batch that keeps killing its consumers; what is left alone in the end is the record that does it."""
    if len(claim.lines) > 1:
        leases.split(claim, attempts=flow.max_attempts - 1)
        log.warning("batch_split", flow=flow.name, batch=claim.id, records=len(claim.lines))
        return
    reason = f"killed its consumer: {claim.attempts - 1} attempts, none came to an end"
    if claim.delays:
        others = f"{claim.delays} asked for a later time: {claim.why}"
        reason = f"killed its consumer: {claim.attempts - 1} attempts, {claim.deaths} came to no end and {others}"
    letter = DeadLetter(claim.lines[0], reason)
    leases.ack(claim, delivered=0, foreign=foreign_among(claim.lines, flow.queue.key), dead=[letter])
    metrics.dead.labels(flow.name).inc()
    log.error("record_dead_lettered", flow=flow.name, batch=claim.id, reason=reason)
