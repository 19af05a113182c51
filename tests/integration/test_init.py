"""`millrace init`: what it writes runs as it stands, and a model made of a sample fits every record of it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import BaseModel

from millrace.cli.inference import Source, key_in, seen_in
from millrace.cli.templates import TEMPLATES
from tests.services import Place


def ran(place: Place, *arguments: str, code: int = 0) -> str:
    done = place.start(*arguments)
    assert done.wait() == code, done.said + done.printed
    assert "Traceback" not in done.said
    return done.printed + done.said


def passes_its_own_test(folder: Path) -> None:
    """The written test passes, and the written file is laid out and typed as ours are."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    # The folder is no part of this project: neither its settings nor its conftest count there.
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={folder}", str(folder)]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("flows.py", "test_flows.py"):
        laid_out = ["ruff", "format", "--isolated", "--line-length=120", "--diff", str(folder / name)]
        assert subprocess.run([sys.executable, "-m", *laid_out], capture_output=True, text=True).stdout == ""
    assert yaml.safe_load((folder / "flows.yaml").read_text())["flows"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_template_passes_its_check_and_its_own_test(place: Place, template: str) -> None:
    said = ran(place, "init", "new", "--template", template)
    assert "Next: cd new && millrace check && millrace run" in said
    inside = place.at(place.redis_url, place.folder / "new")
    assert "1 flow OK" in ran(inside, "check")
    passes_its_own_test(place.folder / "new")


def test_the_default_runs_to_its_end_into_files(place: Place) -> None:
    ran(place, "init")
    ran(place, "run", "orders", "--until-empty")
    lines = [json.loads(line) for path in place.folder.glob("data/orders/*") for line in path.read_text().splitlines()]
    assert [(line["id"], line["price"]) for line in lines] == [("A1", 6.8), ("A3", 5.4)]


@pytest.mark.parametrize("there", ["flows.yaml", "flows.py", "test_flows.py", "in/orders.jsonl"])
def test_nothing_is_overwritten_and_then_nothing_is_written(place: Place, there: str) -> None:
    (place.folder / there).parent.mkdir(exist_ok=True)
    (place.folder / there).write_text("mine")
    before = sorted(path for path in place.folder.rglob("*") if not path.name.startswith("0"))
    assert f"there already: {there}. Nothing was written" in ran(place, "init", code=2)
    assert sorted(path for path in place.folder.rglob("*") if not path.name.startswith("0")) == before
    assert (place.folder / there).read_text() == "mine"


def test_a_link_that_leads_nowhere_is_not_written_through(place: Place) -> None:
    (place.folder / "flows.py").symlink_to(place.folder / "elsewhere")
    ran(place, "init", code=2)
    assert not (place.folder / "elsewhere").exists()


TRICKY: list[dict[str, Any]] = [
    {
        "id": f"r{n}",
        "n": n if n % 3 else None,
        "price": 1.5 if n % 2 else 2,
        "large": 2**60 + n if n % 2 else 0.5,
        "day": "2026-11-29",
        "at": "2026-11-29T12:00:00Z" if n % 2 else "2026-11-29T12:00:00.123456+01:00",
        "sometimes": "2026-11-29" if n % 2 else "soon",
        "mixed": n if n % 2 else "text",
        "truth": bool(n % 2),
        "nothing": None,
        "place": {"lat": 1.0, "lon": -2, "class": "x", "tags": ["a", None], **({"alt": 7} if n % 2 else {})},
        "parts": [{"n": 1, "of": {"n": "2"}}, {"n": 2}],
        "lists": [[1], [2.5], []],
        "empty": [],
        "bare": {},
        "either": {"a": 1} if n % 2 else [1, "b"],
        "$schema": "s",
        "schema": "t",
        "_private": 1,
        "model_x": 2,
        "copy": 3,
        "class": "k",
        "date": "2026-11-29",
        "two words": 1,
        "two-words": 2,
        "": 5,
        "9th": 9,
        'quote " and \\ back': 1,
        "Ünï": 1,
        "many": {f"k{i}": i for i in range(n * 100, n * 100 + 100)},
        **({"late": 1} if n > 5 else {}),
    }
    for n in range(10)
]


def test_a_model_made_of_jsonl_takes_each_of_its_records(place: Place) -> None:
    (place.folder / "tricky.jsonl").write_text("".join(json.dumps(one) + "\n" for one in TRICKY))
    ran(place, "init", "new", "--from", "tricky.jsonl")
    inside = place.at(place.redis_url, place.folder / "new")
    assert "1 flow OK" in ran(inside, "check")
    passes_its_own_test(place.folder / "new")
    ran(inside, "run", "tricky", "--until-empty", "--fail-on-dead")
    delivered = [path.read_text() for path in (place.folder / "new").glob("data/tricky/*")]
    assert [json.loads(line) for text in delivered for line in text.splitlines()] == TRICKY
    text = (place.folder / "new" / "flows.py").read_text()
    for line in (
        "    id: str\n",
        "    n: int | None\n",
        "    price: float\n",
        "    large: int | float\n",
        "    day: date\n",
        "    at: datetime\n",
        "    sometimes: str\n",
        "    mixed: int | str\n",
        "    truth: bool\n",
        "    nothing: Any\n",
        "    place: Place\n",
        "    parts: list[Part]\n",
        "    lists: list[list[float]]\n",
        "    late: int | None = None\n",
        '    schema_: str = Field(alias="$schema")\n',
        "    tags: list[str | None]\n",
        "    many: dict[str, Any]\n",
    ):
        assert line in text, line
    assert 'key: "/id"' in (place.folder / "new" / "flows.yaml").read_text()


def test_a_model_made_of_csv_makes_numbers_and_dates_and_null_of_empty_cells(place: Place) -> None:
    rows = [
        ["order id", "day", "pieces", "price", "code", "note", "paid", "", "price"],
        *(
            [f"A{n}", "2026-11-29", "" if n == 3 else str(n), f"{n}.50", f"00{n}", "", "true", "x", "1"]
            for n in range(8)
        ),
        ["too", "short"],
    ]
    with (place.folder / "Sales 2026.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    ran(place, "init", "--from", "Sales 2026.csv")
    text = (place.folder / "flows.py").read_text()
    for line in (
        "class Sales2026(BaseModel):",
        '    order_id: str = Field(alias="order id")\n',
        "    day: date\n",
        "    pieces: int | None\n",
        "    price: float\n",
        "    code: str\n",
        "    note: Any\n",
        "    paid: bool\n",
        "    column_8: str\n",
        "    price_2: int\n",
    ):
        assert line in text, line
    assert "1 flow OK" in ran(place, "check")
    ran(place, "run", "sales-2026", "--until-empty")
    files = list(place.folder.glob("data/sales-2026/*"))
    assert sum(len(path.read_text().splitlines()) for path in files) == 8
    assert "dead" in ran(place, "status")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", b"", "expected a file that ends in .jsonl"),
        ("a.jsonl", b"", "there is no record in it"),
        ("a.csv", b"a,b\n", "there is no record in it"),
        ("a.csv", b"a\n\xff\n", "can't decode byte 0xff"),
        ("gone.jsonl", None, "No such file"),
    ],
)
def test_a_sample_that_is_of_no_use_is_said(place: Place, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (place.folder / name).write_bytes(content)
    assert said in ran(place, "init", "--from", name, code=2)
    assert not (place.folder / "flows.yaml").exists()


def test_lines_that_are_no_records_are_told_and_the_others_fit(place: Place) -> None:
    (place.folder / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n[1]\n{broken\n\n{"a": 2}\n')
    said = ran(place, "init", "--from", "a.jsonl")
    assert "line 2 will become a dead letter: it is no object" in said
    assert "1 more such lines" in said


def test_a_wrong_template_is_told_with_those_there_are(place: Place) -> None:
    assert f"no template 'x'; there are: {', '.join(TEMPLATES)}" in ran(place, "init", "--template", "x", code=2)
    assert "expected one of them" in ran(place, "init", "--template", "files", "--from", "x.csv", code=2)


def test_a_path_with_signs_that_mean_something_is_the_file_itself(place: Place) -> None:
    odd = place.folder / "in [1] ${HOME} $$ *.jsonl"
    odd.write_text('{"id": 1}\n{"id": 2}\n')
    ran(place, "init", "new", "--from", odd.name)
    passes_its_own_test(place.folder / "new")


@pytest.mark.parametrize(
    ("records", "key"),
    [
        ([{"id": 1}, {"id": 2}], "id"),
        ([{"id": 1}, {"id": 1}], None),
        ([{"id": 1}, {"id": None}], None),
        ([{"id": 1}, {}], None),
        ([{"name": "a", "order_id": "x"}, {"name": "b", "order_id": "y"}], "order_id"),
        ([{"name": "a"}, {"name": "b"}], None),
    ],
)
def test_a_key_is_a_field_that_is_in_each_and_in_each_another(records: list[dict[str, Any]], key: str | None) -> None:
    assert key_in(seen_in(records)) == key


TEXTS = some.text(max_size=8) | some.sampled_from(["2026-11-29", "2026-11-29T01:02:03Z", "2026-13-40", "1", "true"])
NUMBERS = some.integers(-(2**70), 2**70) | some.floats(allow_nan=False, allow_infinity=False)
VALUES = some.recursive(
    some.none() | some.booleans() | NUMBERS | TEXTS,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(some.lists(some.dictionaries(some.text(max_size=6), VALUES, max_size=5), min_size=1, max_size=5))
def test_whatever_records_there_are_the_model_takes_them(records: list[dict[str, Any]]) -> None:
    source = Source()
    name = source.model("Thing", seen_in(records), "A thing.")
    space: dict[str, Any] = {"__name__": "made"}
    text = source.text("Made.")
    exec(compile(text, "made.py", "exec", dont_inherit=True), space)
    model = space[name]
    assert issubclass(model, BaseModel)
    for made in space.values():
        if isinstance(made, type) and issubclass(made, BaseModel) and made is not BaseModel:
            made.model_rebuild(_types_namespace=space)
    for record in records:
        model.model_validate_json(json.dumps(record))
