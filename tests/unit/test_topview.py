"""The page of `millrace top`: what it shows of what was seen, on a terminal of any size."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from millrace.bottleneck import bottleneck
from millrace.cli.columns import COLUMNS, NARROW, WIDE, columns_for
from millrace.cli.top import press
from millrace.cli.topview import View, table_of
from millrace.figures import number, rate
from millrace.observing import ConsumerSeen, FlowSeen, load_of
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.queue import Books

NOW = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC)
NONE = {"foreign": 0, "filtered": 0, "in_flight": 0, "dead": 0, "discarded": 0, "oldest_seconds": 0.0, "leases": []}


def flow(name: str = "shop", *, consumers: int = 1, **known: Any) -> FlowSeen:
    counts = {**NONE, "published": 0, "delivered": 0, "ready": 0, "checkpoints": {}}
    books = Books(**{**counts, **{name: known.pop(name) for name in list(known) if name in counts}})
    people = [
        ConsumerSeen(f"host-{number}:4711", write_share=0.5, cpu_share=0.1, out_a_second=7.0, restarts=0)
        for number in range(consumers)
    ]
    seen = FlowSeen(name, f"{name}-KEY", books, consumers=people, **known)
    seen.bottleneck = bottleneck(load_of(seen))
    return seen


def page(view: View, flows: list[FlowSeen], width: int = 80, height: int = 24) -> list[str]:
    text = io.StringIO()
    console = Console(file=text, width=width, height=height, color_system=None, force_terminal=False)
    console.print(view.page(flows, where="redis://127.0.0.1:6379/0", now=NOW, width=width, height=height))
    return text.getvalue().splitlines()


def names(lines: list[str]) -> list[str]:
    found = [line.split()[0] for line in lines[3:] if line[:4] in ("shop", "farm")]
    return [name for name in found if not name.endswith(":")]  # and not the sentences


@pytest.mark.parametrize("width", [40, 80, 132, 250])
@pytest.mark.parametrize("height", [10, 24, 60])
def test_two_hundred_flows_fit_every_terminal_and_no_line_is_longer(width: int, height: int) -> None:
    flows = [flow(f"shop-{n:03}-with-a-rather-long-name", consumers=3, ready=10**n % 10**9) for n in range(200)]
    lines = page(View(), flows, width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width


def test_in_80_columns_each_figure_is_whole() -> None:
    seen = flow(
        "wikipedia",
        ready=1_234_567,
        in_flight=99_999,
        dead=12_345,
        published=10**9,
        in_a_second=12_345.6,
        out_a_second=99_999.0,
        age_seconds=3599.0,
    )
    text = "\n".join(page(View(), [seen]))
    for figure in ("1.23M", "99,999", "12,345", "60.0m", "12,346"):
        assert figure in text
    assert "…" not in text.partition("wikipedia")[2].partition("\n")[0]


def test_rows_are_a_flow_and_its_consumers_or_flows_alone() -> None:
    lines = page(View(), [flow(consumers=2)])
    assert [line.split()[0] for line in lines[3:6]] == ["shop", "host-0:4711", "host-1:4711"]
    view = View()
    press(view, "c")
    assert "host-0:4711" not in "\n".join(page(view, [flow(consumers=2)]))


def test_sorted_by_any_column_the_most_comes_first_and_r_turns_it() -> None:
    flows = [flow(f"shop-{n}", ready=n, dead=n, age_seconds=n, in_a_second=n, out_a_second=n) for n in (1, 3, 2)]
    for column in ("ready", "dead", "age", "in", "out"):
        assert names(page(View(sort=column), flows)) == ["shop-3", "shop-2", "shop-1"]
        assert names(page(View(sort=column, backwards=True), flows)) == ["shop-1", "shop-2", "shop-3"]
    assert names(page(View(sort="flow"), flows)) == ["shop-1", "shop-2", "shop-3"]
    assert names(page(View(), flows)) == ["shop-1", "shop-3", "shop-2"]
    for column in COLUMNS:
        page(View(sort=column), [*flows, FlowSeen("shop-new", "K", consumers=[])])


def test_s_goes_through_all_columns_and_comes_back() -> None:
    view, seen = View(), []
    for _ in range(len(COLUMNS) + 1):
        press(view, "s")
        seen.append(view.sort)
    assert seen == [*COLUMNS, ""]
    press(view, "S")
    assert view.sort == list(COLUMNS)[-1]


def test_a_typed_filter_shows_only_flows_of_that_name() -> None:
    flows = [flow("shop-eu"), flow("shop-us"), flow("farm-eu")]
    view = View()
    for key in ("/", "f", "x", "backspace", "a", "enter"):
        press(view, key)
    assert names(page(view, flows)) == ["farm-eu"]
    assert names(page(View(pattern="*-eu"), flows)) == ["shop-eu", "farm-eu"]
    for key in ("/", "escape"):
        press(view, key)
    assert len(names(page(view, flows))) == 3
    assert not press(view, "/")
    assert not press(view, "q")  # a letter of the filter
    assert "filter: q_" in page(view, flows)[-1]


def test_arrows_scroll_and_never_past_the_end() -> None:
    flows = [flow(f"shop-{n:02}", consumers=0) for n in range(50)]
    view = View()
    assert names(page(view, flows))[0] == "shop-00"
    press(view, "down")
    assert names(page(view, flows))[0] == "shop-01"
    press(view, "end")
    assert "shop-49" in names(page(view, flows))
    press(view, "up")
    assert "shop-49" not in names(page(view, flows))[-1:]
    press(view, "home")
    assert names(page(view, flows))[0] == "shop-00"


def test_a_redis_that_is_away_is_said_with_the_counts_from_before() -> None:
    seen = flow(ready=1234, unreachable="Connection refused", unreachable_since=NOW.timestamp())
    lines = page(View(), [seen])
    assert "Redis doesn't answer" in lines[1]
    assert "Connection refused" in lines[1] + lines[2]
    assert any("1,234" in line for line in lines)


def test_the_worst_flow_is_told_of_first() -> None:
    flows = [
        flow("shop-idle"),
        flow("shop-bound", ready=900, out_a_second=1.0, delivered=1),
        flow("shop-alone", consumers=0, ready=7),
    ]
    flows[1].consumers[0].write_share = 0.99
    flows[1].bottleneck = bottleneck(load_of(flows[1]))
    told = [line for line in page(View(consumers=False), flows) if line.startswith("shop-") and ": " in line]
    assert [line.partition(":")[0] for line in told] == ["shop-alone", "shop-bound", "shop-idle"]


def test_what_a_sink_says_steers_no_terminal() -> None:
    seen = flow(consumers=1)
    seen.consumers[0].trouble = "\x1b[2J\u202eno [bold]route[/bold]\nto host"
    seen.bottleneck = bottleneck(load_of(seen))
    text = "\n".join(page(View(columns=["error"]), [seen]))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]route[/bold] to host" in text


def test_columns_are_chosen_by_name_and_an_unknown_one_is_refused_with_the_list() -> None:
    assert [column.name for column in columns_for(["dead", "ready"], 80)] == ["flow", "dead", "ready"]
    assert [column.name for column in columns_for(None, 80)] == list(NARROW)
    assert [column.name for column in columns_for(None, 200)] == list(WIDE)
    with pytest.raises(ConfigError, match="--columns: no column 'reddy'; there are: flow, consumers, ready"):
        columns_for(["reddy"], 80)


def test_without_a_width_nothing_is_cut() -> None:
    seen = flow("a-name-of-a-flow-that-is-much-longer-than-its-column-is")
    text = io.StringIO()
    Console(file=text, width=100_000).print(table_of(columns_for(WIDE, 200), [(seen, None)]))
    assert seen.name in text.getvalue()


@pytest.mark.parametrize("count", [0, 9, 9_999, 99_999, 100_000, 999_999, 1_000_000, 5 * 10**9, 10**12, 999 * 10**12])
def test_a_number_takes_seven_characters_at_most(count: int) -> None:
    assert len(number(count)) <= 7
    assert len(rate(count / 7)) <= 7
