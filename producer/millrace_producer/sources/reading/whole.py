"""Whole files being read: a document of JSON, or of XML, with records somewhere in it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import Any, BinaryIO

from lxml import etree  # type: ignore[import-untyped]

from millrace_pipeline.process.repeats import repeats
from millrace_producer.sources.base import DeadLetter, Record
from millrace_producer.sources.encodings import Recoded
from millrace_producer.sources.fields import BYTE_ORDER_MARK, Fields
from millrace_producer.sources.jsonbody import NotJson, dig, records_in
from millrace_producer.sources.reading.base import Reading

NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


class NoDocument(EOFError):
    """The file is no such document, or not to its end. The message says why."""


class WholeReading(Reading):
    """A record of each part of a document. The offset is the number of records before it."""

    def __init__(self, file: BinaryIO, mark: str) -> None:
        self.offset = 0
        self._file = file
        self._mark = mark
        self._skip = 0

    def go_on(self, offset: int) -> None:
        """Goes on after so many records."""
        self.offset = offset

    def records(self, final: bool) -> Iterator[Record | DeadLetter]:  # noqa: ARG002 - it is complete or it is none
        for record in islice(self._all(), self.offset, None):
            self.offset += 1
            yield record

    @abstractmethod
    def _all(self) -> Iterator[Record | DeadLetter]:
        """All records of the file. Raises NoDocument."""

    def close(self) -> None:
        self._file.close()

    @property
    def mark(self) -> str:
        return self._mark


class JsonReading(WholeReading):
    """Records in a document of JSON: the elements of the list that a pointer leads to, as they stand there."""

    def __init__(self, file: BinaryIO, mark: str, fields: Fields, *, pointer: str, encoding: str, limit: int) -> None:
        super().__init__(file, mark)
        self._fields = fields
        self._pointer = pointer
        self._encoding = encoding
        self._limit = limit

    def _all(self) -> Iterator[Record | DeadLetter]:
        text = self._file.read(self._limit + 1)
        if len(text) > self._limit:
            raise NoDocument(f"it has more than max_file_bytes, {self._limit}")
        if isinstance(self._file, Recoded):
            self._file.end()
        text = text.removeprefix(BYTE_ORDER_MARK)
        if not text.strip():
            return
        try:
            if self._encoding != "utf-8":
                text = text.decode(self._encoding).encode()
            found = dig(self._pointer, text)
            if found is None:
                raise NoDocument(f"there is nothing at {self._pointer}: expected a list of records")
            parts = records_in(found)
        except NotJson as error:
            hint = " (a record a line is format jsonl)" if b"\n" in text.strip() else ""
            raise NoDocument(f"not JSON: {error}{hint}") from None
        except UnicodeDecodeError as error:
            raise NoDocument(str(error)) from None
        for part in parts:
            yield part if isinstance(part, DeadLetter) else self._fields.record(part)


class XmlReading(WholeReading):
    """Records in a document of XML: its elements of one tag, wherever they are. One at a time is in memory."""

    def __init__(self, file: BinaryIO, mark: str, *, tag: str, lists: frozenset[str], encoding: str | None) -> None:
        super().__init__(file, mark)
        self._tag = tag
        self._lists = lists
        self._encoding = encoding

    def _all(self) -> Iterator[Record | DeadLetter]:
        prefix, _, name = self._tag.rpartition(":")
        within = 0
        count = 0
        try:
            # Nothing outside of the file is asked for, whatever its DTD says.
            found = etree.iterparse(
                self._file,
                events=("start", "end"),
                tag=f"{{*}}{name}",
                load_dtd=False,
                no_network=True,
                resolve_entities="internal",
                huge_tree=False,
                recover=False,
                encoding=self._encoding,
            )
            for event, element in found:
                if prefix and element.prefix != prefix:
                    continue
                within += 1 if event == "start" else -1
                if event == "end" and within == 0:  # not one within one
                    count += 1
                    yield Record(self._value(element, is_record=True))
                    _forget(element)
            if isinstance(self._file, Recoded):
                self._file.end()
        except etree.XMLSyntaxError as error:
            raise NoDocument(f"not XML: {error.msg}") from None
        if count == 0 and found.root is not None:
            self._say_what_is_there(found.root)

    def _say_what_is_there(self, root: Any) -> None:
        """Of a document without records, which may be an empty one. Raises NoDocument where a tag is nearly right."""
        elements = [element for element in root.iter() if isinstance(element.tag, str)]
        tags = list(dict.fromkeys(_named(element.tag, element) for element in elements))
        wanted = self._tag.casefold()
        prefix, _, name = wanted.rpartition(":")
        is_declared = prefix and any(prefix == (known or "").casefold() for known in root.nsmap)
        if is_declared:
            near = [tag for tag in tags if tag.casefold() == wanted]
        else:
            near = [tag for tag in tags if tag.casefold().rpartition(":")[2] == name]
        if near:
            raise NoDocument(f"no element is {self._tag}, but there is {', '.join(near[:3])}: is `records` right?")
        if len(root):
            mend = f"there are {', '.join(tags[:5])}: is `records` right?"
            repeats.warn("field_not_found", kind="", of=self._tag, field=self._tag, mend=mend)

    def _value(self, element: Any, *, is_record: bool = False) -> Any:
        """Attributes as @name, children by their tags, several of one tag as a list, text as it is or as #text."""
        if element.get(NIL) in ("true", "1") and not is_record:
            return None
        made: dict[str, Any] = {}
        for name, value in element.attrib.items():
            made[f"@{_named(name, element)}"] = value
        for child in element:
            if child.tag is etree.Entity:
                raise NoDocument(f"an entity that is declared elsewhere: {child.text}")
            if not isinstance(child.tag, str):
                continue  # a comment
            name, value = _named(child.tag, child), self._value(child)
            if name not in made:
                made[name] = [value] if name in self._lists else value
            elif name in self._lists or type(made[name]) is _Several:
                made[name].append(value)
            else:
                made[name] = _Several([made[name], value])
        text = "".join([element.text or "", *(child.tail or "" for child in element)]).strip()
        if not made and not is_record:
            return text or None
        if text:
            made["#text"] = text
        return made


class _Several(list[Any]):
    """The values of a tag that stands several times in an element."""


def _named(tag: str, element: Any) -> str:
    """A tag or an attribute as it is written: `media:title`, and without a prefix where it has none."""
    uri, _, name = tag.removeprefix("{").rpartition("}")
    if not uri:
        return name
    prefix = element.prefix if tag == element.tag else next((p for p, u in element.nsmap.items() if u == uri), None)
    return f"{prefix}:{name}" if prefix else f"xml:{name}" if uri.endswith("/XML/1998/namespace") else name


def _forget(element: Any) -> None:
    """Frees an element, and what stood before it in its parent."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]
