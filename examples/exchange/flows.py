"""A row of a trade."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel


class Trade(BaseModel):
    """A trade; `trade_id` counts the trades of its market."""

    symbol: str
    trade_id: int
    timestamp: datetime
    side: Literal["buy", "sell"]
    price: Decimal
    qty: Decimal
    ord_type: str
