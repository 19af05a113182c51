"""`millrace autoscale --engine swarm` on a real manager: it finds the services that consume, and sets their number.

What consumes in them is played by a process that sleeps: here only their number matters. test_swarm.py has real ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.acceptance.stackrun import until
from tests.acceptance.swarmnodes import RUN, Nodes, why_not
from tests.services import Place

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

IMAGE = "python:3.13-slim"
SLEEPS = ("sh", "-c", "sleep 86400", "millrace")


@pytest.fixture
def nodes(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    reason = why_not()
    if reason and os.environ.get("MILLRACE_SWARM") == "required":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    found = Nodes(tmp_path_factory.mktemp("swarm"), 1)
    try:
        found.up()
        found.load(IMAGE)
        yield found
    finally:
        found.down()


def test_it_finds_what_consumes_and_sets_how_many_there_are(nodes: Nodes, place: Place) -> None:
    place.flow(source={"type": "external"})
    for name, words in (("consumer-numbers", ("consume", "numbers")), ("producer-numbers", ("produce", "numbers"))):
        of_stack = ("--label", "com.docker.stack.namespace=mill", "--name", f"mill_{name}", "--replicas", "2")
        nodes.on(1, "service", "create", "--detach", *of_stack, IMAGE, *SLEEPS, *words)

    def replicas(name: str) -> int:
        (found,) = json.loads(nodes.on(1, "service", "inspect", f"mill_{name}"))
        return int(found["Spec"]["Mode"]["Replicated"]["Replicas"])

    options = ("--engine", "swarm", "--stack", "mill", "--idle", "1s", "--calm", "1s")
    manager = {"DOCKER_HOST": f"unix://{RUN}/1.sock"}
    scaling = place.start("autoscale", "numbers", *options, **manager)
    assert scaling.await_event("autoscale_started")["services"] == ["mill_consumer-numbers"]
    until("nobody is left", lambda: replicas("consumer-numbers") == 0)
    place.publish(range(10))
    until("the first is back", lambda: replicas("consumer-numbers") == 1)
    assert replicas("producer-numbers") == 2
    place.deliver_the_rest()
    until("nobody is left again", lambda: replicas("consumer-numbers") == 0)
    assert scaling.terminate() == 0
    assert replicas("consumer-numbers") == 1  # else nobody would wake it

    nowhere = place.start("autoscale", "numbers", "--engine", "swarm", "--stack", "elsewhere", **manager)
    assert nowhere.wait() == 2
    assert "there is no stack elsewhere" in nowhere.said
