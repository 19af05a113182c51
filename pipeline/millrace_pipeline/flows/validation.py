"""A value of a file as a pydantic model, with every mistake at its place and in the file's words.

What pydantic says is put as what was expected. A value that came out of the environment is never repeated: it may be a
password.
"""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.document import Document
from millrace_pipeline.flows.problem import Problem, Steps, config_error
from millrace_pipeline.flows.units import duration_text, is_duration

M = TypeVar("M", bound=BaseModel)

_EXPECTED = {
    "string_type": "text",
    "string_sub_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping of options",
    "model_attributes_type": "a mapping of options",
    "path_type": "a path",
    "none_required": "null",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
}

_TELLING = frozenset({"value_error", "assertion_error", "union_tag_invalid"})
"""Kinds of mistakes whose message a validator made up itself, maybe of the value; and one that quotes it."""


def validate(model: type[M], value: Any, document: Document, steps: Steps) -> M:
    """The value as the model. Raises ConfigError with every mistake in it, each at its place in the file."""
    while True:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            details = error.errors(include_url=False)
        except ConfigError as error:  # says what is wrong and how to mend it: a library that isn't installed
            raise foreign_error(str(error), document, steps) from None
        except Exception as error:  # of a validator or constructor of somebody's own
            raise foreign_error(f"can't be made: {told(error)}", document, steps) from None
        retyped = _text_where_text_is_wanted(value, details, document, steps)
        if retyped is value:
            raise config_error(document.file, _problems(model, value, details, document, steps))
        value = retyped


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'path'?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def without_values(message: str, variables: Mapping[str, str]) -> str | None:
    """A message somebody else made, with `${NAME}` in place of a variable's value.

    None where it still tells four characters of such a value in a row: then it can't be shown.
    """
    for name, value in variables.items():
        if len(value) >= 4:
            message = message.replace(value, f"${{{name}}}")
    told = re.sub(r"\$\{\w+\}", "\0", message).casefold()
    for value in variables.values():
        secret = re.sub(r"^[a-z][a-z0-9+.-]*://", "", value.casefold())
        if len(secret) < 4 and f"'{secret}'" in told:
            return None
        if any(secret[start : start + 4] in told for start in range(len(secret) - 3)):
            return None
    return message


def foreign_error(message: str, document: Document, steps: Steps) -> ConfigError:
    """What somebody else says of this value, with its place in the file, and no value of the environment."""
    variables = document.variables(steps)
    shown = without_values(message, variables)
    if shown is None:
        names = ", ".join(f"${{{name}}}" for name in variables)
        shown = f"is not accepted (why is not shown: it would tell the value of {names})"
    return config_error(document.file, [document.problem(steps, shown)])


def told(error: BaseException) -> str:
    """The error in one line, with the line of code it came from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    shown = len(frames) > 1 and not isinstance(error, OSError)  # of which the standard library's line says nothing
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if shown else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def _problems(
    model: type[BaseModel], value: Any, details: Iterable[Any], document: Document, steps: Steps
) -> list[Problem]:
    said: dict[Steps, list[str]] = {}
    found = []
    for mistake in details:
        place, given = _place(value, mistake)
        where = (*steps, *place)
        kind = mistake["type"]
        if kind == "extra_forbidden":
            names = _options(model, place[:-1])
            mend = did_you_mean(str(place[-1]), names) or f"expected {', '.join(names) or 'none'}"
            found.append(document.problem(where, f"unknown option: {mend}", at_key=True))
        elif kind == "missing":
            found.append(document.problem(where, "is missing: expected a value, as there is no default"))
        elif kind in _TELLING:
            message = without_values(mistake["msg"], document.variables(steps))
            if message is None:
                message = f"{document.shown(where, given)} is not accepted (why is not shown: it would tell the value)"
            found.append(document.problem(where, re.sub(r"^(Value error|Assertion failed), ", "", message)))
        elif "[key]" in mistake["loc"]:
            found.append(document.problem(where, f"expected {_expected(mistake, given)} as the key", at_key=True))
        else:
            said.setdefault(place, []).append(_expected(mistake, given))
    placed = [*said, *(problem.steps[len(steps) :] for problem in found)]
    for place, expected in said.items():
        if any(len(other) > len(place) and other[: len(place)] == place for other in placed):
            continue  # of a union: another member of it fits but for something inside
        given = _at(value, place)
        message = f"expected {_alternatives(expected)}, not {document.shown((*steps, *place), given)}"
        found.append(document.problem((*steps, *place), message))
    return found


def _alternatives(expected: list[str]) -> str:
    *others, last = dict.fromkeys(expected)
    return f"{', '.join(others)} or {last}" if others else last


def _expected(mistake: Any, given: Any) -> str:
    """What pydantic wanted instead of `given`, in the file's words."""
    template = _EXPECTED.get(mistake["type"])
    if template is None:
        return re.sub(r"^(Input should be |expected )", "", str(mistake["msg"]))
    text = template.format(**{name: _limit(limit, given) for name, limit in mistake.get("ctx", {}).items()})
    return text.replace(" 1 characters", " 1 character")


def _limit(limit: Any, given: Any) -> Any:
    """A limit as the value itself was written: 86400 is `1d` where that was `2d`."""
    if isinstance(limit, int | float) and isinstance(given, str) and is_duration(given):
        return duration_text(limit)
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit


def _place(value: Any, mistake: Any) -> tuple[Steps, Any]:
    """The steps of a pydantic location that are in the value: it also names members of unions and validators."""
    steps: list[str | int] = []
    for step in mistake["loc"]:
        inside = isinstance(value, Mapping) and step in value
        if inside or (isinstance(value, list) and isinstance(step, int) and step < len(value)):
            steps.append(step)
            value = value[step]
    if mistake["type"] == "missing":
        steps.append(mistake["loc"][-1])
    return tuple(steps), value


def _at(value: Any, steps: Steps) -> Any:
    for step in steps:
        value = value[step]
    return value


def _options(model: type[BaseModel], steps: Steps) -> list[str]:
    """The names that may stand at a place of a model's value."""
    for step in steps:
        if isinstance(step, int):
            continue
        field = next((f for name, f in model.model_fields.items() if step in (name, f.alias)), None)
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items() if not field.exclude]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The first model in `Model`, `Model | None`, `list[Model]` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _text_where_text_is_wanted(value: Any, details: Iterable[Any], document: Document, steps: Steps) -> Any:
    """`spider: 007` is text there: a plain number, true or false is given back as it was typed."""
    for mistake in details:
        if mistake["type"] in ("string_type", "path_type"):
            place, given = _place(value, mistake)
            typed = document.typed((*steps, *place))
            if typed is not None and not isinstance(given, str):
                value = _with(value, place, typed)
    return value


def _with(value: Any, steps: Steps, new: Any) -> Any:
    if not steps:
        return new
    changed: Any = dict(value) if isinstance(value, Mapping) else list(value)
    changed[steps[0]] = _with(value[steps[0]], steps[1:], new)
    return changed
