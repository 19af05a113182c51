"""A bookshop to practise on: three pages of a catalogue and a page for each book, laid out as books.toscrape.com's.

Its books were never written. Between them they have what trips up a scraper: titles that the catalogue shortens, angle
brackets and ampersands, letters beyond ASCII, prices beyond a thousand and in another currency, a book that is out of
stock and one without a description.
"""

from __future__ import annotations

import re
from hashlib import sha256
from html import escape
from string import Template
from typing import Any, NamedTuple

BOOKS_A_PAGE = 20
SHORTENED = 25
START = "catalogue/page-1.html"
RATINGS = ("One", "Two", "Three", "Four", "Five")

_PAGE_PATH = re.compile(r"/catalogue/page-([1-9][0-9]{0,3})\.html")
_BOOK_PATH = re.compile(r"/catalogue/[^/]*_([1-9][0-9]{0,3})/index\.html")

_HTML = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
    <meta charset="UTF-8">
    <title>$title | Books to practise on</title>
</head>
<body>
    <div class="container-fluid page">
        <div class="page_inner">
            <ul class="breadcrumb">
                <li><a href="/catalogue/page-1.html">Home</a></li>
                <li><a href="/catalogue/page-1.html">Books</a></li>
$crumbs
            </ul>
$body
        </div>
    </div>
</body>
</html>
""")

_CARD = Template("""\
                <li class="col-xs-6 col-sm-4 col-md-3 col-lg-3">
                    <article class="product_pod">
                        <p class="star-rating $rating"><i class="icon-star"></i></p>
                        <h3><a href="$link" title="$title">$short</a></h3>
                        <div class="product_price">
                            <p class="price_color">$price</p>
                            <p class="$stock_class availability">
                                <i class="icon-ok"></i>
                                $stock
                            </p>
                        </div>
                    </article>
                </li>
""")

_DETAIL = Template("""\
            <article class="product_page">
                <div class="row">
                    <div class="col-sm-6 product_main">
                        <h1>$title</h1>
                        <p class="price_color">$price</p>
                        <p class="$stock_class availability">
                            <i class="icon-ok"></i>
                            $stock
                        </p>
                        <p class="star-rating $rating"><i class="icon-star"></i></p>
                    </div>
                </div>
$description
                <table class="table table-striped">
                    <tr><th>UPC</th><td>$upc</td></tr>
                    <tr><th>Product Type</th><td>Books</td></tr>
                    <tr><th>Price (incl. tax)</th><td>$price</td></tr>
                </table>
                <h2>Others looked at</h2>
                <article class="product_other"><p class="price_color">£0.01</p></article>
            </article>
""")

_DESCRIPTION = Template("""\
                <div id="product_description" class="sub-header"><h2>Product Description</h2></div>
                <p>$text</p>
""")


class PracticeBook(NamedTuple):
    """A book of the shop; `price` is in hundredths."""

    number: int
    title: str
    category: str
    price: int
    euros: bool
    rating: int
    available: int
    description: str | None

    @property
    def path(self) -> str:
        """Below `catalogue/`, as its catalogue links to it."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")
        return f"{slug}_{self.number}/index.html"

    @property
    def upc(self) -> str:
        return sha256(self.title.encode()).hexdigest()[:16]

    @property
    def shown_price(self) -> str:
        """As this shop writes it: £1,234.50, but 1.234,50 €."""
        text = f"{self.price / 100:,.2f}"
        return f"{text.translate(str.maketrans(',.', '.,'))} €" if self.euros else f"£{text}"

    def expected(self, site: str) -> dict[str, Any]:
        """What a scraper should find, on a site with this address."""
        return {
            "title": self.title,
            "price": f"{self.price // 100}.{self.price % 100:02}",
            "currency": "EUR" if self.euros else "GBP",
            "rating": self.rating,
            "in_stock": self.available > 0,
            "available": self.available,
            "upc": self.upc,
            "category": self.category,
            "description": self.description,
            "url": f"{site}catalogue/{self.path}",
        }


_WHO = ("Ferryman", "Clockmaker", "Weaver", "Lighthouse Keeper", "Baker & Son", "Cartographer", "Żona Młynarza")
_WHAT = ("Ledger", "Second Winter", "Guide to Knots, Locks and Other Small Difficulties", "<Lost> Letters", "Árvore")
_CATEGORIES = ("Poetry", "Travel", "Crime", "Science Fiction", "Food and Drink")


def _books() -> tuple[PracticeBook, ...]:
    titles = [f"The {who}'s {what}" for what in _WHAT for who in _WHO] + [f"{who} at Sea" for who in _WHO]
    return tuple(
        PracticeBook(
            number=len(titles) - at,
            title=title,
            category=_CATEGORIES[at % len(_CATEGORIES)],
            price=123_450 if at % 17 == 3 else 999 + at * 137,
            euros=at % 11 == 4,
            rating=at % 5 + 1,
            available=0 if at % 13 == 6 else at % 22 + 1,
            description=None if at % 9 == 8 else f"{title}: “a book” of {100 + at} pages & no end.",
        )
        for at, title in enumerate(titles)
    )


BOOKS = _books()
LAST_PAGE = -(-len(BOOKS) // BOOKS_A_PAGE)


def page(path: str) -> str | None:
    """The HTML at a path; None where the shop has nothing."""
    if (found := _PAGE_PATH.fullmatch(path)) and int(found[1]) <= LAST_PAGE:
        return _catalogue(int(found[1]))
    if (found := _BOOK_PATH.fullmatch(path)) and int(found[1]) <= len(BOOKS):
        return _detail(BOOKS[len(BOOKS) - int(found[1])])
    return None


def _catalogue(number: int) -> str:
    first = (number - 1) * BOOKS_A_PAGE
    cards = "".join(_card(book) for book in BOOKS[first : first + BOOKS_A_PAGE])
    previous = f'<li class="previous"><a href="page-{number - 1}.html">previous</a></li>' if number > 1 else ""
    following = f'<li class="next"><a href="page-{number + 1}.html">next</a></li>' if number < LAST_PAGE else ""
    pager = f'<ul class="pager">{previous}<li class="current">Page {number} of {LAST_PAGE}</li>{following}</ul>'
    body = f'            <ol class="row">\n{cards}            </ol>\n            {pager}'
    return _HTML.substitute(title="All products", crumbs='<li class="active">All products</li>', body=body)


def _card(book: PracticeBook) -> str:
    short = book.title if len(book.title) <= SHORTENED else f"{book.title[:SHORTENED].rstrip()} ..."
    stock = "In stock" if book.available else "Out of stock"
    return _CARD.substitute(_parts(book, stock), link=book.path, short=escape(short))


def _detail(book: PracticeBook) -> str:
    stock = f"In stock ({book.available} available)" if book.available else "Out of stock"
    description = _DESCRIPTION.substitute(text=escape(book.description)) if book.description else ""
    crumbs = f'<li><a href="#">{escape(book.category)}</a></li>\n<li class="active">{escape(book.title)}</li>'
    body = _DETAIL.substitute(_parts(book, stock), description=description, upc=book.upc)
    return _HTML.substitute(title=escape(book.title), crumbs=crumbs, body=body)


def _parts(book: PracticeBook, stock: str) -> dict[str, str]:
    return {
        "title": escape(book.title),
        "price": book.shown_price,
        "rating": RATINGS[book.rating - 1],
        "stock": stock,
        "stock_class": "instock" if book.available else "outofstock",
    }
