"""`millrace repartition`: a flow that has been drained goes on in other lists, where it stopped, with its books."""

from __future__ import annotations

import json
import signal

import pytest

from millrace_pipeline.envelope import DeadLetter
from millrace_pipeline.flows.flow import Flow, load
from tests.conftest import eventually
from tests.queues import Queue
from tests.services import Place, Service

FIRST, MORE = 60, 40
SOURCE = "def numbers():\n    for n in range({count}):\n        yield {{'n': n, 'key': f'k{{n % 17}}'}}\n"


def write(place: Place, partitions: int, count: int = FIRST) -> None:
    place.module(SOURCE.format(count=count))
    place.flow(
        source={"type": "python", "function": "theirs:numbers", "counted": True},
        queue={"partitions": partitions} if partitions > 1 else {},
    )


def run(place: Place, *arguments: str) -> Service:
    service = place.start(*arguments)
    service.wait()
    return service


def flow_of(place: Place) -> Flow:
    return load(place.folder / "flows.yaml")["numbers"]


def drained(place: Place, partitions: int) -> None:
    """All records there are so far go through so many partitions."""
    write(place, partitions)
    assert place.produce().wait() == 0
    place.deliver_the_rest()


@pytest.mark.parametrize(("was", "now"), [(2, 3), (3, 2), (1, 3), (3, 1)])
def test_a_drained_flow_goes_on_in_other_lists_where_it_stopped(place: Place, was: int, now: int) -> None:
    drained(place, was)
    write(place, now, FIRST + MORE)
    refused = place.produce()
    assert refused.wait() == 2
    assert "`millrace repartition` carries it over" in refused.said
    done = run(place, "repartition", "numbers", "--yes")
    assert done.process.returncode == 0, done.said
    assert place.produce().wait() == 0
    place.deliver_the_rest()
    assert place.numbers() == list(range(FIRST + MORE))
    checked = run(place, "verify", "--sink", "--json")
    assert checked.process.returncode == 0, checked.printed
    shown = json.loads(checked.printed)["numbers"]
    assert (shown["published"], shown["delivered"], shown["sink"]["missing"]) == (FIRST + MORE, FIRST + MORE, 0)


def test_there_and_back_again_counts_nothing_twice(place: Place) -> None:
    drained(place, 2)
    for count, now in ((FIRST + MORE, 3), (FIRST + 2 * MORE, 2)):
        write(place, now, count)
        assert run(place, "repartition", "numbers", "--yes").process.returncode == 0
        assert place.produce().wait() == 0
        place.deliver_the_rest()
        assert place.numbers() == list(range(count))
        assert run(place, "verify", "--sink").process.returncode == 0


def test_what_is_kept_as_the_file_says_is_left_alone(place: Place) -> None:
    drained(place, 2)
    done = run(place, "repartition", "numbers", "--yes")
    assert (done.process.returncode, done.printed) == (0, "numbers is kept in 2 partitions: there is nothing to do\n")


def test_keys_that_dedupe_remembers_keep_it_from_being_changed(place: Place) -> None:
    drained(place, 2)
    write(place, 2, FIRST + MORE)
    place.flow(**{**place.flows["numbers"], "dedupe": {"window": "1h", "key": "/n"}})
    assert place.produce().wait() == 0
    place.deliver_the_rest()
    place.flow(**{**place.flows["numbers"], "queue": {"partitions": 3}})
    done = run(place, "repartition", "numbers", "--yes")
    assert done.process.returncode == 2
    assert "wait until its window is over" in done.said


def test_a_pause_goes_over_to_the_new_lists(place: Place) -> None:
    drained(place, 2)
    assert run(place, "pause", "numbers", "--consumers").process.returncode == 0
    write(place, 3)
    assert run(place, "repartition", "numbers", "--yes").process.returncode == 0
    for part in flow_of(place).lists:
        queue = Queue(place.redis_url, part.queue.key)
        assert queue.books().paused.keys() == {"consumers"}
        queue.close_all()


def refused(place: Place, now: int, says: str) -> None:
    """It changes nothing, says so, and what is on the lists is as before."""
    write(place, now)
    done = run(place, "repartition", "numbers", "--yes")
    assert done.process.returncode == 2, done.said
    assert says in done.said
    assert run(place, "status").process.returncode == 2


def test_what_waits_keeps_it_from_being_changed(place: Place) -> None:
    write(place, 2)
    assert place.produce().wait() == 0
    refused(place, 3, "ready: let its consumers deliver them")


def test_a_dead_letter_keeps_it_from_being_changed(place: Place) -> None:
    drained(place, 2)
    queue = Queue(place.redis_url, flow_of(place).lists[1].queue.key)
    queue.publish([], dead=[DeadLetter(b"{", "no JSON")])
    queue.close_all()
    refused(place, 3, "numbers.1 has 1 dead: put them back or drop them: `millrace dead ls numbers.1`")


def test_a_producer_that_reads_keeps_it_from_being_changed(place: Place) -> None:
    drained(place, 2)
    place.module("import time\ndef numbers():\n    time.sleep(60)\n    yield {'n': 0}\n")
    producer = place.produce()
    producer.await_event("source_opened")
    done = run_with(place, 3)
    assert "a producer reads its source" in done.said
    producer.kill()


def run_with(place: Place, partitions: int) -> Service:
    """Runs it for so many partitions, and puts the file back."""
    flows = (place.folder / "flows.yaml").read_text()
    place.flow(source=place.flows["numbers"]["source"], queue={"partitions": partitions})
    done = run(place, "repartition", "numbers", "--yes")
    (place.folder / "flows.yaml").write_text(flows)
    return done


def test_a_consumer_that_is_there_keeps_it_from_being_changed(place: Place) -> None:
    drained(place, 2)
    consumer = place.consume()
    consumer.await_event("service_started")
    consumer.until(lambda: "has consumers, " in run_with(place, 3).said)
    assert consumer.terminate() == 0


def test_a_flush_that_only_some_partitions_have_is_finished_first(place: Place) -> None:
    write(place, 2)
    killed = place.produce(MILLRACE_KILLPOINT="producer.between_partitions:1")
    assert killed.wait() == -signal.SIGKILL
    place.deliver_the_rest()
    refused(place, 3, "start it once more with `partitions: 2`")
    write(place, 2)
    assert place.produce().wait() == 0
    place.deliver_the_rest()
    write(place, 3)
    assert run(place, "repartition", "numbers", "--yes").process.returncode == 0
    assert place.produce().wait() == 0
    place.deliver_the_rest()
    assert place.numbers() == list(range(FIRST))


def test_a_producer_that_stood_by_meanwhile_publishes_nothing_into_the_old_lists(place: Place) -> None:
    drained(place, 2)
    place.module("import time\ndef numbers():\n    time.sleep(60)\n    yield {'n': 0}\n")
    leader = place.produce()
    leader.await_event("source_opened")
    standby = place.produce()
    standby.await_event("producer_stands_by")
    standby.freeze()
    leader.kill()
    eventually(lambda: run_with(place, 3).process.returncode == 0, 30)
    standby.signal(signal.SIGCONT)
    assert standby.wait() == 2
    assert "is kept in 3 partitions in this Redis" in standby.said
