"""Fitting: whether a record is what a model says, and if not, why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Literal

import msgspec
from pydantic import BaseModel, ValidationError

from millrace_pipeline.modelreader import reader_of
from millrace_pipeline.process.repeats import repeats
from millrace_pipeline.surrogates import well_formed

REASON_LIMIT = 500
"""Characters of a reason: enough to find the cause, and never a whole record."""


def fitted(text: bytes, model: type[BaseModel], *, extra: Literal["forbid"] | None = None) -> BaseModel | str:
    """The JSON text as the model, or the reason why it isn't. `extra` says what to do with fields it doesn't have.

    Text in a model is Unicode: a lone surrogate in the JSON is U+FFFD in it.
    """
    try:
        found: BaseModel = reader_of(model).read(text, extra=extra)
        return found
    except ValidationError as error:
        if (mended := in_unicode(text)) is not text:
            return fitted(mended, model, extra=extra)
        return _misfits(error, model)[:REASON_LIMIT]
    except MemoryError:
        raise  # this machine's trouble, not the record's
    except Exception as error:
        return f"{type(error).__qualname__}: {error} ({place_of(error)})"[:REASON_LIMIT]


def in_unicode(text: bytes) -> bytes:
    """Return a JSON text with U+FFFD for each lone surrogate, said once and counted; itself where it has none."""
    mended = well_formed(text)
    if mended is not text:
        why = "it has half a character, which Unicode has no place for: U+FFFD stands for it here"
        repeats.warn("lone_surrogate_replaced", kind=why, reason=why)
    return mended


def all_fitted(texts: Sequence[bytes | msgspec.Raw], model: type[BaseModel]) -> list[BaseModel] | None:
    """All of the JSON texts as the model, several times as fast as one by one; None where one of them doesn't fit."""
    try:
        models = reader_of(model).read_all(b"[" + b",".join(texts) + b"]")
    except MemoryError:
        raise
    except Exception:  # ValidationError, or what a validator of the user's raised
        return None
    return models if len(models) == len(texts) else None  # a text with a comma of its own is not two records


def place_of(error: BaseException) -> str:
    """File and line of the innermost frame."""
    return _frames(error)[-1]


def frames_of(error: BaseException, count: int = 3) -> str:
    """File and line of the last frames, the innermost first."""
    return " < ".join(reversed(_frames(error)[-count:]))


def _frames(error: BaseException) -> list[str]:
    frame, found = error.__traceback__, []
    while frame is not None:
        found.append(f"{PurePath(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}")
        frame = frame.tb_next
    return found[1:] or found or ["no frame"]  # the first is our own call


def _misfits(error: ValidationError, model: type[BaseModel]) -> str:
    """Which fields don't fit and what they should be; never what they hold, since a reason is shown and logged."""
    misfits = error.errors(include_url=False, include_context=False, include_input=False)
    fields = (f"{'.'.join(map(str, misfit['loc'])) or 'record'}: {misfit['msg']}" for misfit in misfits)
    return f"does not fit {model.__name__}: {'; '.join(fields)}"
