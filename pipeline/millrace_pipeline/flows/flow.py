"""Flow: one pipeline as `flows.yaml` declares it, loaded, interpolated and validated, with its place in every error."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    PlainValidator,
    PrivateAttr,
    field_validator,
    model_validator,
)

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.alerts import Alert, NotifyOptions
from millrace_pipeline.flows.component import Component, Several
from millrace_pipeline.flows.document import Document, read_document
from millrace_pipeline.flows.importpath import put_on_path
from millrace_pipeline.flows.misfits import misfits, shared_keys, taken_by_partitions
from millrace_pipeline.flows.options import (
    BatchOptions,
    DeadOptions,
    DedupeOptions,
    Options,
    PublishOptions,
    QueueOptions,
    TracesOptions,
)
from millrace_pipeline.flows.problem import Problem, Steps, all_of, config_error
from millrace_pipeline.flows.project import Part, Project
from millrace_pipeline.flows.reference import Reference, load_model, load_transform
from millrace_pipeline.flows.units import Duration
from millrace_pipeline.flows.validation import did_you_mean, foreign_error, validate
from millrace_pipeline.redis.slot import spread_keys

PROJECT = re.compile(r"[\w.-]{1,100}")
"""What the project of a flows file may be called."""

EXAMPLE = """\
  flows:
    quotes:
      source: {type: scrapy, spider: quotes}
      sink: {type: jsonl, path: data/quotes}"""


def _transform(value: Any) -> str | Component:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, Component) or _is_component(value):
        return Component.model_validate(value)
    raise ValueError("expected a function, as module:function, or such as {type: select, fields: [title]}")


class Flow(Options):
    """One named pipeline: source → queue → transforms → sink."""

    name: str = Field(exclude=True)
    source: Component
    sink: Component
    queue: QueueOptions
    publish: PublishOptions = PublishOptions()
    dedupe: DedupeOptions | None = None
    transforms: list[Annotated[str | Component, PlainValidator(_transform)]] = Field(
        default_factory=list,
        description="What records go through in turn: functions, as module:function, and built-in ones, as "
        "{type: select, fields: [title, user]}.",
    )
    model: str | None = Field(None, description="A pydantic model, as module:Class, that each record must fit.")
    contract: Literal["evolve", "freeze", "quarantine"] | None = Field(
        None,
        description="Holds what is published to the model: what doesn't fit is kept (evolve), becomes a dead letter "
        "(freeze) or is set aside on the variant list (quarantine).",
    )
    batch: BatchOptions = BatchOptions()
    dead: DeadOptions = DeadOptions()
    lease: Duration = Field(
        60.0, ge=0.1, description="How long a consumer may be silent before its batch is taken over."
    )
    alerts: list[Alert] = Field(
        default_factory=list,
        description="What to be told of, each such as {age: '>2m for 5m'}, {dead: '>0'} or {silent: 10m}.",
    )
    notify: NotifyOptions = NotifyOptions()
    traces: TracesOptions | None = None
    producers: int = Field(
        1, ge=1, le=1000, description="So many producers read a source that several can read together."
    )
    max_attempts: int = Field(3, ge=1, description="Deliveries of a batch before it is split, to find what kills.")

    _document: Document = PrivateAttr(default_factory=Document)
    _steps: Steps = PrivateAttr(default=())
    _whole: Flow | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _name_the_list_after_the_flow(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(queue := value.get("queue", {}), Mapping) and "key" not in queue:
            return {**value, "queue": {**queue, "key": f"millrace:{value.get('name')}"[:200]}}
        return value

    @field_validator("sink", mode="before")
    @classmethod
    def _sinks_in_a_list_are_one(cls, value: Any) -> Any:
        return Several.of(filter(_is_component, value)) if isinstance(value, list) else value

    @field_validator("alerts")
    @classmethod
    def _no_alert_twice(cls, alerts: list[Alert]) -> list[Alert]:
        rules = [alert.rule for alert in alerts]
        if twice := next((rule for rule in rules if rules.count(rule) > 1), None):
            raise ValueError(f"the alert `{twice}` is there twice")
        return alerts

    @property
    def project(self) -> Project:
        """Whose flow it is, as its file says: what a list of it is marked with."""
        document, steps = self._document, self._steps
        source, sink = (
            Part(part.type, document.written((*steps, name)) or repr(part.options))
            for name, part in (("source", self.source), ("sink", self.sink))
        )
        file = document.folder / Path(document.file).name if document.folder else None
        return Project.of(_project(document), self.name, source, sink, file)

    @property
    def lists(self) -> list[Flow]:
        """The flow, or the flows that are its partitions: `events.0`, `events.1` …, each with a list of its own."""
        if self.queue.partitions == 1:
            return [self]
        keys = spread_keys(self.queue.key, self.queue.partitions)
        queues = [self.queue.model_copy(update={"key": key, "partitions": 1, "by": None}) for key in keys]
        parts = [
            self.model_copy(update={"name": f"{self.name}.{index}", "queue": queue})
            for index, queue in enumerate(queues)
        ]
        for part in parts:
            part._whole = self
        return parts

    def in_partitions(self, count: int) -> Flow:
        """Return the flow with so many partitions, 1 for none, whatever its file says."""
        return self.model_copy(update={"queue": self.queue.model_copy(update={"partitions": count})})

    @property
    def whole(self) -> Flow | None:
        """The flow that this is a partition of, if it is one."""
        return self._whole

    def error(self, message: str, *steps: str | int) -> ConfigError:
        """Return what somebody else says of what `steps` lead to in this flow, with its place in the file."""
        return foreign_error(message, self._document, (*self._steps, *steps))

    @property
    def transform_names(self) -> list[str]:
        """What the transforms are called, for people: `drop_canaries`, `select`."""
        return [path.rpartition(":")[2] for path in self.transform_paths]

    @property
    def transform_paths(self) -> list[str]:
        """The same in full: `flows:drop_canaries`, `select`."""
        return [one.type if isinstance(one, Component) else one for one in self.transforms]

    def load_transforms(
        self, table: Mapping[str, str] = MappingProxyType({}), base: Callable[..., Any] = BaseModel
    ) -> list[Callable[[Any], Any]]:
        """The transforms, each to be called. `table` and `base` are as in `Component.build`.

        Raises ConfigError with the place of each that can't be had.
        """
        references = {reference.steps[-1]: reference for reference in self._references()}
        found: list[Callable[[Any], Any]] = []
        errors = []
        for index, transform in enumerate(self.transforms):
            try:
                if isinstance(transform, Component):
                    found.append(transform.build(table, base))
                else:
                    found.append(load_transform(references[index]))
            except ConfigError as error:
                errors.append(error)
        if errors:
            raise all_of(errors)
        return found

    def load_model(self) -> type[BaseModel] | None:
        """The model's class, if the flow has one. Raises ConfigError with its place if it can't be had."""
        return next((load_model(found) for found in self._references() if found.steps[-1] == "model"), None)

    def _references(self) -> list[Reference]:
        return _references({"transforms": self.transforms, "model": self.model}, self._document, self._steps)


def _references(value: Mapping[str, Any], document: Document, steps: Steps) -> list[Reference]:
    named = value.get("transforms")
    paths: list[tuple[Any, Steps]] = [
        (path, (*steps, "transforms", index)) for index, path in enumerate(named if isinstance(named, list) else [])
    ]
    paths.append((value.get("model"), (*steps, "model")))
    return [Reference(path, document, where) for path, where in paths if isinstance(path, str)]


def _project(document: Document) -> str | None:
    """The name that the file gives its project, if it does."""
    value = document.value.get("project") if isinstance(document.value, dict) else None
    text = document.typed(("project",)) or value
    return text if isinstance(text, str) else None


class Flows(Mapping[str, Flow]):
    """The flows of one file, by name, in its order."""

    def __init__(self, path: Path, flows: Mapping[str, Flow]) -> None:
        self.path = path
        self._flows = dict(flows)

    def __getitem__(self, name: str) -> Flow:
        return self._flows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._flows)

    def __len__(self) -> int:
        return len(self._flows)


def load(
    path: Path,
    environ: Mapping[str, str] = os.environ,
    *,
    examine: Callable[[Component | Reference | Flow], object] | None = None,
) -> Flows:
    """Return the flows of a file.

    Its folder is put on the import path, so that `flows:my_function` is found in the `flows.py` beside it.

    Raises ConfigError with every mistake in the file, a line each: file, line, column, field, what was expected. The
    options of sources and sinks are left to `Component.build`, and so are variables in them that aren't set: a producer
    need not know a sink's password. `examine` is called with every source, sink, transform and model, in unsound flows
    too, and with every flow that is sound by itself; what it raises as ConfigError is said with the rest.
    """
    document = read_document(path, environ)
    if document.folder:
        put_on_path(document.folder)
    found = [problem for problem in document.problems if not (problem.unset and _can_wait(problem.steps))]
    errors: list[ConfigError] = []
    flows: dict[str, Flow] = {}
    declared = _declared(document, found)
    for name, value in declared.items():
        found += misfits(name, value, document)
        try:
            if isinstance(value, dict):
                flows[name] = _flow(name, value, document)
        except ConfigError as error:
            errors.append(error)
    keys = {name: flow.queue.key for name, flow in flows.items()}
    found += shared_keys(keys, document)
    partitions = {part.name: part.queue.key for flow in flows.values() for part in flow.lists if part.whole}
    found += taken_by_partitions(keys, partitions, document)
    errors = [config_error(document.file, found), *errors] if found else errors
    if examine:
        unsound = {problem.steps[1:2] for problem in found}
        sound = [flow for name, flow in flows.items() if (name,) not in unsound]
        for part in (*_parts(declared, document), *sound):
            try:
                examine(part)
            except ConfigError as error:
                errors.append(error)
    if errors:
        raise all_of(errors)
    return Flows(path, flows)


def _can_wait(steps: Steps) -> bool:
    """Whether a variable there is asked for by what is made of it: an option, or an anchor's value, if it is used."""
    option = next((step for step in steps[3:] if isinstance(step, str)), "type")
    of_part = steps[2:3] in (("source",), ("sink",), ("transforms",)) and option not in ("type", "required")
    return of_part or str(steps[0]).startswith("x-")


def _declared(document: Document, found: list[Problem]) -> dict[str, Any]:
    """What stands beneath `flows:`. Keys that begin with x- are the user's own, for anchors."""
    value = document.value
    if value is None:
        raise ConfigError(f"{document.file}: is empty: expected `flows:` with a flow beneath it, such as\n{EXAMPLE}")
    steps: Steps = ("flows",) if isinstance(value, dict) and "flows" in value else ()
    flows = value.get("flows") if isinstance(value, dict) else None
    for name in value if isinstance(value, dict) else ():
        if name not in ("flows", "project") and not name.startswith("x-"):
            mend = did_you_mean(name, ["flows", "project"]) or "expected `flows`, or x-… for what is your own"
            found.append(document.problem((name,), f"unknown key: {mend}", at_key=True))
    if isinstance(value, dict) and "project" in value and not PROJECT.fullmatch(_project(document) or ""):
        shown = document.shown(("project",), value["project"])
        found.append(document.problem(("project",), f"expected a name of 1 to 100 letters, digits, . _ -, not {shown}"))
    if not isinstance(flows, dict) or not flows:
        found.append(document.problem(steps, f"expected `flows:` with a flow beneath it, such as\n{EXAMPLE}"))
        return {}
    return flows


def _is_component(value: Any) -> bool:
    well = isinstance(value, dict) and isinstance(value.get("type"), str)
    return well and isinstance(value.get("required", True), bool)


def _flow(name: str, value: Mapping[str, Any], document: Document) -> Flow:
    steps: Steps = ("flows", name)
    flow = validate(Flow, {**value, "name": name}, document, steps)
    parts: dict[str, Any] = {part: getattr(flow, part).placed(document, (*steps, part)) for part in ("source", "sink")}
    parts["transforms"] = [
        one.placed(document, (*steps, "transforms", index)) if isinstance(one, Component) else one
        for index, one in enumerate(flow.transforms)
    ]
    placed = flow.model_copy(update=parts)
    placed._document, placed._steps = document, steps
    return placed


def _parts(declared: Mapping[str, Any], document: Document) -> Iterator[Component | Reference]:
    """Every source, sink, transform and model that is whole enough to be looked at by itself."""
    for name, value in declared.items():
        steps: Steps = ("flows", name)
        for part in ("source", "sink") if isinstance(value, dict) else ():
            found = value.get(part)
            if part == "sink" and isinstance(found, list):
                for index, one in enumerate(found):
                    if _is_component(one):
                        yield Several.of([one]).parts[0].placed(document, (*steps, part, index))
            elif isinstance(found, dict) and isinstance(found.get("type"), str):
                yield Component.model_validate(found).placed(document, (*steps, part))
        named = value.get("transforms") if isinstance(value, dict) else None
        for index, one in enumerate(named if isinstance(named, list) else []):
            if _is_component(one):
                yield Component.model_validate(one).placed(document, (*steps, "transforms", index))
        yield from _references(value, document, steps) if isinstance(value, dict) else ()
