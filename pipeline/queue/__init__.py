"""Everything that is ever said to Redis."""

from pipeline.queue.books import Books, Lease
from pipeline.queue.claiming import Claim
from pipeline.queue.dead_letters import DeadLetters, SetAside
from pipeline.queue.publishing import Published
from pipeline.queue.queue import Queue

__all__ = ["Books", "Claim", "DeadLetters", "Lease", "Published", "Queue", "SetAside"]
