"""A YAML file as values that remember where they stand.

The values follow the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema), not PyYAML's 1.1: `no`, `on`
and `1:30` are text. Variables are put into values, never into keys. A quoted value stays text; a plain one is read
after its variables are in, so that `records: ${N:-500}` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.culprit import culprit_of
from millrace_pipeline.flows.interpolate import Interpolated, interpolate
from millrace_pipeline.flows.problem import Problem, Steps, config_error

MAX_BYTES = 1 << 20
MAX_VALUES = 20_000
MAX_DEPTH = 50

_INT = re.compile(r"[-+]?[0-9]{1,400}|0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NAMED = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **{sign + inf: float(sign + "inf") for sign in ("", "+", "-") for inf in (".inf", ".Inf", ".INF")},
}


@dataclass
class Document:
    """What a file says. Without a file (a flow made in Python) it knows no places."""

    file: str = ""
    """As the user wrote it."""
    folder: Path | None = None
    value: Any = None
    problems: list[Problem] = field(default_factory=list)
    _text: str = field(default="", repr=False)
    _values: dict[Steps, tuple[int, int]] = field(default_factory=dict, repr=False)
    _keys: dict[Steps, tuple[int, int]] = field(default_factory=dict, repr=False)
    _typed: dict[Steps, str] = field(default_factory=dict, repr=False)
    _variables: dict[Steps, dict[str, str]] = field(default_factory=dict, repr=False)
    _written: dict[Steps, str] = field(default_factory=dict, repr=False)

    def problem(self, steps: Steps, message: str, *, at_key: bool = False) -> Problem:
        """A problem with a value, placed at it or at its key; if there is none, at what should hold it."""
        places = (self._keys,) if at_key else (self._values, self._keys)
        if steps not in places[0]:
            places = (self._keys, self._values)
        for length in range(len(steps), -1, -1):
            for known in places:
                if steps[:length] in known:
                    return Problem(*known[steps[:length]], steps, message)
        return Problem(0, 0, steps, message)

    def typed(self, steps: Steps) -> str | None:
        """What was typed for a plain number, true or false, where text is wanted of it: `1.10` rather than 1.1."""
        return self._typed.get(steps)

    def written(self, steps: Steps) -> list[tuple[Steps, str]]:
        """What stands in this value and beneath it, before any variable is put in, with where."""
        found = [(at[len(steps) :], text) for at, text in self._written.items() if at[: len(steps)] == steps]
        return sorted(found, key=repr)

    def variables(self, steps: Steps) -> dict[str, str]:
        """The variables whose values are in this value or beneath it."""
        inside = (found for at, found in self._variables.items() if at[: len(steps)] == steps)
        return {name: value for found in inside for name, value in found.items()}

    def unset(self, steps: Steps) -> list[Problem]:
        """The variables beneath this value that aren't set."""
        return [problem for problem in self.problems if problem.unset and problem.steps[: len(steps)] == steps]

    def shown(self, steps: Steps, value: Any) -> str:
        """A value for a message: never one that came out of the environment."""
        if names := self.variables(steps):
            return "the value of " + ", ".join(f"${{{name}}}" for name in names)
        if isinstance(value, Mapping):
            return "a mapping"
        if isinstance(value, list | tuple):
            return "a list"
        if value is None or isinstance(value, bool):
            return {None: "null", True: "true", False: "false"}[value]
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "…" + text[-1]


def read_document(path: Path, environ: Mapping[str, str]) -> Document:
    """Reads a YAML file.

    What is wrong inside a value is left in `problems`, so that all can be said at once. Raises ConfigError for a file
    that can't be read as YAML at all.
    """
    text = _text_of(path)
    document = Document(str(path), path.resolve().parent, _text=text)
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            document.value = _Reading(document, environ).value(node, ())
    except yaml.MarkedYAMLError as error:
        raise config_error(str(path), [_not_yaml(error, text)]) from None
    except yaml.reader.ReaderError as error:
        line, column = _line_and_column(text, error.position)
        message = f"not YAML: the character U+{ord(text[error.position]):04X} is not allowed"
        raise config_error(str(path), [Problem(line, column, (), message)]) from None
    except RecursionError:
        raise config_error(str(path), [Problem(1, 1, (), "nested too deep to be read")]) from None
    return document


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        where = f"there is no {path} (looked for {path.absolute()})"
        raise ConfigError(f"{where}: set MILLRACE_FLOWS to the file, or cd to its folder") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}: set MILLRACE_FLOWS to a file") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: more than {MAX_BYTES} bytes: expected a file that a person wrote")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig")
        place = Problem(*_line_and_column(before, len(before)), (), f"not UTF-8: byte {content[error.start]:#04x}")
        raise config_error(str(path), [place]) from None


def _line_and_column(text: str, index: int) -> tuple[int, int]:
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def _not_yaml(error: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    if isinstance(error, _TooMany):
        return Problem(line, column, (), f"more than {MAX_VALUES} values: expected a file that a person wrote")
    typed = (text.splitlines() or [""])[min(line, text.count("\n") + 1) - 1 :][:1]
    message = f"not YAML: {error.problem or error.context}"
    variable = typed and "${" in typed[0]
    if "'\\t'" not in message and not variable and (found := culprit_of(error, text, _reads)):
        return Problem(found.line, found.column, (), f"not YAML: {found.message}")
    if "'\\t'" in message:
        message += " (indent with spaces, not tabs)"
    elif variable:
        message += ' (between { } or [ ] a value with a variable needs quotes: "${NAME}")'
    elif error.context and error.problem:
        message += f" ({error.context})"
    return Problem(line, column, (), message)


def _reads(text: str) -> bool:
    """Return True where the text is YAML, whatever it says."""
    try:
        yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
        return False
    return True


_PLAIN, _STRING = "plain", "tag:yaml.org,2002:str"


class _TooMany(yaml.MarkedYAMLError):
    """It may be YAML, but no person wrote it."""


class _Loader(yaml.SafeLoader):
    """Only up to nodes, and without the YAML 1.1 idea of what a plain value is."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.nodes += 1
        if self.nodes > 2 * MAX_VALUES:  # keys are nodes too
            raise _TooMany(problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:  # noqa: ARG002 - PyYAML's signature
        return _PLAIN if kind is yaml.ScalarNode and implicit[0] else _STRING


def _is_merge(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.value == "<<" and key.tag == _PLAIN


class _Reading:
    """Turns nodes into values, noting places, variables and problems in the document."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self.document = document
        self.environ = environ
        self.count = 0

    def value(self, node: yaml.Node, steps: Steps) -> Any:
        here = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.document._values[steps] = here
        self.count += 1
        if self.count > MAX_VALUES or len(steps) > MAX_DEPTH:
            limit = f"more than {MAX_VALUES} values, or more than {MAX_DEPTH} of them nested, with aliases followed"
            raise config_error(self.document.file, [Problem(*here, steps[:4], limit)])
        if node.tag not in (_PLAIN, _STRING):
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            message = f"expected a value without a tag, not {tag}"
            self.document.problems.append(Problem(*here, steps, message))
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, steps)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*steps, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, steps)

    def _mapping(self, node: yaml.MappingNode, steps: Steps) -> dict[str, Any]:
        own = [pair for pair in node.value if not _is_merge(pair[0])]
        merged: dict[str, Any] = {}
        for _, item in (pair for pair in node.value if _is_merge(pair[0])):
            for other in self._merges(item, steps):
                merged = {**self._mapping(other, steps), **merged}
        found: dict[str, Any] = {}
        for key, item in own:
            place = (key.start_mark.line + 1, key.start_mark.column + 1)
            if not isinstance(key, yaml.ScalarNode):
                self.document.problems.append(Problem(*place, (*steps, "?"), "expected a name as the key"))
            elif key.value in found:
                first = self.document._keys[(*steps, key.value)][0]
                message = f"given twice (first in line {first}): expected it once"
                self.document.problems.append(Problem(*place, (*steps, key.value), message))
            else:
                self.document._keys[(*steps, key.value)] = place
                found[key.value] = self.value(item, (*steps, key.value))
        return {**merged, **found}

    def _merges(self, node: yaml.Node, steps: Steps) -> Iterator[yaml.MappingNode]:
        for other in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(other, yaml.MappingNode):
                yield other
            else:
                place = (other.start_mark.line + 1, other.start_mark.column + 1)
                message = "expected an alias of a mapping, such as <<: *defaults"
                self.document.problems.append(Problem(*place, (*steps, "<<"), message))

    def _scalar(self, node: yaml.ScalarNode, steps: Steps) -> Any:
        self.document._written[steps] = node.value
        read = interpolate(node.value, self.environ)
        if read.variables:
            self.document._variables[steps] = read.variables
        if read.faults:
            self._note_faults(node, steps, read)
            return None
        if node.tag == _STRING:
            return read.text
        value = core_value(read.text)
        if isinstance(value, bool | int | float):
            self.document._typed[steps] = read.text
        return value

    def _note_faults(self, node: yaml.ScalarNode, steps: Steps, read: Interpolated) -> None:
        for fault in read.faults:
            index = self.document._text.find(fault.at, node.start_mark.index, node.end_mark.index)
            place = _line_and_column(self.document._text, max(index, node.start_mark.index))
            self.document.problems.append(Problem(*place, steps, fault.message, fault.unset))


def core_value(text: str) -> Any:
    """What a plain scalar means in the YAML 1.2 core schema."""
    if text in _NAMED:
        return _NAMED[text]
    if _INT.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
