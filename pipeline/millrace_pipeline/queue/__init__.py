"""Everything that is ever said to Redis: a session, and halves of a queue that are made with it.

Each verb is one Lua file or one transaction, so it happens whole or not at all, and may be sent again after a lost
reply: the second time it changes nothing and answers the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from millrace_pipeline.ondemand import on_demand

if TYPE_CHECKING:
    from millrace_pipeline.queue.auditing import audit
    from millrace_pipeline.queue.books import Books, Lease, books_of
    from millrace_pipeline.queue.claim import Claim
    from millrace_pipeline.queue.claiming import Claiming
    from millrace_pipeline.queue.dead_letters import DeadLetters, SetAside
    from millrace_pipeline.queue.delaying import Delaying
    from millrace_pipeline.queue.leading import Leading
    from millrace_pipeline.queue.leases import Leases
    from millrace_pipeline.queue.publishing import Published, Publishing
    from millrace_pipeline.queue.session import Session
    from millrace_pipeline.queue.settling import Done, Settling
    from millrace_pipeline.queue.variants import Variant, Variants
    from millrace_pipeline.redis.address import Client

__all__ = [
    "Books",
    "Claim",
    "Claiming",
    "Client",
    "DeadLetters",
    "Delaying",
    "Done",
    "Leading",
    "Lease",
    "Leases",
    "Published",
    "Publishing",
    "Session",
    "SetAside",
    "Settling",
    "Variant",
    "Variants",
    "audit",
    "books_of",
]

__getattr__ = on_demand(
    __name__,
    {
        "millrace_pipeline.queue.auditing": ("audit",),
        "millrace_pipeline.queue.books": (
            "Books",
            "Lease",
            "books_of",
        ),
        "millrace_pipeline.queue.claim": ("Claim",),
        "millrace_pipeline.queue.claiming": ("Claiming",),
        "millrace_pipeline.queue.dead_letters": (
            "DeadLetters",
            "SetAside",
        ),
        "millrace_pipeline.queue.delaying": ("Delaying",),
        "millrace_pipeline.queue.leading": ("Leading",),
        "millrace_pipeline.queue.leases": ("Leases",),
        "millrace_pipeline.queue.publishing": (
            "Published",
            "Publishing",
        ),
        "millrace_pipeline.queue.session": ("Session",),
        "millrace_pipeline.queue.settling": (
            "Done",
            "Settling",
        ),
        "millrace_pipeline.queue.variants": (
            "Variant",
            "Variants",
        ),
        "millrace_pipeline.redis.address": ("Client",),
    },
)
