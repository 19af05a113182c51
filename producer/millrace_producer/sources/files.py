"""Files: JSON Lines, JSON, CSV, Parquet, XML or text, packed or not, on a disk or in an object store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.units import Duration, Size
from millrace_pipeline.jsontext import decode_json, encode_json
from millrace_pipeline.objectstore import StoreOptions, is_url
from millrace_pipeline.pointer import resolve_alike
from millrace_producer.keys import CONTENT, content_key
from millrace_producer.sources.base import DeadLetter, Position, Record, Source
from millrace_producer.sources.cells import CellOptions
from millrace_producer.sources.encodings import WIDE, Encoding
from millrace_producer.sources.fields import Fields
from millrace_producer.sources.reading.bucket import checked_url
from millrace_producer.sources.reading.csv import Dialect
from millrace_producer.sources.reading.files import Files, LocalFiles, Objects
from millrace_producer.sources.reading.format import WHOLE, Document, FileFormat, Layout
from millrace_producer.sources.reading.packed import PACKED
from millrace_producer.sources.reading.place import is_behind, place_of
from millrace_producer.sources.reading.tail import Tail
from millrace_producer.sources.reading.walk import Manner, Order, Walk
from millrace_producer.sources.recordoptions import RecordOptions

FORMATS: dict[str, Layout] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".geojson": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".xml": "xml",
    ".txt": "text",
    ".log": "text",
}
"""What the end of a name says of the format, where none is given."""

OneCharacter = Annotated[str, Field(min_length=1, max_length=1)]


class FilesSource(CellOptions, RecordOptions, Source):
    """Reads files: JSON Lines, JSON, CSV, Parquet, XML or text, packed or not, from a disk or an object store.

    The position is a file and an offset in it: files are read in an order in which all before it are done. Ends when
    all is read (`once`), waits for new files (`watch`), or follows one that grows across its rotation (`tail`).
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    about: ClassVar[str] = "read, watched or followed"
    exclusive: ClassVar[bool] = True

    path: str = Field(
        min_length=1,
        description="A file, or a pattern such as logs/**/*.jsonl.gz; on a disk, or s3://bucket/…, gs://, az://.",
    )
    format: Layout | None = Field(
        default=None,
        description="jsonl (a record a line), json (a document with records in it), csv, parquet, xml, or text (a line "
        "is a string). Default: as the path ends.",
    )
    records: str | None = Field(
        default=None,
        min_length=1,
        description="json: a JSON pointer to the list of records, such as /features; default: the document itself, or "
        "/features of a .geojson. xml: the tag of the elements that are records.",
    )
    lists: list[str] = Field(
        default_factory=list, description="xml: tags that become lists, though they may stand only once in an element."
    )
    max_file_bytes: Size = Field(
        default=256 * 1024 * 1024,
        ge=1,
        description="json: a larger document becomes a dead letter that names it, since it is read at once.",
    )
    compression: Literal["auto", "none", "gzip", "zstd"] = Field(
        default="auto", description="How the files are packed; auto goes by the end of each name."
    )
    mode: Literal["once", "watch", "tail"] = Field(
        default="once",
        description="once: ends when all files are read. watch: waits for new ones. tail: follows one file that grows.",
    )
    order: Order = Field(
        default="name",
        description="The order in which files are read, and in which new ones must come: by name, or by the time of "
        "their last change.",
    )
    interval: Annotated[Duration, Field(gt=0)] = Field(
        default=1.0, description="How often a watch or tail looks for more."
    )
    settle: Duration = Field(
        default=2.0, description="A file that was left alone for so long counts as complete, where that matters."
    )
    key: str | None = Field(
        default=None,
        description="What names a record: a JSON pointer (/id) or field, or content for a hash of all it holds.",
    )
    columns: list[str] | None = Field(
        default=None, min_length=1, description="Names of a CSV's columns. Default: its first row has them."
    )
    delimiter: OneCharacter | None = Field(
        default=None, description="What is between the fields of a CSV. Default: a comma; a tab for .tsv."
    )
    quote: OneCharacter | None = Field(
        default='"', description="What is around a CSV's fields that hold delimiters or line ends; null for nothing."
    )
    encoding: Encoding = Field(
        default="utf-8",
        description="How text is written: utf-8, latin-1, cp1252, shift_jis, utf-16 … A byte order mark counts more.",
    )
    max_line_bytes: Size = Field(
        default=16 * 1024 * 1024,
        ge=1,
        description="A longer line becomes a dead letter that holds its beginning; reading goes on after it.",
    )
    store: StoreOptions | None = Field(default=None, description="How to reach the object store: see below.")

    _files: Files = PrivateAttr()
    _format: FileFormat = PrivateAttr()

    @model_validator(mode="after")
    def _it_can_be_read(self) -> FilesSource:
        remote = is_url(self.path)
        if remote:
            checked_url(self.path, self.store)
        elif self.store:
            raise ValueError("store is for a path that begins with s3://, gs:// or az://")
        name = PurePosixPath(self.path)
        packed = name.suffix in PACKED
        suffix = PurePosixPath(name.stem).suffix if packed else name.suffix
        layout = self.format or FORMATS.get(suffix)
        if layout is None:
            raise ValueError(f"the end of the path doesn't tell the format: say format: {', '.join(get_args(Layout))}")
        many = any(sign in self.path for sign in "*?[")
        if self.mode == "tail" and (remote or many or packed or layout in WHOLE or self.encoding in WIDE):
            raise ValueError("mode tail is for one file on a disk, of text, not packed and not in UTF-16 or UTF-32")
        if layout == "text" and (self.key not in (None, CONTENT) or self.time):
            raise ValueError("key and time point into a record, and format is text")
        if layout != "csv" and (self.columns or self.delimiter or self.null is not None):
            raise ValueError("columns, delimiter and null are for format csv")
        if self.columns and (again := [name for name, times in Counter(self.columns).items() if times > 1]):
            raise ValueError(f"columns: {', '.join(again)} stands there twice, and one value of it would be lost")
        if layout == "xml" and not self.records:
            raise ValueError("which elements are records? expected records: item, the tag of them")
        if layout not in ("json", "xml") and self.records:
            raise ValueError("records is for format json or xml")
        if layout == "json" and self.records and not self.records.startswith("/"):
            raise ValueError(f"records is a JSON pointer to a list: expected /{self.records}")
        if layout != "xml" and self.lists:
            raise ValueError("lists is for format xml")
        self._format = FileFormat(
            layout,
            None if self.compression == "auto" else self.compression,
            Fields("json", None if self.key == CONTENT else self.key, self.time, self.time_unit),
            Dialect(
                self.columns,
                self.delimiter or ("\t" if suffix == ".tsv" else ","),
                self.quote,
                self.encoding,
                self.cells,
                heeds_sep=self.delimiter is None,
            ),
            self.max_line_bytes,
            Document(
                self.records or ("/features" if suffix == ".geojson" and layout == "json" else ""),
                frozenset(self.lists),
                self.max_file_bytes,
            ),
        )
        try:
            self._files = Objects(self.path, self.store or StoreOptions()) if remote else LocalFiles(self.path)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def ends(self) -> bool:
        """See `Source.ends`."""
        return self.mode == "once"

    def for_model(self, model: type[BaseModel] | None) -> Self:
        """See `Source.for_model`: of the rows of a CSV, which are texts, it tells what an empty cell is."""
        super().for_model(model)
        self._format = self._format._replace(dialect=self._format.dialect._replace(cells=self.cells))
        return self

    def check(self) -> None:
        """Refuse a file that isn't there, and a folder in place of a file; a watch and a tail wait for theirs."""
        if isinstance(self._files, LocalFiles):
            self._files.check(may_come=self.mode != "once")

    def probe(self) -> str | None:
        """See `Source.probe`."""
        found = len(self._files.found())
        return f"{found:,} file{'' if found == 1 else 's'} there"

    @property
    def ordered(self) -> bool:
        """See `Source.ordered`. A file that is followed has another name later, one that grows another time."""
        return self.mode != "tail" and self.order == "name"

    def is_behind(self, position: Position, checkpoint: Position) -> bool:
        """See `Source.is_behind`."""
        return is_behind(position, checkpoint)

    def describe(self, position: Position) -> str:
        """See `Source.describe`."""
        place = place_of(position)
        assert place is not None
        if place.offset is None:
            return f"after the file {place.file}"
        return (
            f"in the file {place.file}, from {place.offset:,} on (bytes, or rows of Parquet); files before it are done"
        )

    def read(self, resume_from: Position | None) -> Iterator[Record | DeadLetter]:
        """See `Source.read`. Positions are those of `FilePlace`."""
        place = place_of(resume_from)
        came = self._tail().records(place) if self.mode == "tail" else self._walk().records(place)
        if not (self.key or self.time):
            yield from came
            return
        fields = self.fields()
        for record in came:
            if isinstance(record, Record):
                self._name(record, fields)
            yield record

    def _tail(self) -> Tail:
        return Tail(self.path, self._format.follow, interval=self.interval, settle=self.settle)

    def _walk(self) -> Walk:
        one = "" if any(sign in self.path for sign in "*?[") else self.path
        manner = Manner(self.order, self.mode == "watch", self._format.grows, self.interval, self.settle, one)
        return Walk(self._files, manner, lambda file, place: self._format.begin(self._files, file, place))

    def _name(self, record: Record, fields: Fields) -> None:
        """Gives it the key and the time that it holds. In JSON lines they were looked for already."""
        if self.key == CONTENT:
            content_key(record)
        if isinstance(record.data, dict):
            if self.key and self.key != CONTENT:
                record.key = fields.as_key(_in_json(resolve_alike(self.key, record.data)))
            if self.time:
                record.time = fields.as_time(resolve_alike(self.time, record.data))


def _in_json(value: Any) -> Any:
    """Return a value as the record will hold it: days, decimals and UUIDs of Parquet are text there."""
    return value if value is None or isinstance(value, str | int | float) else decode_json(encode_json(value))
