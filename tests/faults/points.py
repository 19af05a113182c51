"""The points of a publish and of a delivery at which a process can be made to kill itself."""

from __future__ import annotations

PRODUCER_POINTS = ["producer.before_publish", "producer.after_publish"]

CONSUMER_POINTS = [
    "consumer.after_claim",
    "consumer.before_write",
    "sink.before_write",
    "sink.mid_write",
    "sink.before_rename",
    "sink.after_rename",
    "consumer.after_write",
]
