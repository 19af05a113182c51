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
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    field_validator,
    model_validator,
)

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.component import Component, Several
from millrace_pipeline.flows.document import Document, read_document
from millrace_pipeline.flows.importpath import put_on_path
from millrace_pipeline.flows.problem import Problem, Steps, all_of, config_error
from millrace_pipeline.flows.project import Part, Project
from millrace_pipeline.flows.reference import Reference, load_model, load_transform
from millrace_pipeline.flows.units import Duration, Share, Size
from millrace_pipeline.flows.validation import did_you_mean, foreign_error, validate

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
"""What a flow may be called: it stands in file names, labels and key names."""

PROJECT = re.compile(r"[\w.-]{1,100}")
"""What the project of a flows file may be called."""

EXAMPLE = """\
  flows:
    quotes:
      source: {type: scrapy, spider: quotes}
      sink: {type: jsonl, path: data/quotes}"""


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class QueueOptions(_Options):
    """The Redis list of the flow."""

    key: str = Field(
        min_length=1,
        max_length=200,
        description="The list's name, as in `redis-cli LLEN <key>`. Default: `millrace:<flow>`.",
    )
    max_ready: int = Field(
        1_000_000, ge=1, description="Producers hold back while so many records are ready or in flight."
    )
    replicas: int = Field(
        0, ge=0, le=100, description="So many replicas of Redis must hold what is published or taken before it counts."
    )

    fsync: Literal["off", "acknowledge", "write"] = Field(
        "acknowledge",
        description="What waits until Redis says that it is on its disk: nothing (off); telling a source that forgets "
        "what it gave, such as sqs, that it is published (acknowledge); that, and writing a batch to the sink (write).",
    )

    @field_validator("key")
    @classmethod
    def _key_is_one_word(cls, key: str) -> str:
        if not key.isprintable() or " " in key:
            raise ValueError("expected a name without spaces and control characters")
        if not re.fullmatch(r"[^{}]*(\{[^{}]+\}[^{}]*)?", key):
            raise ValueError("expected a name without braces, or with one Redis hash tag such as {name}")
        return key


class PublishOptions(_Options):
    """How a producer batches what its source yields: at so many records, or after the linger, whichever comes first."""

    records: int = Field(500, ge=1, le=100_000, description="At most so many records at once.")
    linger: Duration = Field(0.1, description="How long the oldest may wait for more.")


class DedupeOptions(_Options):
    """Leaves out records whose key was published before."""

    window: Annotated[Duration, Field(gt=0)] = Field(description="For how long a key is remembered.")
    key: str | None = Field(
        None, min_length=1, description="JSON pointer (/meta/id) to the key in the data. Default: the record's own key."
    )

    @field_validator("key")
    @classmethod
    def _key_is_a_pointer(cls, key: str | None) -> str | None:
        if key and re.search(r"~(?![01])", key):
            raise ValueError("expected a JSON pointer such as /meta/id, in which ~ is written ~0")
        return key


class BatchOptions(_Options):
    """How a consumer batches what it takes: at so many records or bytes, or after the linger, whichever comes first."""

    records: int = Field(500, ge=1, le=1_000_000, description="At most so many records.")
    bytes: Size = Field(32 * 1024 * 1024, ge=1, description="About so many bytes of envelopes.")
    encoded: Annotated[Size, Field(ge=1)] | None = Field(
        None, description="About so many bytes as the sink writes them, compressed and all, learnt as it goes."
    )
    linger: Duration = Field(1.0, description="How long a batch that isn't full may wait for more.")


class DeadOptions(_Options):
    """How many dead letters are too many."""

    fail_above: Share | None = Field(
        None,
        description="A run of which a larger share of the records becomes dead letters ends with exit code 3: `1%`, or "
        "0 for none at all.",
    )


def _transform(value: Any) -> str | Component:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, Component) or _is_component(value):
        return Component.model_validate(value)
    raise ValueError("expected a function, as module:function, or such as {type: select, fields: [title]}")


class Flow(_Options):
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
    max_attempts: int = Field(3, ge=1, description="Deliveries of a batch before it is split, to find what kills.")

    _document: Document = PrivateAttr(default_factory=Document)
    _steps: Steps = PrivateAttr(default=())

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

    def error(self, message: str, *steps: str | int) -> ConfigError:
        """What somebody else says of what `steps` lead to in this flow, with its place in the file."""
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
        found += _misfits(name, value, document)
        try:
            if isinstance(value, dict):
                flows[name] = _flow(name, value, document)
        except ConfigError as error:
            errors.append(error)
    found += _shared_keys(flows, document)
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


def _misfits(name: str, value: Any, document: Document) -> Iterator[Problem]:
    """What is wrong with a flow as a whole, in words that the model doesn't have."""
    steps: Steps = ("flows", name)
    if not NAME.fullmatch(name):
        message = "expected a name of small letters, digits, - and _, 100 at most, that begins with no - or _"
        yield document.problem(steps, message, at_key=True)
    if not isinstance(value, dict):
        yield document.problem(steps, f"expected a source and a sink, not {document.shown(steps, value)}")
        return
    if "name" in value:
        yield document.problem((*steps, "name"), "unknown option: a flow's name is the key above it", at_key=True)
    if value.get("contract") is not None and value.get("model") is None:
        yield document.problem((*steps, "contract"), "holds records to a model: add `model: module:Class`")
    for part, example in (("source", "{type: scrapy, spider: quotes}"), ("sink", "{type: jsonl, path: data/quotes}")):
        where = (*steps, part)
        if part not in value:
            yield document.problem(where, f"is missing: expected one such as {example}")
        elif part == "sink" and isinstance(value[part], list):
            yield from _misfits_of_list(value[part], example, document, where)
        else:
            yield from _misfits_of_part(value[part], example, document, where)


def _misfits_of_part(value: Any, example: str, document: Document, where: Steps) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield document.problem(where, f"expected one such as {example}, not {document.shown(where, value)}")
    elif "type" not in value:
        yield document.problem((*where, "type"), f"is missing: expected one such as {example}")


def _misfits_of_list(values: list[Any], example: str, document: Document, where: Steps) -> Iterator[Problem]:
    """What is wrong with several sinks, beside what is wrong with each."""
    for index, value in enumerate(values):
        here = (*where, index)
        yield from _misfits_of_part(value, example, document, here)
        if isinstance(value, dict) and "type" in value and not isinstance(value["type"], str):
            shown = document.shown((*here, "type"), value["type"])
            yield document.problem((*here, "type"), f"expected text, not {shown}")
        if isinstance(value, dict) and not isinstance(value.get("required", True), bool):
            shown = document.shown((*here, "required"), value["required"])
            yield document.problem((*here, "required"), f"expected true or false, not {shown}")
        if value in values[:index]:
            yield document.problem(here, f"is the same as sink {values.index(value) + 1} of this list")
    if not any(isinstance(value, dict) and value.get("required", True) is True for value in values):
        yield document.problem(where, "expected at least one sink that is not `required: false`")


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


def _shared_keys(flows: Mapping[str, Flow], document: Document) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for name, flow in flows.items():
        owner = owners.setdefault(_stem(flow.queue.key), name)
        if owner != name:
            steps: Steps = ("flows", name, "queue", "key")
            shown = document.shown(steps, flow.queue.key)
            same = "is" if flow.queue.key == flows[owner].queue.key else "has the names beside it of"
            message = f"{shown} {same} the list of flow {owner} already: expected a list of its own"
            yield document.problem(steps, message)
    for name, flow in flows.items():
        for stem, owner in owners.items():
            if flow.queue.key.startswith(f"{stem}:"):
                message = f"is among the names that flow {owner} uses beside its list: expected another"
                yield document.problem(("flows", name, "queue", "key"), message)


def _stem(key: str) -> str:
    """What the names of the keys beside a list begin with, as pipeline/millrace_pipeline/queue/keys.py makes them."""
    return key if "{" in key else f"{{{key}}}"
