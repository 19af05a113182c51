"""The metrics that a service counts itself, in Prometheus' names and units. How its flows stand is `standing`'s."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

LATEST: Final = "mostrecent"
"""Of the services of a `millrace run`, which share their metrics, the one that spoke last says it."""

published = Counter("millrace_records_published", "Records put on the list.", ["flow"])
duplicates = Counter("millrace_records_duplicate", "Records left out, since their key was published before.", ["flow"])
delivered = Counter("millrace_records_delivered", "Records that the sink holds.", ["flow"])
filtered = Counter("millrace_records_filtered", "Records for which a transform returned nothing.", ["flow"])
dead = Counter("millrace_records_dead", "Records set aside as dead letters.", ["flow"])
misfits = Counter("millrace_records_misfit", "Records that did not fit the model when they were read.", ["flow"])
batches = Counter("millrace_batches_delivered", "Batches written and acked.", ["flow"])
held_back = Gauge(
    "millrace_producer_held_back",
    "1 while the producer waits for the list to fall.",
    ["flow"],
    multiprocess_mode=LATEST,
)
source_failures = Counter("millrace_source_failures", "Times that the source failed and was started again.", ["flow"])
sink_unavailable = Gauge(
    "millrace_sink_unavailable_timestamp_seconds",
    "Unix time since when the sink takes nothing; 0 while it does.",
    ["flow"],
    multiprocess_mode=LATEST,
)
sink_missed = Counter(
    "millrace_records_missed", "Records that a sink with `required: false` did not take.", ["flow", "sink"]
)
leases_lost = Counter("millrace_leases_lost", "Batches that were taken over while this consumer held them.", ["flow"])
reclaimed = Counter("millrace_batches_reclaimed", "Batches taken over from a consumer that went silent.", ["flow"])
write_seconds = Histogram(
    "millrace_sink_write_seconds",
    "Time to write one batch.",
    ["flow"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)
batch_records = Histogram(
    "millrace_batch_records",
    "Records of one batch as the sink got it.",
    ["flow"],
    buckets=(1, 10, 50, 100, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000),
)

OF_A_PRODUCER: Final = (published, duplicates, misfits, source_failures, held_back)
OF_A_CONSUMER: Final = (
    *(delivered, filtered, dead, batches, leases_lost, reclaimed),
    *(sink_unavailable, write_seconds, batch_records),
)


def show_zeros(of: Iterable[Counter | Gauge | Histogram], flow: str) -> None:
    """Show these from now on, at 0: Prometheus sees no rise in a counter that begins at 1."""
    for metric in of:
        metric.labels(flow)
