"""How a spider of a shared crawl ends, and whether that ends the crawl."""

OWN_ENDS = frozenset({"finished", "shutdown", "publish_failed", "start_error", "memusage_exceeded"})
"""Finish reasons that end this spider alone: with any other the crawl is over for all of them."""
