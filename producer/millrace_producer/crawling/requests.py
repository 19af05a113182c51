"""Scrapy's requests as JSON, and back: never as a pickle, and never cut to fit."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

import msgspec
from scrapy import Request, Spider
from scrapy.utils.misc import load_object

from millrace_pipeline.errors import MillraceError

MARK = "millrace_request"
"""The name in a request's meta of the number that its crawl knows it by."""

_OURS = frozenset({MARK, "download_latency"})
_AS_IT_IS = {"method": "GET", "encoding": "utf-8", "priority": 0, "dont_filter": False, "flags": [], "cookies": {}}
_PLAIN = (str, int, bool, type(None))


class RequestUnsayable(MillraceError):
    """A request holds what JSON can't say, or what can't go with it to another process."""


class CallbackGone(MillraceError):
    """The spider has no such method: it was renamed since the request was found, or its spider is another."""


class Errback:
    """What a claimed request has as its errback: it takes note of the failure, then does as the spider's own would."""

    def __init__(self, note: Callable[[Any], Any], original: Callable[[Any], Any] | None) -> None:
        self.note = note
        self.original = original

    def __call__(self, failure: Any) -> Any:
        return self.note(failure)


def to_json(request: Request, spider: Spider, fingerprint: bytes) -> bytes:
    """Return the request as JSON. Raises RequestUnsayable, which names the field."""
    if "cookiejar" in request.meta:
        raise RequestUnsayable(
            f"{request}: meta['cookiejar'] names a session that lives in one process. In a crawl that many spiders "
            "share give the cookies with the request (cookies=…), or crawl by yourself (crawl: own)"
        )
    errback = request.errback.original if isinstance(request.errback, Errback) else request.errback
    said: dict[str, Any] = {"url": request.url, "fingerprint": fingerprint.hex()}
    for field, function in (("callback", request.callback), ("errback", errback)):
        if function is not None:
            said[field] = _method(spider, function, f"{request}: {field}")
    if type(request) is not Request:
        said["class"] = f"{type(request).__module__}.{type(request).__qualname__}"
    for name in request.attributes:
        if name not in ("url", "callback", "errback", "headers", "body", "meta"):
            value = getattr(request, name)
            if name not in _AS_IT_IS or value != _AS_IT_IS[name]:
                said[name] = _sayable(value, f"{request}: {name}")
    if request.headers:
        said["headers"] = {
            name.decode("latin-1"): [value.decode("latin-1") for value in values]
            for name, values in request.headers.items()
        }
    if request.body:
        try:
            said["body"] = request.body.decode()
        except UnicodeDecodeError:
            said["body_base64"] = base64.b64encode(request.body).decode()
    meta = {name: value for name, value in request.meta.items() if name not in _OURS}
    if meta:
        said["meta"] = _sayable(meta, f"{request}: meta")
    if not said.get("cb_kwargs"):
        said.pop("cb_kwargs", None)
    try:
        return msgspec.json.encode(said)
    except (UnicodeEncodeError, OverflowError) as error:
        raise RequestUnsayable(f"{request}: {error}") from error


def from_json(text: bytes, spider: Spider) -> Request:
    """Return the request. Raises CallbackGone."""
    said = msgspec.json.decode(text)
    said.pop("fingerprint", None)
    kind = said.pop("class", None)
    made = load_object(kind) if kind else Request
    for field in ("callback", "errback"):
        if field in said:
            name = said[field]
            said[field] = getattr(spider, name, None)
            if not callable(said[field]):
                raise CallbackGone(
                    f"spider {spider.name!r} has no method {name!r} any more, the {field} of this request: bring it "
                    "back and replay the request"
                )
    if "headers" in said:
        said["headers"] = {name.encode("latin-1"): values for name, values in said["headers"].items()}
    if "body_base64" in said:
        said["body"] = base64.b64decode(said.pop("body_base64"))
    request: Request = made(**said)
    return request


def _method(spider: Spider, function: Callable[..., Any], where: str) -> str:
    name = getattr(function, "__name__", None)
    owner = getattr(function, "__self__", None)
    if owner is not spider or name is None or getattr(spider, name, None) != function:
        raise RequestUnsayable(f"{where} is {function!r}: JSON has only names, so it must be a method of the spider")
    return str(name)


def _sayable(value: Any, where: str) -> Any:
    """Return the value. Raises RequestUnsayable where JSON would make something else of it."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind is list:
        for at, inner in enumerate(value):
            _sayable(inner, f"{where}[{at}]")
        return value
    if kind is dict:
        for name, inner in value.items():
            if type(name) is not str:
                raise RequestUnsayable(f"{where} has the name {name!r}: JSON has only text as names")
            _sayable(inner, f"{where}[{name!r}]")
        return value
    if isinstance(value, str):
        return str.__str__(value)
    mends: dict[type, str] = {tuple: ": make it a list", set: ": make it a list", bytes: ": decode it to text"}
    mend = mends.get(kind, "")
    raise RequestUnsayable(f"{where} is {kind.__name__} {value!r:.100}, which JSON can't say{mend}")
