"""Plan: the services of a flows file as any engine has to run them, with all that was found out about them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from millrace.render.modules import modules_of, packages_of
from millrace.render.values import Produce, Share, Values
from millrace_consumer.sinks import SINKS
from millrace_consumer.sinks.base import Sink
from millrace_consumer.sinks.files import FileSink
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.document import Document, read_document
from millrace_pipeline.flows.flow import Flow, load
from millrace_pipeline.flows.problem import Steps, all_of, config_error
from millrace_pipeline.objectstore import is_url
from millrace_producer.sources import SOURCES
from millrace_producer.sources.base import Source

Engine = Literal["compose", "swarm", "kubernetes"]

DATA = PurePosixPath("/data")
"""Where the image has a folder that its user may write to."""

PARTS = {"producer": ("source",), "consumer": ("sink", "transforms")}
"""What of a flow only its producer, or only its consumer, makes use of."""


@dataclass(frozen=True)
class Planned:
    """One service: a flow's producer or its consumer."""

    role: Literal["producer", "consumer"]
    flow: Flow
    share: Share
    replicas: int
    ends: bool
    """True for a producer whose source comes to an end: it is started again only if it failed."""
    exclusive: bool
    """True for a producer of which one leads and the others stand by."""
    environment: Mapping[str, str]
    secrets: tuple[str, ...]
    """Variables whose values are secret."""
    writes_files: bool

    @property
    def name(self) -> str:
        """`producer-quotes`."""
        return f"{self.role}-{slug(self.flow.name)}"

    @property
    def user(self) -> str:
        """The user of Redis, and the folder of `access` that holds its address."""
        return f"{self.role}-{self.flow.name}"

    @property
    def command(self) -> list[str]:
        """What runs in the container."""
        return ["millrace", "produce" if self.role == "producer" else "consume", self.flow.name]


@dataclass(frozen=True)
class Scaler:
    """The service that says how many consumers there should be: it looks, at all flows."""

    redis: str
    """Where it finds Redis, as a user who may only read."""
    environment: Mapping[str, str]
    secrets: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All that is to run, and what there is to say of it."""

    engine: Engine
    values: Values
    path: Path
    services: tuple[Planned, ...]
    files: Mapping[str, Path]
    """What goes to /app: names of the files there, and where they are here."""
    warnings: tuple[str, ...]
    folders: tuple[Path, ...] = field(default=())
    """What sources read on this machine, beside the flows file."""
    scaler: Scaler | None = None

    @property
    def writes_files(self) -> bool:
        """True where a sink writes to the volume `data`."""
        return any(service.writes_files for service in self.services)


def slug(name: str) -> str:
    """Return a flow's name as one of a host: small letters, digits and -."""
    return name.replace("_", "-").strip("-")


def short(*contents: bytes) -> str:
    """Return what tells one content from another in a name: so what changes has another name, and rolls."""
    return hashlib.sha256(b"\0".join(contents)).hexdigest()[:10]


def plan(path: Path, values: Values, document: Document, engine: Engine) -> Plan:
    """Return the services of a flows file. Raises ConfigError with all that keeps them from running there."""
    environment = {"DATA": str(DATA), **values.env, **_secrets(values)}
    flows = load(path, environment)
    if unknown := sorted(values.flows.keys() - flows.keys()):
        message = f"there is no such flow: expected {', '.join(flows)}"
        raise config_error(document.file, [document.problem(("flows", unknown[0]), message, at_key=True)])
    names: dict[str, str] = {}
    for name in flows:
        if names.setdefault(slug(name), name) != name:
            raise flows[name].error(f"has the same name as {names[slug(name)]} where _ can't be: call it otherwise")
        if len(f"{values.name}-consumer-{slug(name)}") > 52:
            raise flows[name].error("is too long a name for a service there: with the stack's, at most 40 characters")
    services: list[Planned] = []
    told = _Told()
    errors: list[ConfigError] = []
    written = read_document(path, environment)
    for flow in flows.values():
        try:
            found = list(_services(flow, values, engine, written, told))
        except ConfigError as error:
            errors.append(error)
        else:
            services += found
    if errors:
        raise all_of(errors)
    files = {"flows.yaml": path, **{file.name: file for file in modules_of(flows.values(), path.parent)}}
    told.warnings += [
        f"{package.name}/ is a package, which doesn't go with flows.yaml: the image has to hold it"
        for package in packages_of(flows.values(), path.parent)
    ]
    scaler = _scaler(values, engine, written)
    return Plan(engine, values, path, tuple(services), files, tuple(told.warnings), tuple(told.folders), scaler)


@dataclass
class _Told:
    """What is found out on the way."""

    warnings: list[str] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def warn(self, document: Document, steps: Steps, message: str) -> None:
        self.warnings.append(str(config_error(document.file, [document.problem(steps, message)])))


def _services(flow: Flow, values: Values, engine: Engine, document: Document, told: _Told) -> Iterator[Planned]:
    source = flow.source.build(SOURCES, Source)
    if not source.pushed_by_others:
        yield _producer(flow, source, values, engine, document, told)
    share = values.share("consumer", flow.name)
    many = engine == "swarm" and not values.data.shared and not share.nodes
    several = len(flow.sink.each) > 1
    written = False
    for index, part in enumerate(flow.sink.each):
        steps: Steps = ("flows", flow.name, "sink", *([index] if several else []), "path")
        written |= _writes_files(part.build(SINKS, Sink), document, steps, engine, told, many=many)
    replicas = (1 if engine == "compose" else 2) if share.replicas is None else share.replicas
    yield _planned("consumer", flow, share, replicas, values, document, writes_files=written)


def _producer(flow: Flow, source: Source, values: Values, engine: Engine, document: Document, told: _Told) -> Planned:
    share = values.share("producer", flow.name)
    assert isinstance(share, Produce)
    ends = source.ends if share.ends is None else share.ends
    if flow.source.type == "stdin":
        raise flow.source.error("nobody writes to the standard input of a service: expected another source")
    stands_by = source.exclusive and not ends and engine != "compose"
    replicas = (2 if stands_by else 1) if share.replicas is None else share.replicas
    if share.replicas is None and source.read_together:
        replicas = flow.producers
    if ends and replicas > 1 and not source.read_together:
        raise flow.source.error(
            f"comes to an end, and then one of {replicas} producers that stood by would read all of it again: "
            f"expected flows.{flow.name}.producer.replicas: 1 in the values"
        )
    if local := _local(source):
        top = Path(re.split(r"[*?\[]", local)[0])
        if engine == "compose" and top.parts and not top.is_absolute() and ".." not in top.parts:
            told.folders.append(Path(top.parts[0]))
        else:
            where = ("flows", flow.name, "source", "path")
            told.warn(document, where, "is read in its container: the image, or a volume of yours, has to hold it")
    return _planned("producer", flow, share, replicas, values, document, ends=ends, exclusive=source.exclusive)


def _planned(
    role: Literal["producer", "consumer"],
    flow: Flow,
    share: Share,
    replicas: int,
    values: Values,
    document: Document,
    *,
    ends: bool = False,
    exclusive: bool = False,
    writes_files: bool = False,
) -> Planned:
    environment, secrets = _variables(role, flow.name, values, document)
    return Planned(role, flow, share, replicas, ends, exclusive, environment, secrets, writes_files)


def _scaler(values: Values, engine: Engine, document: Document) -> Scaler | None:
    """Return the scaler, where one is wanted. Raises ConfigError where it couldn't be reached, or reach Redis."""
    wanted = values.autoscale
    if wanted is None or wanted.scaler is not None:
        return None
    if engine == "kubernetes" and values.namespace is None:
        raise ConfigError(
            "autoscale: KEDA reaches the scaler by its namespace: expected `namespace: …` in the values, or "
            "`autoscale: {scaler: host:port}`"
        )
    host = f"{values.name}-redis" if engine == "kubernetes" else "redis"
    redis = wanted.redis or (f"redis://reader@{host}:6379/0" if values.redis.bundled else "")
    if not redis and engine != "compose":
        raise ConfigError("autoscale.redis: expected where the scaler finds your Redis: redis://reader@host:6379/0")
    return Scaler(redis, *_variables("scaler", "", values, document))


def _variables(role: str, flow: str, values: Values, document: Document) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables that a service gets, and the names of those that are secret."""
    elsewhere = document.variables(()).keys() - _needed(role, flow, document)
    plain = {name: value for name, value in values.env.items() if name not in elsewhere}
    return plain, tuple(name for name in values.secrets if name not in elsewhere)


def _needed(role: str, flow: str, document: Document) -> set[str]:
    """The variables of the file that a service reads: its flow's own part, and what all flows say of their lists."""
    declared = document.value["flows"]
    apart = {part for parts in PARTS.values() for part in parts}
    steps = [("flows", name, key) for name in declared for key in declared[name] if key not in apart]
    steps += [("flows", flow, part) for part in PARTS.get(role, ())]
    return {name for place in (("project",), *steps) for name in document.variables(place)}


def _local(part: object) -> str | None:
    """The path on disk that a source or sink is at, if it is at one."""
    path = getattr(part, "path", None)
    return str(path) if path is not None and not is_url(str(path)) else None


def _writes_files(sink: Sink, document: Document, steps: Steps, engine: Engine, told: _Told, *, many: bool) -> bool:
    """Return True where a sink writes to the volume `data`; `many` where that is another volume on each node.

    Raises ConfigError where it can't write.
    """
    local = _local(sink)
    if local is None:
        return False
    if DATA not in PurePosixPath(local).parents:
        message = (
            f"only {DATA} can be written in a container: expected such as ${{DATA:-data}}/{PurePosixPath(local).name}"
        )
        raise config_error(document.file, [document.problem(steps, message)])
    mend = (
        "an object store or a database has no such trouble; or mount one volume everywhere (`data: {shared: true, "
        f"options: …}}` in the values), or keep its consumers on one node (`flows.{steps[1]}.consumer.nodes`)"
    )
    if many and not isinstance(sink, FileSink):
        message = f"would be another database on each node of the swarm: {mend}"
        raise config_error(document.file, [document.problem(steps, message)])
    if many:
        told.warn(
            document, steps, f"each node keeps what its own consumers write, and some files may be on two: {mend}"
        )
    if engine == "kubernetes":
        told.warn(
            document,
            steps,
            "is on a volume that several pods mount: its storage class has to offer ReadWriteMany "
            "(`data.storage_class` in the values); an object store or a database needs none",
        )
    return True


def _secrets(values: Values) -> dict[str, str]:
    return {name: read_secret(name, file) for name, file in values.secrets.items()}


def read_secret(name: str, file: Path) -> str:
    """Return what a secret's file holds. Raises ConfigError without it."""
    try:
        return file.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"secrets.{name}: can't read {file}: {reason}") from None
