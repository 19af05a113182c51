"""What a row of these files holds."""

from datetime import date
from decimal import Decimal

from pydantic import BaseModel


class Sale(BaseModel):
    """One line of a receipt."""

    receipt: str
    day: date
    article: str
    pieces: int
    price: Decimal
