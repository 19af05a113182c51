"""From what a flows file names to the classes and functions themselves, with the file's place in every error."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.flow import Flow, load
from millrace_pipeline.flows.units import Duration


class Base(BaseModel):
    """What the things of this test have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Login(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user: str
    password: str = ""


class Thing(Base):
    name: str = "thing"
    count: int = 1
    flag: bool = False
    format: Literal["json", "text"] = "json"
    wait: Duration = 1.0
    when: datetime | None = None
    path: Path = Path()
    names: dict[str, str] = Field(default_factory=dict)
    logins: list[Login] = Field(default_factory=list)
    either: list[str] | dict[str, str] | None = None
    picky: str = ""

    @field_validator("picky")
    @classmethod
    def _picky(cls, value: str) -> str:
        if value:
            raise ValueError(f"{value} is not picky enough")
        return value

    @model_validator(mode="after")
    def _together(self) -> Thing:
        if self.count == 13:
            raise ValueError("13 is unlucky with any name")
        return self


class Other:
    """No thing."""


TABLE = {"thing": f"{__name__}:Thing", "other": f"{__name__}:Other", "base": f"{__name__}:Base"}

Declare = Callable[..., Flow]


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Declare:
    """A flow whose source has these options, and whose file stands in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", __import__("sys").path[:])

    def declare(options: str, environ: Mapping[str, str] | None = None, more: str = "") -> Flow:
        text = f"flows:\n  a:\n    source:\n{options}    sink: {{type: stdout}}\n{more}"
        Path("flows.yaml").write_text(text)
        return load(Path("flows.yaml"), environ or {})["a"]

    return declare


def build(flow: Flow) -> Thing:
    return flow.source.build(TABLE, Base)  # type: ignore[return-value]


def error(flow: Flow, make: Callable[[Flow], object] = build) -> str:
    with pytest.raises(ConfigError) as caught:
        make(flow)
    return str(caught.value)


def test_a_known_type_is_made_with_its_options(declare: Declare) -> None:
    flow = declare("      type: thing\n      count: ${N:-3}\n      logins: [{user: me}]\n      wait: 2s\n")
    assert build(flow) == Thing(count=3, logins=[Login(user="me")], wait=2.0)


def test_a_dotted_path_is_a_type(declare: Declare) -> None:
    assert build(declare(f"      type: {__name__}:Thing\n")) == Thing()


def test_an_entry_point_of_an_installed_package_is_a_type(declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(*, group: str) -> EntryPoints:
        found = [EntryPoint("theirs", f"{__name__}:Thing", "millrace.bases"), EntryPoint("x", "y:z", "other")]
        return EntryPoints(found).select(group=group)

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    assert build(declare("      type: theirs\n")) == Thing()
    assert "expected base, other, theirs, thing" in error(declare("      type: nope\n"))


@pytest.mark.parametrize(
    ("type", "expected"),
    [
        (
            "thong",
            "unknown base type, 'thong': did you mean 'thing'? expected base, other, thing, or the path of a class",
        ),
        ("other", "'other' is no base: expected a class derived from "),
        ("nowhere_x:Thing", "nowhere_x:Thing: there is no module nowhere_x beside the flows file, or installed"),
        (
            "json.nowhere:Thing",
            "json.nowhere:Thing: there is no module json.nowhere beside the flows file, or installed",
        ),
        (f"{__name__}:Thng", "did you mean 'Thing'?"),
        ("a b:c", "'a b:c': expected a dotted path, module:name"),
        ("':c'", "':c': expected a dotted path, module:name"),
    ],
)
def test_a_type_that_cant_be_had_is_placed_and_said(type: str, expected: str, declare: Declare) -> None:
    found = error(declare(f"      type: {type}\n"))
    assert found.startswith("flows.yaml:4:13: flows.a.source.type: ")
    assert expected in found


def test_a_class_that_lacks_a_method_is_refused(declare: Declare) -> None:
    from millrace_producer.sources.base import Source

    flow = declare("      type: millrace_producer.sources.base:Source\n")
    assert error(flow, lambda flow: flow.source.build({}, Source)) == (
        "flows.yaml:4:13: flows.a.source.type: 'millrace_producer.sources.base:Source' is abstract: it must define read"
    )


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("nmae: x", "5:7: flows.a.source.nmae: unknown option: did you mean 'name'?"),
        ("count: many", "5:14: flows.a.source.count: expected a whole number, not 'many'"),
        ("count: 1.5", "5:14: flows.a.source.count: expected a whole number, not 1.5"),
        ("count:", "5:13: flows.a.source.count: expected a whole number, not null"),
        ("flag: perhaps", "5:13: flows.a.source.flag: expected true or false, not 'perhaps'"),
        ("format: jsn", "5:15: flows.a.source.format: expected 'json' or 'text', not 'jsn'"),
        ("wait: 5 minutes", "5:13: flows.a.source.wait: expected a duration such as"),
        ("name: [a]", "5:13: flows.a.source.name: expected text, not a list"),
        ("names: {a: {b: c}}", "5:18: flows.a.source.names.a: expected text, not a mapping"),
        ("names: x", "5:14: flows.a.source.names: expected a mapping, not 'x'"),
        ("logins: [{user: me}, {pasword: x}]", "5:28: flows.a.source.logins[1]"),
        (
            "logins: [{user: me, pasword: x}]",
            "5:27: flows.a.source.logins[0].pasword: unknown option: did you mean 'pas",
        ),
        ("logins: [5]", "5:16: flows.a.source.logins[0]: expected a mapping of options, not 5"),
        ("either: 5", "5:15: flows.a.source.either: expected a list or a mapping, not 5"),
        ("picky: loose", "5:14: flows.a.source.picky: loose is not picky enough"),
        ("count: 13", "4:7: flows.a.source: 13 is unlucky with any name"),
        ("when: soon", "5:13: flows.a.source.when: expected a valid datetime"),
    ],
)
def test_a_wrong_option_of_a_component_is_placed_and_said(option: str, expected: str, declare: Declare) -> None:
    found = error(declare(f"      type: thing\n      {option}\n"))
    assert found.splitlines()[0].startswith(f"flows.yaml:{expected}")


def test_all_wrong_options_are_said_at_once(declare: Declare) -> None:
    flow = declare(
        "      type: thing\n      count: x\n      logins:\n        - user: me\n        - {}\n      nope: 1\n"
    )
    assert [line.split(": ")[:2] for line in error(flow).splitlines()] == [
        ["flows.yaml:5:14", "flows.a.source.count"],
        ["flows.yaml:8:11", "flows.a.source.logins[1].user"],
        ["flows.yaml:9:7", "flows.a.source.nope"],
    ]


def test_where_text_is_wanted_a_plain_value_is_the_text_that_was_typed(declare: Declare) -> None:
    flow = declare(
        "      type: thing\n      name: 007\n      names: {a: 1.10, b: true, c: 0x1F, d: 1e3}\n      path: 2026\n"
    )
    thing = build(flow)
    assert thing.name == "007"
    assert thing.names == {"a": "1.10", "b": "true", "c": "0x1F", "d": "1e3"}
    assert thing.path == Path("2026")


def test_a_variable_of_digits_is_text_where_text_is_wanted(declare: Declare) -> None:
    assert build(declare("      type: thing\n      name: ${PIN}\n", {"PIN": "0042"})).name == "0042"


def test_an_unset_variable_of_a_component_is_no_mistake_until_it_is_built(declare: Declare) -> None:
    flow = declare("      type: thing\n      name: ${PASSWORD}\n      count: x\n")
    assert error(flow).splitlines() == [
        "flows.yaml:5:13: flows.a.source.name: the environment variable PASSWORD is not set: "
        "set it, or write ${PASSWORD:-default}",
        "flows.yaml:6:14: flows.a.source.count: expected a whole number, not 'x'",
    ]


def test_an_unset_variable_of_a_type_is_a_mistake_at_once(declare: Declare) -> None:
    with pytest.raises(ConfigError, match=r"^flows.yaml:4:13: flows.a.source.type: the environment variable T is not"):
        declare("      type: ${T}\n")


SECRET = "hunter2-Zq9"
"""Long enough that no other word of a message holds four characters of it in a row."""


@pytest.mark.parametrize(
    "option",
    [
        'name: ["${S}"]',
        "count: ${S}",
        "flag: ${S}",
        "format: ${S}",
        "wait: ${S}",
        "when: ${S}",
        "names: ${S}",
        "logins: ${S}",
        'logins: [{user: "${S}", x: "${S}"}]',
        "either: ${S}",
        "picky: ${S}",
        "picky: x${S}y",
        "nope: ${S}",
        "type: ${S}",
        "type: ${S}:Thing",
        "type: json:${S}",
    ],
)
@pytest.mark.parametrize("secret", [SECRET, "hunter2_Zq9", "redis://:hunter2_Zq9@host"])
def test_a_value_of_the_environment_is_in_no_error(option: str, secret: str, declare: Declare) -> None:
    options = f"      {option}\n" if option.startswith("type") else f"      type: thing\n      {option}\n"
    flow = declare(options, {"S": secret})
    with pytest.raises(ConfigError) as caught:
        build(flow)
    told = "".join(traceback.format_exception(caught.value))
    assert "hunter" not in told
    assert "Zq9" not in told
    assert "hunter" not in repr(flow.model_copy(update={"source": flow.source.model_copy(update={"type": ""})}))


def test_the_message_of_a_validator_has_the_variables_name_in_place_of_its_value(declare: Declare) -> None:
    found = error(declare("      type: thing\n      picky: ${S}/x\n", {"S": SECRET}))
    assert found == "flows.yaml:5:14: flows.a.source.picky: ${S}/x is not picky enough"


def test_a_message_that_tells_part_of_a_value_is_not_shown(declare: Declare) -> None:
    flow = declare("      type: thing\n      name: ${S}\n", {"S": SECRET})
    assert str(flow.source.error("the login hunter2 is refused")) == (
        "flows.yaml:4:7: flows.a.source: is not accepted (why is not shown: it would tell the value of ${S})"
    )


def own(tmp_path: Path, code: str) -> str:
    """A module of the user's, beside the flows file; its name is new, as Python imports a name only once."""
    name = f"mine_{abs(hash((str(tmp_path), code)))}"
    (tmp_path / f"{name}.py").write_text(code)
    return name


def test_transforms_and_model_are_found_beside_the_flows_file(declare: Declare, tmp_path: Path) -> None:
    name = own(
        tmp_path,
        "import pydantic\n"
        "class M(pydantic.BaseModel):\n    class Inner(pydantic.BaseModel): pass\n"
        "def f(r): return r\n"
        "def g(r): return [r, r]\n",
    )
    flow = declare("      type: x\n", more=f"    transforms: ['{name}:f', '{name}:g']\n    model: {name}:M.Inner\n")
    assert [transform(1) for transform in flow.load_transforms()] == [1, [1, 1]]
    model = flow.load_model()
    assert model is not None
    assert model.__qualname__ == "M.Inner"


def test_a_flow_without_transforms_and_model_has_none(declare: Declare) -> None:
    flow = declare("      type: x\n")
    assert (flow.load_transforms(), flow.load_model()) == ([], None)


def make_all(flow: Flow) -> Any:
    return flow.load_transforms(), flow.load_model()


@pytest.mark.parametrize(
    ("code", "option", "expected"),
    [
        ("", "transforms: [m:f]", "6:18: flows.a.transforms[0]: m:f: m (m.py) has no f"),
        ("def clean(): 1", "transforms: [m:clena]", "has no clena: did you mean 'clean'?"),
        (
            "f = 5",
            "transforms: [m:f]",
            "6:18: flows.a.transforms[0]: 'm:f' can't be called: expected a function of one",
        ),
        (
            "def f(): 1",
            "transforms: ['m:f', 'no.such:f']",
            "flows.a.transforms[1]: no.such:f: there is no module no beside",
        ),
        ("def f(): 1", "model: m:f", "6:12: flows.a.model: 'm:f' is no pydantic model: expected a class derived from"),
        ("def f(): 1", "model: f", "6:12: flows.a.model: 'f': expected a dotted path, module:name, such as"),
        ("import nothing_x", "model: m:M", "6:12: flows.a.model: m:M: m needs nothing_x, which is not installed"),
        ("x = 1\n1 / 0", "model: m:M", "m fails when it is imported: ZeroDivisionError: division by zero (m.py:2)"),
        ("def f(:", "model: m:M", "m:M: m fails when it is imported: SyntaxError: "),
        ("raise SystemExit(3)", "model: m:M", "m fails when it is imported: SystemExit: 3 (m.py:1)"),
    ],
)
def test_a_function_or_model_that_cant_be_had_is_placed_and_said(
    code: str, option: str, expected: str, declare: Declare, tmp_path: Path
) -> None:
    name = own(tmp_path, code)
    flow = declare(
        "      type: x\n", more=f"    {option.replace('m:', f'{name}:')}\n".replace(f"no.such{name}", "no.such")
    )
    found = error(flow, make_all).replace(str(tmp_path) + "/", "").replace(name, "m")
    assert expected in found


@pytest.mark.parametrize("path", ["${S}:f", "json:${S}", "${S}"])
def test_a_path_that_comes_from_the_environment_is_in_no_error(path: str, declare: Declare) -> None:
    flow = declare("      type: x\n", {"S": "hunter2_Zq9"}, more=f"    transforms: ['{path}']\n    model: {path}\n")
    for make in (Flow.load_transforms, Flow.load_model):
        with pytest.raises(ConfigError, match=r"\$\{S\}") as caught:
            make(flow)
        assert "hunter" not in "".join(traceback.format_exception(caught.value))


def test_all_transforms_that_cant_be_had_are_said_at_once(declare: Declare) -> None:
    flow = declare("      type: x\n", more="    transforms: ['json:nope', 'json:loads', 'json:nix']\n")
    assert [line.split(": ")[1] for line in error(flow, make_all).splitlines()] == [
        "flows.a.transforms[0]",
        "flows.a.transforms[2]",
    ]
