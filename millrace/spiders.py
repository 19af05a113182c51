"""The spiders that come with Millrace, and the models of what they yield."""

from millrace_producer.spiders.books import Book, BooksSpider
from millrace_producer.spiders.quotes import Quote, QuotesSpider

__all__ = ["Book", "BooksSpider", "Quote", "QuotesSpider"]
