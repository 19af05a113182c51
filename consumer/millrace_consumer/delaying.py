"""Delaying: what a consumer does with records that a transform wants to be given again later."""

from __future__ import annotations

import structlog

from millrace_consumer.delivery import Delivery
from millrace_pipeline.flows.flow import Flow
from millrace_pipeline.killpoints import killpoint
from millrace_pipeline.queue import Delaying

log = structlog.get_logger(__name__)


def put_off(delivery: Delivery, delaying: Delaying, flow: Flow) -> bool:
    """Put off the records that are to be tried later. Return False where nothing is left of the batch to deliver now.

    Of a batch that a sink may have seen no record can be taken out: it is put off whole. So is one of a list that is
    delivered in order, for nothing to pass what waits. Raises LeaseLost.
    """
    if not delivery.later:
        return True
    claim, span = delivery.claim, delivery.span
    latest = max(delivery.later.values(), key=lambda later: later.seconds)
    if claim.unseen and not flow.queue.in_order:
        records = len(delivery.later)
        delaying.delay(claim, delivery.later)
        killpoint("consumer.after_delay")
        delivery.let_go()
    else:
        records = len(claim.lines)
        delaying.put_off(claim, latest)
        claim.lines = []
    with span.current():
        log.info(
            "records_delayed",
            flow=flow.name,
            batch=claim.id,
            records=records,
            seconds=latest.seconds,
            attempts=claim.attempts,
            reason=str(latest),
        )
    if not claim.lines:
        span.end("delayed", delayed=records)
    return bool(claim.lines)
