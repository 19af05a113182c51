"""The items of the bundled spiders, as pydantic models: a flow can name one as its `model` and import no Scrapy."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel, Field


class Quote(BaseModel):
    """A quote as the site shows it; `url` is the page that it stands on."""

    text: str = Field(min_length=1)
    author: str = Field(min_length=1)
    tags: list[str]
    url: str


class Book(BaseModel):
    """A book as the shop shows it; `url` is its own page.

    The catalogue doesn't tell all of it: without the books' own pages `upc`, `category`, `description` and `available`
    are not known, but for a book that is out of stock.
    """

    title: str = Field(min_length=1)
    price: Decimal = Field(ge=0, max_digits=12, decimal_places=2)
    currency: str
    rating: int = Field(ge=1, le=5)
    in_stock: bool
    available: int | None = None
    upc: str | None = None
    category: str | None = None
    description: str | None = None
    url: str
