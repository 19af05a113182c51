"""What all sinks that write files have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import BaseModel, Field, PrivateAttr, field_validator

from millrace_consumer.batch import Batch
from millrace_consumer.readback import Readback
from millrace_consumer.sinks.base import RecordsRejected, SinkUnavailable
from millrace_consumer.sinks.dated import DatedSink
from millrace_consumer.sinks.namedfield import NamedField
from millrace_consumer.sinks.partition import NAME_LIMIT, component, directory_names, field_name, partition_text
from millrace_consumer.sinks.places import Place, place_of
from millrace_pipeline.errors import ConfigError, RecordError
from millrace_pipeline.killpoints import killpoint

EVENT_TIME = ("date", "hour")
"""The two partitions that are not a field of the record but the day and the hour (UTC) in which it happened."""


class FileSink(DatedSink):
    """One file a batch and partition, named by the batch's id: the same batch again is the same file again."""

    about: ClassVar[str] = "files, on a disk or in S3, Google Cloud, Azure"
    guarantee: ClassVar[str] = "exactly once"
    guaranteed_by: ClassVar[str] = "the file is named by the batch's id; an object, too, and put if it is absent"

    partition: Annotated[
        list[str],
        Field(
            default_factory=list,
            description="Directories below it, outermost first: `date`, `hour` (UTC, of the event), the name of a "
            "field, or a JSON pointer such as /meta/domain.",
        ),
    ]
    kind: ClassVar[str]
    """What the files are, as the end of their names says it."""

    _place: Place | None = PrivateAttr(default=None)

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

    def doubt(self, model: type[BaseModel] | None) -> str | None:  # noqa: ARG002
        """See `Sink.doubt`."""
        return self.doubt_of_time(self.partition)

    @property
    def suffix(self) -> str:
        """The end of the files' names."""
        return f".{self.kind}"

    @abstractmethod
    def encode(self, batch: Batch) -> Iterable[bytes]:
        """The file of these records, in as many pieces as is convenient: the same records, the same bytes.

        Raises RecordsRejected by the index in the batch given.
        """

    @property
    def place(self) -> Place:
        """Where the files go. Raises ConfigError where that takes a library that isn't there."""
        if self._place is None:
            self._place = place_of(self.path, self.store)
        return self._place

    def check(self, model: type[BaseModel] | None) -> None:  # noqa: ARG002 - sinks with columns look at it
        """Refuses a path where nothing can be written."""
        self.place.check()

    def probe(self) -> str | None:
        """See `Sink.probe`."""
        return self.place.probe()

    def has_batch(self, batch_id: str) -> bool:
        """Whether a file of this batch has its name already, in any partition."""
        return self.place.holds(f"{batch_id}{self.suffix}")

    def read_back(self, *, model: type[BaseModel] | None = None, key: str | None = None) -> Readback:  # noqa: ARG002
        """See `Sink.read_back`: each kind of file is read by its own sink."""
        raise ConfigError(f"{type(self).__name__} is not a kind of file that can be read again")

    def write(self, batch: Batch) -> None:
        """Encodes all of the batch's files before the first of them appears under its name."""
        if not len(batch):
            return
        killpoint("sink.before_write")
        file = f"{batch.id}{self.suffix}"
        parts = self._parts(batch, self.place.name_limit - len(file) - 1)
        rejected: dict[int, str] = {}
        try:
            with self.place.stage(len(parts)) as staging:
                for directory, indices in parts.items():
                    part = batch if len(parts) == 1 else batch.pick(indices)
                    try:
                        staging.add(f"{directory}/{file}" if directory else file, self.encode(part))
                    except RecordsRejected as rejection:
                        rejected |= {indices[i]: reason for i, reason in rejection.reasons.items()}
                if rejected:
                    raise RecordsRejected(dict(sorted(rejected.items())))
                staging.commit()
        except OSError as error:
            place = error.filename or self.path
            raise SinkUnavailable(f"can't write to {place}: {error.strerror or error}") from error
        batch.written = staging.size

    def _parts(self, batch: Batch, limit: int) -> Mapping[str, Sequence[int]]:
        """Indices of the records by the directory they belong in, whose name may have so many bytes."""
        if not self.partition:
            return {"": range(len(batch))}
        groups: dict[tuple[str | None, ...], list[int]] = {}
        rejected: dict[int, str] = {}
        columns = [self._values(name, batch) for name in self.partition]
        for index in range(len(batch)):
            try:
                groups.setdefault(tuple(value(index) for value in columns), []).append(index)
            except RecordError as error:
                rejected[index] = str(error)
        names = [field_name(pointer) for pointer in self.partition]
        parts = dict(zip(directory_names(names, groups), groups.values(), strict=True))
        for directory, indices in parts.items():
            if len(directory.encode()) > limit:
                reason = f"its partitions make a name of more bytes than there may be: {directory[:80]}…"
                rejected |= dict.fromkeys(indices, reason)
        if rejected:
            raise RecordsRejected(dict(sorted(rejected.items())))
        return parts

    def _values(self, name: str, batch: Batch) -> Callable[[int], str | None]:
        """How a record's value of one partition is found by its index, decoding no record without need."""
        if name not in EVENT_TIME:
            field = NamedField("partition", name)
            return lambda index: partition_text(field.of(batch.records[index]))
        place = slice(0, 10) if name == "date" else slice(11, 13)

        moment = self.moments(batch)

        def value(index: int) -> str | None:
            when = moment(index)
            return when.isoformat()[place] if when else None

        return value
