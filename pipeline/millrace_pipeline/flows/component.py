"""Component: a source or a sink as `flows.yaml` declares it, a type and its options, and the way to the class."""

from __future__ import annotations

import builtins
import importlib.metadata
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.document import Document
from millrace_pipeline.flows.problem import Steps, all_of, config_error
from millrace_pipeline.flows.reference import Reference
from millrace_pipeline.flows.validation import did_you_mean, foreign_error, validate

B = TypeVar("B", bound=BaseModel)


class Component(BaseModel):
    """`{type: jsonl, path: data}`. The options are the class's own affair; `build` makes the object.

    `type` is a name that Millrace knows, a dotted path (`mypackage.sinks:MySink`), or the name of an entry point in
    the group `millrace.sources` or `millrace.sinks`.
    """

    model_config = ConfigDict(frozen=True)

    type: str
    options: dict[str, Any] = Field(repr=False)
    required: bool = True
    """False for one of several sinks whose failures hold nothing back."""
    _document: Document = PrivateAttr(default_factory=Document)
    _steps: Steps = PrivateAttr(default=())

    @model_validator(mode="before")
    @classmethod
    def _part_type_and_options(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and not {"type", "options"} <= set(value):
            options = {name: option for name, option in value.items() if name != "type"}
            return {**({"type": value["type"]} if "type" in value else {}), "options": options}
        return value

    def placed(self, document: Document, steps: Steps) -> Component:
        """The same component, knowing where it stands."""
        placed = self.model_copy()
        placed._document, placed._steps = document, steps
        return placed

    @property
    def part(self) -> str:
        """`source`, `sink` or `transforms`: what it is in its flow."""
        return next((step for step in reversed(self._steps) if isinstance(step, str)), "")

    @property
    def flow(self) -> str:
        """The name of the flow that it stands in; none where it was made in Python."""
        return str(self._steps[1]) if len(self._steps) > 1 else ""

    @property
    def each(self) -> Sequence[Component]:
        """The components that it stands for: itself, where it isn't `Several`."""
        return (self,)

    def build(self, table: Mapping[str, str], base: Callable[..., B]) -> B:
        """The source or sink itself. `table` maps the known types to dotted paths, `base` is the class of them all.

        Raises ConfigError, with the place in the file, for an unknown type, a class that is no `base`, options that
        it doesn't take, and variables in them that aren't set.
        """
        unset = self._document.unset(self._steps)
        errors = [config_error(self._document.file, unset)] if unset else []
        try:
            built = validate(self.find(table, base), self.options, self._document, self._steps)
        except ConfigError as error:
            errors.append(error)
        if errors:
            raise all_of(errors)
        return built

    def find(self, table: Mapping[str, str], base: Callable[..., B]) -> builtins.type[B]:
        """The class that `type` names. Raises ConfigError."""
        # An abstract class is no `type[B]` to mypy, though it is one to issubclass.
        base_class = cast("builtins.type[B]", base)
        kind = base_class.__name__.lower()
        known: Mapping[str, str] = table
        if self.type not in table:
            known = {**{found.name: found.value for found in entry_points(kind)}, **table}
        path = known.get(self.type) or (self.type if ":" in self.type else None)
        shown = self._document.shown((*self._steps, "type"), self.type)
        if path is None:
            near = "" if self._document.variables((*self._steps, "type")) else did_you_mean(self.type, known)
            types = f"expected {', '.join(sorted(known))}, or the path of a class, such as mine:My{base_class.__name__}"
            raise self._error(f"unknown {kind} type, {shown}: {near + ' ' if near else ''}{types}", "type")
        found = Reference(path, self._document, (*self._steps, "type")).load()
        if not (isinstance(found, builtins.type) and issubclass(found, base_class)):
            wanted = f"expected a class derived from {base_class.__module__}.{base_class.__name__}"
            raise self._error(f"{shown} is no {kind}: {wanted}", "type")
        if inspect.isabstract(found):
            lacking = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
            raise self._error(f"{shown} is abstract: it must define {lacking}", "type")
        return found

    def error(self, message: str, *steps: str | int) -> ConfigError:
        """Return what somebody else says of this component, or of what `steps` lead to in it, as an error.

        It has the place in the file, and no value of the environment.
        """
        return foreign_error(message, self._document, (*self._steps, *steps))

    def _error(self, message: str, *steps: str) -> ConfigError:
        return config_error(self._document.file, [self._document.problem((*self._steps, *steps), message)])


class Several(Component):
    """A list of sinks, as one. Its `type` is a name for people, and nothing to be built: `each` are."""

    parts: tuple[Component, ...] = ()

    @classmethod
    def of(cls, values: Iterable[Mapping[str, Any]]) -> Several:
        """From the values of a list in the file, each a mapping with a type and perhaps `required`."""
        parts = tuple(
            Component(
                type=value["type"],
                options={name: option for name, option in value.items() if name not in ("type", "required")},
                required=value.get("required", True),
            )
            for value in values
        )
        return cls(type=" + ".join(part.type for part in parts), options={}, required=True, parts=parts)

    def placed(self, document: Document, steps: Steps) -> Several:
        """The same, and each of its parts, knowing where they stand."""
        parts = tuple(part.placed(document, (*steps, index)) for index, part in enumerate(self.parts))
        placed = self.model_copy(update={"parts": parts})
        placed._document, placed._steps = document, steps
        return placed

    @property
    def each(self) -> Sequence[Component]:
        """The sinks, in the file's order."""
        return self.parts


def entry_points(kind: str) -> Iterable[importlib.metadata.EntryPoint]:
    """Return the types of a `kind` (`source`, `sink`) that packages add. Reads every package's metadata: some 10 ms."""
    return importlib.metadata.entry_points(group=f"millrace.{kind}s")
