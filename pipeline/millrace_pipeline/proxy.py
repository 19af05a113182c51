"""Proxy: the way by which requests leave. A flow says it; what only the environment says is not heeded."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import BaseModel, Field, field_validator

ENVIRONMENT = "environment"

NOBODY = {"proxy_url": "http://127.0.0.1:9", "proxy_excludes": "*"}
"""No proxy, as the Rust crate object_store has to be told: one that is left out for every host."""


class ProxyOption(BaseModel):
    """The option of whatever speaks HTTP, through whichever library."""

    proxy: str | None = Field(
        default=None,
        repr=False,
        description="The URL of a proxy to go by; or environment, for what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say. "
        "Default: none, whatever they say.",
    )

    @field_validator("proxy")
    @classmethod
    def _a_proxy(cls, proxy: str | None) -> str | None:
        return checked_proxy(proxy)


def checked_proxy(proxy: str | None) -> str | None:
    """Return it. Raises ValueError for what is neither a proxy's URL nor `environment`."""
    if proxy in (None, ENVIRONMENT):
        return proxy
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("expected the URL of a proxy, such as http://proxy.example.org:3128, or environment")
    return proxy


def of_an_object_store(proxy: str | None) -> dict[str, str]:
    """Return what an object store's client is told of the proxy."""
    if proxy == ENVIRONMENT:
        return {}
    return {"proxy_url": proxy} if proxy else NOBODY


def of_botocore(proxy: str | None) -> dict[str, str] | None:
    """Return what botocore's Config is told as `proxies`: None leaves it to the environment."""
    if proxy == ENVIRONMENT:
        return None
    return {"http": proxy, "https": proxy} if proxy else {}
