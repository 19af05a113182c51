"""Money as shops write it: `£51.77`, `1.234,50 €`, `USD 5`."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

from millrace_pipeline.number import exact

CURRENCIES = {"£": "GBP", "€": "EUR", "$": "USD", "¥": "JPY", "₹": "INR", "₽": "RUB", "zł": "PLN", "Kč": "CZK"}
"""ISO 4217 codes of signs. A sign that several countries use means the one that it means most often."""

_AMOUNT = re.compile(r"\d+(?:[.,\s'’]\d+)*")
_CODE = re.compile(r"\b[A-Z]{3}\b")
_DECIMALS = re.compile(r"[.,](\d{1,2})$")


class Money(NamedTuple):
    """An amount, exact to the last digit, and the ISO 4217 code of its currency."""

    amount: Decimal
    currency: str


def money(text: str) -> Money:
    """What a price says.

    A point or comma with one or two digits behind it, at the end, parts the decimals; all others part thousands. Where
    a page was decoded wrongly on its way (`Â£51.77`) the sign is still found. Raises ValueError for text that isn't a
    price.
    """
    amounts = _AMOUNT.findall(text)
    code = _CODE.search(text)
    currency = code[0] if code else next((code for sign, code in CURRENCIES.items() if sign in text), None)
    if len(amounts) != 1 or currency is None:
        raise ValueError(f"no price: {text.strip()[:100]!r}")
    decimals = _DECIMALS.search(amounts[0])
    whole = amounts[0][: decimals.start()] if decimals else amounts[0]
    sign = "-" if text.lstrip().startswith(("-", "−")) else ""
    digits = re.sub(r"\D", "", whole)
    return Money(exact(f"{sign}{digits}.{decimals[1]}" if decimals else f"{sign}{digits}"), currency)
