"""What all sinks that write files have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, PrivateAttr, field_validator

from consumer.batch import Batch
from consumer.sinks.base import RecordsRejected, Sink, SinkUnavailable
from consumer.sinks.durable import Directories, Staging
from consumer.sinks.partition import NAME_LIMIT, component, directory_names, field_name, moment, partition_text
from pipeline.envelope import resolve
from pipeline.errors import ConfigError, RecordError
from pipeline.killpoints import killpoint

EVENT_TIME = ("date", "hour")
"""The two partitions that are not a field of the record but the day and the hour (UTC) in which it happened."""


class FileSink(Sink):
    """One file a batch and partition, named by the batch's id: the same batch again writes the same file again."""

    path: Annotated[Path, Field(description="The directory to write to; made where there is none.")]
    partition: Annotated[
        list[str],
        Field(
            default_factory=list,
            description="Directories below it, outermost first: `date`, `hour` (UTC, of the event), the name of a "
            "field, or a JSON pointer such as /meta/domain.",
        ),
    ]
    time: Annotated[
        str | None,
        Field(
            description="Field or JSON pointer of the event's time for `date` and `hour`: RFC 3339 text, or seconds or "
            "milliseconds since 1970. Default: the envelope's time."
        ),
    ] = None

    kind: ClassVar[str]
    """What the files are, as the end of their names says it."""

    _directories: Directories = PrivateAttr(default_factory=Directories)

    @field_validator("partition")
    @classmethod
    def _partitions_are_names(cls, partition: list[str]) -> list[str]:
        names = [field_name(pointer) for pointer in partition]
        if "" in names:
            raise ValueError("a partition without a name")
        if len(set(map(str.casefold, names))) < len(names):
            raise ValueError(f"two partitions of one name: {', '.join(names)}")
        for name in names:
            if len(component(name, None).split("=")[0].encode()) > NAME_LIMIT:
                raise ValueError(f"a partition's name is longer than {NAME_LIMIT} bytes: {name[:NAME_LIMIT]}…")
        return partition

    @property
    def suffix(self) -> str:
        """The end of the files' names."""
        return f".{self.kind}"

    @abstractmethod
    def encode(self, batch: Batch) -> Iterable[bytes]:
        """The file of these records, in as many pieces as is convenient: the same records, the same bytes.

        Raises RecordsRejected by the index in the batch given.
        """

    def check(self, model: type[BaseModel] | None) -> None:  # noqa: ARG002 - sinks with columns look at it
        """Refuses a path that is something else than a directory."""
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"path: {self.path} is not a directory; name one that is, or that doesn't exist yet")

    def holds(self, batch_id: str) -> bool:
        """Whether a file of this batch has its name already, in any partition."""
        return any(self.path.rglob(f"{batch_id}{self.suffix}"))

    def write(self, batch: Batch) -> None:
        """Writes the batch's files, and gives them their names once all of them are on disk."""
        if not len(batch):
            return
        killpoint("sink.before_write")
        parts = self._parts(batch)
        rejected: dict[int, str] = {}
        try:
            with Staging(self._directories) as staging:
                for directory, indices in parts.items():
                    part = batch if len(parts) == 1 else batch.pick(indices)
                    try:
                        staging.add(self.path / directory / f"{batch.id}{self.suffix}", self.encode(part))
                    except RecordsRejected as rejection:
                        rejected |= {indices[i]: reason for i, reason in rejection.reasons.items()}
                if rejected:
                    raise RecordsRejected(dict(sorted(rejected.items())))
                staging.commit()
        except OSError as error:
            place = error.filename or self.path
            raise SinkUnavailable(f"can't write to {place}: {error.strerror or error}") from error

    def _parts(self, batch: Batch) -> dict[str, list[int]]:
        """Indices of the records by the directory they belong in."""
        if not self.partition:
            return {"": list(range(len(batch)))}
        groups: dict[tuple[str | None, ...], list[int]] = {}
        rejected = {}
        columns = [self._values(name, batch) for name in self.partition]
        for index in range(len(batch)):
            try:
                groups.setdefault(tuple(value(index) for value in columns), []).append(index)
            except RecordError as error:
                rejected[index] = str(error)
        if rejected:
            raise RecordsRejected(rejected)
        names = [field_name(pointer) for pointer in self.partition]
        return dict(zip(directory_names(names, groups), groups.values(), strict=True))

    def _values(self, name: str, batch: Batch) -> Callable[[int], str | None]:
        """How a record's value of one partition is found by its index, decoding no record without need."""
        if name not in EVENT_TIME:
            return lambda index: partition_text(resolve(name, batch.records[index]))
        place = slice(0, 10) if name == "date" else slice(11, 13)

        def time_of(index: int) -> Any:
            return batch.envelopes[index].time if self.time is None else resolve(self.time, batch.records[index])

        def value(index: int) -> str | None:
            when = moment(time_of(index))
            return when.isoformat()[place] if when else None

        return value
