"""The table fault × invariant: each test says which row it proves and what it checked; the end of the run prints it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from millrace.embedded import Directive, Embedded
from tests.faults.elsewhere import ELSEWHERE
from tests.faults.flowrun import FlowRun
from tests.faults.invariants import Invariants
from tests.faults.proxy import Proxy
from tests.faults.shippedrun import ShippedRun
from tests.faults.ways import LED, PLAIN, SHIPPED, WAYS, Way

LETTERS = "CSDLB"
PROPERTY = "fault"

Row: TypeAlias = Callable[[str, Invariants | ShippedRun | str], None]


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """Says at the start of a test which row of the table it proves, and who collects the invariants that held.

    row("Redis SIGKILLed under load", flow.invariants)
    row("poison", "CSL")
    """

    def declare(fault: str, invariants: Invariants | ShippedRun | str) -> None:
        letters = list(invariants) if isinstance(invariants, str) else invariants.checked
        way = SHIPPED if isinstance(invariants, ShippedRun) else str(request.getfixturevalue("way"))
        request.node.user_properties.append((PROPERTY, [fault, letters, way]))

    return declare


@pytest.fixture
def config() -> dict[str, Directive]:
    """Directives of the test's server; a test that wants some is parametrized with them."""
    return {}


@pytest.fixture
def server(tmp_path: Path, config: dict[str, Directive]) -> Iterator[Embedded]:
    """A server of this test's own, with an append-only file, to kill and to fill."""
    with Embedded(aof=True, data_dir=tmp_path / "valkey", config=config) as server:
        yield server


@pytest.fixture
def proxy(server: Embedded) -> Iterator[Proxy]:
    """The way to it that can be cut."""
    assert server.port is not None
    with Proxy("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest.fixture
def way(request: pytest.FixtureRequest) -> Way:
    """How the test's flow publishes: plainly, unless the test is marked `in_every_way`."""
    return getattr(request, "param", PLAIN)


@pytest.fixture
def flow(server: Embedded, tmp_path: Path, way: Way) -> Iterator[FlowRun]:
    """A flow of numbers on that server."""
    with FlowRun(tmp_path, server.url, way) as flow:
        yield flow


@pytest.fixture
def shipped(server: Embedded, tmp_path: Path) -> Iterator[ShippedRun]:
    """Both shipped flows on that server."""
    with ShippedRun(tmp_path, server.url) as shipped:
        yield shipped


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the table. A row holds what its tests checked together; one that failed says so."""
    stats = terminalreporter.stats
    reports = [report for outcome in ("passed", "failed") for report in stats.get(outcome, []) if report.when == "call"]
    table: dict[str, _Proof] = {}
    for report in reports:
        for name, value in report.user_properties:
            if name == PROPERTY:
                fault, letters, way = value
                proof = table.setdefault(fault, _Proof())
                proof.letters |= set(letters)
                proof.ways.add(way)
                proof.tests += 1
                proof.failed += report.failed
    if not table:
        return
    table |= {fault: _Proof(set(letters), elsewhere=tests) for fault, (letters, *tests) in ELSEWHERE.items()}
    width = max(map(len, table))
    terminalreporter.section("fault × invariant")
    terminalreporter.write_line(f"{'':{width}}  {' '.join(LETTERS)}")
    for fault, proof in sorted(table.items(), key=lambda item: item[0].casefold()):
        held = "✓" if proof.tests else "•"
        marks = " ".join(held if letter in proof.letters else "·" for letter in LETTERS)
        terminalreporter.write_line(f"{fault:{width}}  {marks}  {proof}", red=proof.failed > 0)
    terminalreporter.write_line("C complete  S sound  D distinct  L live  B bounded")
    terminalreporter.write_line("✓ checked in this run  • what the tests named see to  · not asked in this row")


@dataclass
class _Proof:
    """What is known of one row."""

    letters: set[str] = field(default_factory=set)
    ways: set[str] = field(default_factory=set)
    tests: int = 0
    failed: int = 0
    elsewhere: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if self.failed:
            return f"FAILED ({self.failed} of {self.tests})"
        if self.elsewhere:
            return ", ".join(self.elsewhere)
        count = "1 test" if self.tests == 1 else f"{self.tests} tests"
        return ", ".join([count, *self._told_ways()])

    def _told_ways(self) -> Iterator[str]:
        """In which ways of publishing it was proven, where in more than one."""
        if self.ways >= set(map(str, WAYS)):
            yield "in every way"
        elif self.ways >= set(map(str, LED)):
            yield "with a leader"
        if SHIPPED in self.ways:
            yield "as shipped"
