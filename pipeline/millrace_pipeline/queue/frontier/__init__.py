"""The frontier of a crawl: its requests, kept beside the flow's list, so that many spiders share them and lose none.

A request is claimed under a lease, and settled in one step with all that its page gave: items on the list, new requests
on the frontier, what is done, the counters.
"""

from millrace_pipeline.queue.frontier.books import CrawlBooks, crawl_books, crawls_of
from millrace_pipeline.queue.frontier.claimed import Answer, Claimed
from millrace_pipeline.queue.frontier.frontier import CrawlGone, Frontier
from millrace_pipeline.queue.frontier.politeness import Pace, Politeness
from millrace_pipeline.queue.frontier.request import Waiting, print_of
from millrace_pipeline.queue.frontier.settlement import Settlement

__all__ = [
    "Answer",
    "Claimed",
    "CrawlBooks",
    "CrawlGone",
    "Frontier",
    "Pace",
    "Politeness",
    "Settlement",
    "Waiting",
    "crawl_books",
    "crawls_of",
    "print_of",
]
