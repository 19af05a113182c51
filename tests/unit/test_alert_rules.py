"""Alert rules: what they mean, in words of the file, and when they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from millrace_pipeline.alerting.judging import Finding, judge, turn
from millrace_pipeline.alerting.timeline import Mark, Timeline
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.alerts import Alert
from millrace_pipeline.flows.flow import load
from millrace_pipeline.queue.alerts import Stand, State

INF = float("inf")


def alert(**rule: Any) -> Alert:
    return Alert.model_validate(rule)


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ({"age": ">2m for 5m"}, "age >2m for 5m"),
        ({"age": "120"}, "age >2m"),
        ({"age": 90}, "age >1m30s"),
        ({"dead": 0}, "dead >0"),
        ({"dead": "> 100 for 1h"}, "dead >100 for 1h"),
        ({"silent": "10m"}, "silent 10m"),
        ({"held_back": 300}, "held_back 5m"),
        ({"outage": "1m"}, "outage 1m"),
        ({"null_share": {"field": "/price", "above": "20%"}}, "null_share /price >20% over 5m"),
    ],
)
def test_a_rule_has_one_name_however_it_is_written(written: dict[str, Any], rule: str) -> None:
    assert alert(**written).rule == rule


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ('{age: ">2m for 5x"}', 'alerts[0].age: expected an age such as ">2m" or ">2m for 5m"'),
        ("{age: 90d}", "of 30 days at most"),
        ("{dead: lots}", 'alerts[0].dead: expected a number such as ">0" or ">100 for 5m"'),
        ("{dead: -1}", "alerts[0].dead: expected a number"),
        ("{silent: 10m, outage: 1m}", "expected one of age, dead, silent, null_share, held_back, outage in each item"),
        ("{}", "in each item of the list, not 0"),
        ("{silent: 0s}", "alerts[0].silent: expected more than 0"),
        ("{null_share: {field: /a, above: 20}}", "null_share.above: expected a share such as 1%"),
        ("{null_share: {above: 20%}}", "null_share.field: is missing"),
        ("{loud: 1}", "alerts[0].loud: unknown option"),
        ('{dead: ">0"}, {dead: 0}', "the alert `dead >0` is there twice"),
    ],
)
def test_what_is_no_alert_is_refused_at_its_place(tmp_path: Path, written: str, told: str) -> None:
    file = tmp_path / "flows.yaml"
    file.write_text(f"flows:\n  a:\n    source: {{type: stdin}}\n    alerts: [{written}]\n    sink: {{type: 'null'}}\n")
    with pytest.raises(ConfigError) as raised:
        load(file)
    assert told in str(raised.value)
    assert ":4:" in str(raised.value)


def test_a_webhook_that_is_none_is_refused_without_a_word_of_it(tmp_path: Path) -> None:
    file = tmp_path / "flows.yaml"
    file.write_text(
        "flows:\n  a:\n    source: {type: stdin}\n    notify: {webhook: '${HOOK}'}\n    sink: {type: 'null'}\n"
    )
    with pytest.raises(ConfigError) as raised:
        load(file, {"HOOK": "ftp://sesame"})
    assert "sesame" not in str(raised.value)
    assert load(file, {"HOOK": ""})["a"].notify.webhook is None


def test_age_is_since_the_publish_as_the_history_of_counts_has_it() -> None:
    timeline = Timeline([Mark(1000, 1010, 0, 0), Mark(1500, 1510, 50, 50)])
    timeline.add(2000, 100, 100)
    assert timeline.oldest_age(2000, 100, 0) == 0
    assert timeline.oldest_age(2000, 100, 100) == 990  # ours: it came in the step that began at 1000
    assert timeline.oldest_age(2000, 100, 30) == 490


def test_what_others_pushed_came_at_any_time_until_the_next_look() -> None:
    timeline = Timeline([Mark(1000, 1010, 0, 0), Mark(1500, 1510, 50, 0)])
    timeline.add(2000, 100, 0)
    assert timeline.oldest_age(2000, 100, 100) == 500
    assert timeline.oldest_age(2000, 100, 30) == 0
    timeline.add(2005, 100, 0)
    timeline.add(2010, 100, 0)
    assert timeline.oldest_age(2010, 100, 30) == 10


def test_silence_begins_with_the_last_record_and_anew_on_an_emptied_list() -> None:
    timeline = Timeline([Mark(1000, 1010, 0, 0)])
    timeline.add(2000, 5, 5)
    for now in range(2005, 2100, 5):
        timeline.add(now, 5, 5)
    assert timeline.quiet(2095, 5) == 1085
    timeline.add(3000, 6, 6)
    assert timeline.quiet(3000, 6) == 0
    timeline.add(3005, 0, 0)
    assert timeline.quiet(3010, 0) == 5


def stand(**more: Any) -> Stand:
    return Stand(**{"now": 100.0, "came": 10, "published": 10, "waiting": 0, "dead": 0, "full": False, **more})


def found(rule: Alert, at: Stand, share: tuple[int, int] = (0, 0)) -> Finding | None:
    return judge(rule, at, Timeline([Mark(0, 10, 0, 0)]), 5, lambda *_: share)


def test_each_kind_holds_as_the_page_says() -> None:
    dead, full = alert(dead=">1"), alert(held_back="1s")
    assert [found(dead, stand(dead=count))[0] for count in (1, 2)] == [False, True]  # type: ignore[index]
    assert found(full, stand(waiting=5))[0]  # type: ignore[index]
    assert found(full, stand(full=True))[0]  # type: ignore[index]
    assert not found(full, stand(waiting=4))[0]  # type: ignore[index]
    share = alert(null_share={"field": "/a", "above": "50%", "at_least": 10})
    assert found(share, stand(), (9, 9)) is None
    assert [found(share, stand(), (10, null))[0] for null in (5, 6)] == [False, True]  # type: ignore[index]
    assert found(alert(outage="1s"), stand()) is None


def test_what_must_last_is_pending_first_and_begins_anew_after_a_gap() -> None:
    rule = alert(dead=">0 for 1m")
    yes, no = Finding(True, 3, 100), Finding(False, 0, 100)
    pending = turn(rule, yes, None, 100, "a")
    assert pending is not None
    assert pending.state == State(False, 100_000, "a:dead >0 for 1m:100000", 3)
    assert turn(rule, yes, pending.state, 159, "a") is None
    raised = turn(rule, yes, pending.state, 160, "a")
    assert raised is not None
    assert raised.state is not None
    assert (raised.state.raised, raised.state.id) == (True, "a:dead >0 for 1m:100000")
    assert turn(rule, yes, raised.state, 500, "a") is None
    over = turn(rule, no, pending.state, 120, "a")
    assert over is not None
    assert over.state is None
    assert turn(rule, no, None, 120, "a") is None


def test_an_alert_of_two_kinds_is_none() -> None:
    with pytest.raises(ValidationError):
        alert(silent=1, outage=1)
