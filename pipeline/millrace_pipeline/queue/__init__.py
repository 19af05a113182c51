"""Everything that is ever said to Redis."""

from millrace_pipeline.queue.auditing import audit
from millrace_pipeline.queue.books import Books, Lease
from millrace_pipeline.queue.claiming import Claim
from millrace_pipeline.queue.dead_letters import DeadLetters, SetAside
from millrace_pipeline.queue.publishing import Published
from millrace_pipeline.queue.queue import Queue
from millrace_pipeline.queue.settling import Done
from millrace_pipeline.queue.variants import Variant, Variants
from millrace_pipeline.redis.address import Client

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
