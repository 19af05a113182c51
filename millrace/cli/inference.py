"""Inference: a pydantic model that fits the records of a sample, and no more than they need."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel

MOST_FIELDS = 200
"""An object of more different names is no list of fields, but a mapping from names to values."""

DEEPEST = 8
EXACT = 2**53
"""Whole numbers up to here are floats, too, without loss."""

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_WHOLE = re.compile(r"-?(0|[1-9]\d*)")
_BROKEN = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_TAKEN = frozenset(dir(BaseModel)) | {"bool", "int", "float", "str", "list", "dict", "date", "datetime", "Any"}
ORDER = ("bool", "int", "float", "date", "datetime", "str")


class Seen:
    """All values that stood at one place: of which kinds they were, and what stood inside of them."""

    def __init__(self, depth: int = 0) -> None:
        self.kinds: set[str] = set()
        self.null = False
        self.times = 0
        self.fields: dict[str, Seen] = {}
        self.objects = 0
        self.items: Seen | None = None
        self._depth = depth
        self._exact = True
        self._text = False
        self._distinct: set[str] | None = set()

    def add(self, value: Any, *, text: bool = False) -> None:
        """One more value. With `text` it is a cell of a CSV, and what it says may be a number or a truth."""
        self.times += 1
        self._text |= text
        if value is None or (text and value == ""):
            self.null = True
            return
        self._distinguish(value)
        if isinstance(value, Mapping):
            self._add_object(value)
        elif isinstance(value, list):
            self.kinds.add("list")
            self.items = self.items or Seen(self._depth + 1)
            for inner in value:
                self.items.add(inner)
        else:
            kind = _kind(value, text=text)
            self.kinds.add(kind)
            self._exact &= kind != "int" or abs(int(value)) <= EXACT

    @property
    def names(self) -> bool:
        """Return True where each value is there, and another than all others, so that it may name a record."""
        plain = self.kinds in ({"int"}, {"str"})
        return plain and not self.null and self._distinct is not None and len(self._distinct) == self.times > 1

    def simple(self) -> list[str]:
        """The kinds of what is neither object nor list, the narrower first, as few as hold all without loss."""
        kinds = self.kinds - {"list", "object"}
        if kinds >= {"int", "float"} and self._exact:
            kinds -= {"int"}
        if self._text and len(kinds) > 1:  # nothing but the column's own type tells what a cell is
            return ["str"]
        if "str" in kinds or {"date", "datetime"} <= kinds:  # one text that is no time makes all of them text
            kinds = kinds - {"date", "datetime"} | {"str"}
        return [kind for kind in ORDER if kind in kinds]

    @property
    def is_mapping(self) -> bool:
        """Return True where its objects map names to values, rather than having fields."""
        return not self.fields or len(self.fields) > MOST_FIELDS or self._depth >= DEEPEST

    def _add_object(self, value: Mapping[str, Any]) -> None:
        self.kinds.add("object")
        self.objects += 1
        if self._depth >= DEEPEST:
            return
        for name, inner in value.items():
            if name not in self.fields and len(self.fields) > MOST_FIELDS:
                continue
            self.fields.setdefault(name, Seen(self._depth + 1)).add(inner)

    def _distinguish(self, value: Any) -> None:
        if self._distinct is not None:
            self._distinct.add(str(value))
            if len(self._distinct) < self.times or isinstance(value, Mapping | list):
                self._distinct = None


def seen_in(records: Iterable[Mapping[str, Any]], *, text: bool = False) -> Seen:
    """Return what stood in these records; `text` says that they are rows of a CSV."""
    seen = Seen()
    for record in records:
        seen.objects += 1
        for name, value in record.items():
            seen.fields.setdefault(name, Seen(1)).add(value, text=text)
    return seen


def key_in(seen: Seen) -> str | None:
    """The field that names a record: in each of them, each another, and called as if it did; None where none is."""
    for name, field in seen.fields.items():
        called = name.lower()
        named = called in ("id", "key", "uuid", "guid") or called.endswith(("_id", "id", "_key", "uuid"))
        if named and field.times == seen.objects and field.names:
            return name
    return None


class Source:
    """The text of a module with models."""

    def __init__(self) -> None:
        self._classes: list[str] = []
        self._names: set[str] = {"Any", "BaseModel", "Field", "date", "datetime"}
        self._used: set[str] = set()

    def model(self, name: str, seen: Seen, about: str) -> str:
        """Add a model of this name, or one like it, and those inside of it; return the name."""
        if not self._classes:
            self._names |= set(_identifiers(seen))  # a field that is called as a class would stand before it
        name = self._free(name)
        lines = [f"class {name}(BaseModel):", f'    """{about}"""', ""]
        fields, taken = [], set[str]()
        for given, field in seen.fields.items():
            python = _identifier(given, taken)
            taken.add(python)
            hint = self._hint(given, field)
            absent = field.times < seen.objects
            nullable = field.null or absent
            if nullable and hint != "Any":
                hint += " | None"
            default = " = None" if absent else ""
            if python != given:
                self._used.add("Field")
                default = f" = Field({'None, ' if absent else ''}alias={_quoted(given)})"
            fields.append(f"    {python}: {hint}{default}")
        self._classes.append("\n".join([*lines, *(fields or ["    pass"])]))
        return name

    def text(self, docstring: str) -> str:
        """The whole module."""
        times = [name for name in ("date", "datetime") if name in self._used]
        imports = [f"from datetime import {', '.join(times)}"] if times else []
        imports += ["from typing import Any"] if "Any" in self._used else []
        pydantic = ["BaseModel", *(["Field"] if "Field" in self._used else [])]
        head = [f'"""{docstring}"""', "", "from __future__ import annotations", ""]
        head += [*imports, *([""] if imports else []), f"from pydantic import {', '.join(pydantic)}"]
        return "\n".join(head) + "\n\n\n" + "\n\n\n".join(self._classes) + "\n"

    def _hint(self, name: str, seen: Seen) -> str:
        return " | ".join(dict.fromkeys(self._hints(name, seen))) or self._use("Any")

    def _hints(self, name: str, seen: Seen) -> Iterator[str]:
        for kind in seen.simple():
            yield self._use(kind) if kind in ("date", "datetime") else kind
        if "object" in seen.kinds:
            if seen.is_mapping:
                yield f"dict[str, {self._use('Any')}]"
            else:
                yield self.model(_class_name(name), seen, f"What is in `{_in_docstring(name)}`.")
        if "list" in seen.kinds:
            assert seen.items is not None
            inner = self._hint(_singular(name), seen.items)
            yield f"list[{inner}{' | None' if seen.items.null and inner != 'Any' else ''}]"

    def _use(self, name: str) -> str:
        self._used.add(name)
        return name

    def _free(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self._names:
            name, number = f"{wanted}{number}", number + 1
        self._names.add(name)
        return name


def _kind(value: Any, *, text: bool) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    assert isinstance(value, str), value
    if text and value in ("true", "false"):
        return "bool"
    if text and _WHOLE.fullmatch(value) and len(value) < 19:
        return "int"
    if text and _BROKEN.fullmatch(value) and len(value) < 16:
        return "float"
    return _time_in(value)


def _time_in(value: str) -> str:
    try:
        if _DAY.fullmatch(value):
            date.fromisoformat(value)
            return "date"
        if _MOMENT.fullmatch(value):
            datetime.fromisoformat(value.replace(",", "."))
            return "datetime"
    except ValueError:
        pass
    return "str"


def _identifiers(seen: Seen) -> Iterator[str]:
    for name, field in seen.fields.items():
        yield _identifier(name, set())
        yield from _identifiers(field)
        inside = field.items
        while inside is not None:
            yield from _identifiers(inside)
            inside = inside.items


def _identifier(name: str, taken: set[str]) -> str:
    """A name that a field may have, as near to this one as can be."""
    # Python reads names in this form: of two that are one in it, the second would take the first's place.
    made = re.sub(r"\W", "_", unicodedata.normalize("NFKC", name)).lstrip("_") or "field"
    if made[0].isdigit():
        made = f"field_{made}"
    if not made.isidentifier():
        made = "field"
    if keyword.iskeyword(made) or made in _TAKEN or made.startswith("model_"):
        made += "_"
    free, number = made, 2
    while free in taken:
        free, number = f"{made}_{number}", number + 1
    return free


def _class_name(name: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", name)
    made = "".join(word[:1].upper() + word[1:] for word in words)
    return made if made and made[0].isalpha() and not keyword.iskeyword(made) else f"Part{made}"


def _singular(name: str) -> str:
    return name[:-1] if name.endswith("s") and not name.endswith("ss") and len(name) > 3 else name


def _quoted(text: str) -> str:
    """The text as ruff and black would write it."""
    written = repr(text)
    return written if '"' in text else '"' + written[1:-1].replace("\\'", "'") + '"'


def _in_docstring(text: str) -> str:
    return "".join(letter if letter.isprintable() and letter not in '"\\' else "?" for letter in text)[:60]
