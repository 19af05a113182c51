"""What a row holds."""

from pydantic import BaseModel


class Quote(BaseModel):
    """A quote; `url` is the page that it stands on."""

    text: str
    author: str
    tags: list[str]
    url: str
