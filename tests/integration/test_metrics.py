"""Metrics: what /metrics says of the flows agrees with their books, and is there before anything happens."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from millrace.embedded import Embedded
from millrace_pipeline import envelope
from millrace_pipeline.envelope import Record
from millrace_pipeline.flows.flow import load
from millrace_pipeline.process import metrics
from millrace_pipeline.process.standing import GAUGES, PAUSED, Standing
from millrace_pipeline.queue.pausing import pause
from millrace_pipeline.queue.roles import CONSUMER, PRODUCER, Role
from tests.conftest import eventually
from tests.integration.test_acl import KEY, Guarded
from tests.services import NOWHERE, PATIENCE, Place, Service

OLD = "2020-01-01T00:00:00.000Z"
NOT_A_PRODUCER_S = {
    *("millrace_in_flight_records", "millrace_delayed_records", "millrace_consumers"),
    *("millrace_oldest_seconds", "millrace_oldest_event_seconds", "millrace_books_difference_records"),
}


def samples(service: Service) -> dict[tuple[str, str], float]:
    """What /metrics says now, by a metric's name and its flow, with the part behind it where there is one."""
    status, text = service.get("/metrics")
    assert status == 200
    return {
        (sample.name, "/".join(filter(None, (sample.labels.get("flow"), sample.labels.get("part"))))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("millrace_")
    }


def test_a_consumer_shows_how_the_flow_stands_as_its_books_say(place: Place) -> None:
    place.flow()
    place.publish(range(25))
    with place.queue() as queue:
        pause(queue, ["consumers"], note="a test")
    consumer = place.consume(http=True)
    consumer.await_event("flow_paused")
    now = samples(consumer)
    books = place.books()
    assert now["millrace_ready_records", "numbers"] == books.ready == 25
    assert now["millrace_lag_records", "numbers"] == books.lag
    assert now["millrace_redis_up", "numbers"] == 1
    assert now["millrace_books_difference_records", "numbers"] == 0
    assert now[PAUSED, "numbers/consumers"] == 1
    assert now[PAUSED, "numbers/producers"] == 0
    assert 0 < now["millrace_oldest_seconds", "numbers"] <= place.books().oldest_seconds
    assert consumer.terminate() == 0


def test_every_metric_of_a_service_is_there_before_anything_happens(place: Place) -> None:
    place.flow()
    consumer, producer = place.consume(http=True), place.produce(http=True)
    for service, own, missing in (
        (consumer, metrics.OF_A_CONSUMER, set()),
        (producer, metrics.OF_A_PRODUCER, NOT_A_PRODUCER_S),
    ):
        wanted = {family.name for metric in own for family in metric.describe()} | set(GAUGES) - missing

        def shown(service: Service = service) -> set[str]:
            return {name for name, flow in samples(service) if flow == "numbers"}

        def all_shown(wanted: set[str] = wanted, service: Service = service) -> bool:
            stems = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in shown(service)}
            return wanted <= stems | shown(service)

        service.until(all_shown)


def test_the_oldest_is_since_its_publish_and_its_own_time_is_another_metric(place: Place) -> None:
    place.flow(source={**NOWHERE, "time": "/at"})
    before = time.time()
    with place.queue() as queue:
        line = envelope.encode(Record({"n": 1}), id="1", source="numbers", time=OLD, mark=queue.keys.ready)
        queue.publish([line])
        pause(queue, ["consumers"], note="a test")
    consumer = place.consume(http=True)
    consumer.await_event("flow_paused")
    now = samples(consumer)
    # The history notes every ten seconds, and this process wasn't there when the record came.
    assert now["millrace_oldest_seconds", "numbers"] <= time.time() - before + 11
    assert now["millrace_oldest_event_seconds", "numbers"] > 5 * 365 * 86400


def test_a_redis_that_is_away_is_said_and_that_it_is_back(place: Place) -> None:
    with Embedded() as server:
        place.redis_url = server.url
        place.flow()
        consumer = place.consume(http=True)
        consumer.until(lambda: samples(consumer).get(("millrace_redis_up", "numbers")) == 1)
        server.stop()
        now = samples(consumer)
        assert now["millrace_redis_up", "numbers"] == 0
        assert ("millrace_ready_records", "numbers") not in now
        server.start()
        consumer.until(lambda: samples(consumer).get(("millrace_redis_up", "numbers")) == 1)


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    with Embedded() as server:
        yield Guarded(server)


@pytest.mark.parametrize(("name", "role"), [("producer", PRODUCER), ("consumer", CONSUMER)])
def test_each_role_may_see_what_its_metrics_show(guarded: Guarded, place: Place, name: str, role: Role) -> None:
    guarded.give(name, role)
    place.flow(queue={"key": KEY})
    flow = load(place.folder / "flows.yaml")["numbers"]
    standing = Standing([flow], guarded.url(name), role=name)  # type: ignore[arg-type]
    shown = {family.name for family in standing.collect() if family.samples}
    standing.close()
    missing = NOT_A_PRODUCER_S if name == "producer" else set()
    assert shown == {*GAUGES, PAUSED} - missing


def test_one_endpoint_of_a_run_shows_how_its_flows_stand(place: Place) -> None:
    place.flow()
    place.publish(range(10))
    run = place.start("run", MILLRACE_HTTP="127.0.0.1:0")
    where = run.await_event("http_serves")["http"]

    def shown() -> str:
        with urllib.request.urlopen(f"http://{where}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    eventually(lambda: 'millrace_lag_records{flow="numbers"} 0.0' in shown(), PATIENCE)
    assert 'millrace_redis_up{flow="numbers"} 1.0' in shown()
