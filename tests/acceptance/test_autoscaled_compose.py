"""`millrace autoscale --engine compose` on a stack that `millrace render compose` wrote: to none, and awake again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from tests.acceptance.stackrun import until
from tests.acceptance.test_rendered_compose import COUNT, ROOT, VALUES, Rendered
from tests.integration.ports import free_port

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

FAST = ("--idle", "1s", "--calm", "2s", "--max", "3")


@pytest.fixture(scope="module")
def rendered(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rendered]:
    found = Rendered(tmp_path_factory.mktemp("autoscaled"))
    (found.folder / "values.yaml").write_text(VALUES.format(name=found.name) + "autoscale: {max: 3}\n")
    text = found.run(sys.executable, "-P", "-m", "millrace", "render", "compose", "--values", "values.yaml")
    (found.folder / "docker-compose.yml").write_text(text.replace("${SCALER_PORT:-9191}", str(free_port())))
    found.run("docker", "build", "--quiet", "--tag", f"{found.name}-base", str(ROOT))
    try:
        yield found
    finally:
        found.compose("down", "--volumes", "--remove-orphans")
        found.run("docker", "rmi", f"{found.name}-base", f"{found.name}-flows:latest")


def test_a_stack_goes_to_no_consumers_and_wakes_again(rendered: Rendered) -> None:
    rendered.compose("up", "--detach", "--build")
    place = rendered.compose("port", "scaler", "9191").strip()

    def told() -> dict[str, int]:
        with urllib.request.urlopen(f"http://{place}/scale/my_numbers", timeout=5) as answer:
            found: dict[str, int] = json.load(answer)
            return found

    def consumers() -> int:
        return rendered.compose("ps", "--format", "{{.Service}}").split().count("consumer-my-numbers")

    command = [sys.executable, "-P", "-m", "millrace", "autoscale", "--engine", "compose", *FAST]
    log = (rendered.folder / "autoscale.log").open("wb")
    scaling = subprocess.Popen(
        [*command, "--scaler", f"http://{place}"], cwd=rendered.folder, env={**os.environ, "WORD": "x"}, stderr=log
    )
    try:
        until("nobody is left", lambda: consumers() == 0)
        assert told()["ready"] == told()["in_flight"] == 0
        rendered.compose("up", "--detach", "--no-deps", "--force-recreate", "producer-my-numbers")
        until("all of the second run is delivered", lambda: consumers() == 0 and _delivered(rendered) == 2 * COUNT)
    finally:
        scaling.terminate()
        assert scaling.wait(90) == 0, (rendered.folder / "autoscale.log").read_text()
    until("it leaves one", lambda: consumers() == 1)


def _delivered(rendered: Rendered) -> int:
    said = rendered.compose("exec", "-T", "scaler", "millrace", "status", "my_numbers", "--json")
    found: dict[str, dict[str, int]] = json.loads(said)
    return found["my_numbers"]["delivered"]
