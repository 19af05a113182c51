"""The spiders that come with Millrace, and the models of what they yield."""

from __future__ import annotations

from typing import TYPE_CHECKING

from millrace_pipeline.ondemand import on_demand
from millrace_producer.spiders.models import Book, Quote

if TYPE_CHECKING:
    from millrace_producer.spiders.books import BooksSpider
    from millrace_producer.spiders.quotes import QuotesSpider

__all__ = ["Book", "BooksSpider", "Quote", "QuotesSpider"]

__getattr__ = on_demand(
    __name__,
    {
        "millrace_producer.spiders.books": ("BooksSpider",),  # and Scrapy, for which no model should wait
        "millrace_producer.spiders.quotes": ("QuotesSpider",),
    },
)
