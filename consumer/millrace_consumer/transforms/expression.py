"""Expression: JMESPath (https://jmespath.org) that says what it makes of values which it can't compare."""

from __future__ import annotations

import re
from typing import Any

import jmespath  # type: ignore[import-untyped]
from jmespath.exceptions import JMESPathError  # type: ignore[import-untyped]
from jmespath.lexer import Lexer  # type: ignore[import-untyped]
from jmespath.visitor import TreeInterpreter  # type: ignore[import-untyped]

from millrace_consumer.transforms.places import say_absent
from millrace_pipeline.comparing import are_same, kind_of, say_kinds_differ
from millrace_pipeline.process.repeats import repeats

_COMPARATORS = {"eq", "ne", "lt", "lte", "gt", "gte"}
_ORDERS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)

_BARE_NAME = re.compile(r"""(?<![\w"'`@$-])(?<!\d\.)(?P<name>\d\w*[A-Za-z_]\w*|[A-Za-z_]\w*(?:-\w+)+)(?![\w"'`])""")
"""What stands bare in an expression and must not: a name that begins with a digit, or with a hyphen in it."""

_BARE_NUMBER = re.compile(r"(?:[<>]=?|[=!]=)\s*(?P<value>-?\d+(?:\.\d+)?)(?![\w`])")

_WORDS_FOR_NO = ("false", "0", "no", "off", "n", "f")


class Expression:
    """A condition on a record. Raises ValueError for what is none, or means something else than it seems to."""

    def __init__(self, text: str) -> None:
        try:
            self._parsed = _with_conditions(jmespath.compile(text).parsed)
        except JMESPathError as error:
            said = " ".join(str(error).split())
            raise ValueError(f"expected a JMESPath expression: {said}{_mend(text)}") from error
        _refuse_what_means_something_else(text)
        self._interpreter = _Strict(text)

    def holds(self, record: Any) -> bool:
        """Return True where what it finds is neither null, false nor empty. Raises TypeError for an order of text."""
        return self._interpreter.is_so(self._interpreter.visit(self._parsed, record))


def _with_conditions(node: Any) -> Any:
    """Return a condition's tree in which each part that is asked whether it holds is a `condition`."""
    kind = node["type"]
    if kind in ("or_expression", "and_expression", "not_expression"):
        return {**node, "children": [_with_conditions(child) for child in node["children"]]}
    node = _with_conditions_within(node)
    return node if kind == "comparator" else {"type": "condition", "children": [node]}


def _with_conditions_within(node: Any) -> Any:
    children = [_with_conditions_within(child) if isinstance(child, dict) else child for child in node["children"]]
    if node["type"] == "filter_projection":
        children[2] = _with_conditions(node["children"][2])
    return {**node, "children": children}


class _Strict(TreeInterpreter):  # type: ignore[misc]
    """JMESPath in which an order is one of numbers, or an error: the standard's answer, null, leaves out everything.

    Kinds that differ are never equal, as the standard has it, and that is said; so is text that holds for what it says.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def is_so(self, found: Any) -> bool:
        """Return True for what holds. Zero does in JMESPath, as empty things don't."""
        return bool(self._is_true(found))

    def visit_field(self, node: Any, value: Any) -> Any:
        if value is not None and (not isinstance(value, dict) or node["value"] not in value):
            say_absent(node["value"], value, self._text)
        return super().visit_field(node, value)

    def visit_condition(self, node: Any, value: Any) -> Any:
        found = self.visit(node["children"][0], value)
        if isinstance(found, str) and found.strip().lower() in _WORDS_FOR_NO:
            mend = "text that isn't empty holds, whatever it says: compare it, or cast it to bool before"
            repeats.warn("text_holds", kind="", of=self._text, place=self._text, found=found, mend=mend)
        return found

    def visit_comparator(self, node: Any, value: Any) -> Any:
        left, right = (self.visit(side, value) for side in node["children"])
        if order := _ORDERS.get(node["value"]):
            for found in (left, right):
                if found is not None and (isinstance(found, bool) or not isinstance(found, int | float)):
                    raise TypeError(f"{order} compares numbers, and one side is {kind_of(found)}: cast it before")
            if left is None or right is None:
                return None
        elif type(left) is not type(right):
            say_kinds_differ(left, right, place=self._text)
        if node["value"] in ("eq", "ne"):
            return are_same(left, right) == (node["value"] == "eq")
        return self.COMPARATOR_FUNC[node["value"]](left, right)

    def visit_function_expression(self, node: Any, value: Any) -> Any:
        if node["value"] != "contains" or len(node["children"]) != 2:
            return super().visit_function_expression(node, value)
        within, wanted = (self.visit(child, value) for child in node["children"])
        if isinstance(within, str) and not isinstance(wanted, str) and wanted is not None:
            raise TypeError(f"contains looks for text in text, and not for {kind_of(wanted)}: cast it before")
        if not isinstance(within, list):
            return self._functions.call_function("contains", [within, wanted])
        if any(are_same(element, wanted) for element in within):
            return True
        if within and all(kind_of(element) != kind_of(wanted) for element in within):
            say_kinds_differ(within[0], wanted, place=self._text)
        return False


def _mend(where: str) -> str:
    """Return how to write what JMESPath refuses, where that can be told: as names and literals are quoted there."""
    quoted = re.sub(r"""`[^`]*`|'[^']*'|"[^"]*\"""", lambda found: " " * len(found[0]), where)
    if name := next((found["name"] for found in _BARE_NAME.finditer(quoted)), None):
        rule = "A name that isn't letters, digits and _, a letter first, needs double quotes"
        return f'. {rule}: "{name}" (and backticks are for numbers)'
    if value := next((found["value"] for found in _BARE_NUMBER.finditer(quoted)), None):
        return f". A number, true, false or null needs backticks: `{value}`"
    return ". Numbers, true and false need backticks (`1`), text single quotes ('a'), odd names double quotes (\"a-b\")"


def _refuse_what_means_something_else(where: str) -> None:
    """Raises ValueError for what JMESPath takes for the name of a field, and nobody means as one."""
    tokens = list(Lexer().tokenize(where))
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        kind, value = token["type"], token["value"]
        beside = {neighbour["type"] for neighbour in (before, after) if neighbour}
        if kind == "unquoted_identifier" and value in ("true", "false") and not beside & {"dot", "colon"}:
            raise ValueError(f"{value} without backticks is a field of that name: expected `{value}`")
        if (
            kind == "quoted_identifier"
            and before
            and before["type"] in _COMPARATORS
            and "dot" not in beside
            and _PLAIN_NAME.fullmatch(value)
        ):
            raise ValueError(f"\"{value}\" in double quotes names a field: text is in single quotes, '{value}'")
