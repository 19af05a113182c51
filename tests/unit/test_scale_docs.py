"""The pages on autoscaling and on any Redis say what the commands, the renders and the tests have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from millrace import cli
from millrace.scaling.scaler import GAUGES
from millrace.scaling.watch import Reading
from millrace_pipeline.redis.service import MANAGED
from tests.conftest import SERVERS
from tests.servers.test_anywhere import SURROUNDINGS
from tests.unit.test_render import folder
from tests.unit.test_render_kubernetes import objects

__all__ = ["folder"]  # the fixture

ROOT = Path(__file__).parents[2]
AUTOSCALE = (ROOT / "docs" / "how-to" / "autoscale.md").read_text()
ANY_REDIS = (ROOT / "docs" / "how-to" / "managed-redis.md").read_text()


def options(command: str) -> dict[str, Any]:
    """The options of a command, and what they are where nobody gives them."""
    if not cli.app.registered_commands:
        cli.compose([])
    found = typer.main.get_group(cli.app).commands[command]  # type: ignore[attr-defined]
    return {one.opts[0]: one.default for one in found.params if one.opts[0].startswith("--")}


def test_every_option_of_autoscale_is_there_with_its_default() -> None:
    rows = re.findall(r"^\| (`--[^|]+) \| ([^|]*)", AUTOSCALE, re.MULTILINE)
    told: dict[str, str] = {}
    for names, default in rows:
        words = [word.strip() for word in default.split(",")]
        for index, name in enumerate(re.findall(r"`(--[\w-]+)`", names)):
            told[name] = words[min(index, len(words) - 1)].strip("`–")
    found = {name: "" if default is None else str(default) for name, default in options("autoscale").items()}
    assert told == {name: default for name, default in found.items() if name != "--flows"}


def test_what_the_scaler_says_is_what_the_page_shows() -> None:
    (line,) = re.findall(r'^\{"flow":"wikipedia".*$', AUTOSCALE, re.MULTILINE)
    shown = set(re.findall(r'"(\w+)":', line)) - {"desired"}
    assert shown == set(Reading.__struct_fields__) - {"seen"}
    assert all(f"`{name}`" in AUTOSCALE for name in GAUGES)


def test_the_values_on_the_page_render_what_it_shows(folder: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", AUTOSCALE, re.DOTALL)
    values, trigger = blocks[0], yaml.safe_load(blocks[1])
    scaled = [one for one in objects(values) if one["kind"] == "ScaledObject"]
    assert trigger["triggers"][0] in [one["spec"]["triggers"][0] for one in scaled]


def test_the_table_has_all_that_is_run_and_nothing_else() -> None:
    _, _, table = ANY_REDIS.partition("## What was run")
    rows = re.findall(r"^\| ([^|]+) \|(.*)\|$", table, re.MULTILINE)
    assert [name.strip().removesuffix(" (ACL)") for name, _ in rows[1:]] != []
    names = {re.sub(r" \(ACL\)$", "", name.strip()) for name, cells in rows if "✓" in cells}
    assert names == set(SURROUNDINGS)
    (heads,) = re.findall(r"^\| \| (Redis 7.*) \|$", table, re.MULTILINE)
    columns = [re.match(r"(\w+) (\d+\.\d+)", head.strip()) for head in heads.split("|")]
    shown = {f"{found[1].lower()}-{found[2]}" for found in columns if found}
    assert {re.sub(r"^valkey-9\.\d+$", "valkey-9", name) for name in shown} == set(SERVERS)


@pytest.mark.parametrize("managed", MANAGED, ids=lambda managed: managed.name)
def test_every_managed_service_has_a_row(managed: Any) -> None:
    assert re.search(rf"^\| (Amazon )?{managed.name.removeprefix('Amazon ')} \|", ANY_REDIS, re.MULTILINE)
