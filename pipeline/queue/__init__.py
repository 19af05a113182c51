"""Everything that is ever said to Redis."""

from pipeline.queue.address import Client
from pipeline.queue.auditing import audit
from pipeline.queue.books import Books, Lease
from pipeline.queue.claiming import Claim
from pipeline.queue.dead_letters import DeadLetters, SetAside
from pipeline.queue.publishing import Published
from pipeline.queue.queue import Queue
from pipeline.queue.settling import Done
from pipeline.queue.variants import Variant, Variants

__all__ = [
    "Books",
    "Claim",
    "Client",
    "DeadLetters",
    "Done",
    "Lease",
    "Published",
    "Queue",
    "SetAside",
    "Variant",
    "Variants",
    "audit",
]
