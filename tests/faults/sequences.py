"""Sequences: the queue's models, run on a real server for as many random sequences of steps as are asked for."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

SHARES = 4
"""The sequences are shared out among so many tests, so that they can run side by side."""


def run_sequences(model: type[RuleBasedStateMachine], redis_url: str, share: int) -> None:
    """Run a share of `MILLRACE_SEQUENCES` (200) sequences of 50 steps of a model whose server is at its `url`."""
    machine = type(f"{model.__name__}{share}", (model,), {"url": redis_url})
    run = settings(
        max_examples=int(os.environ.get("MILLRACE_SEQUENCES", "200")) // SHARES,
        stateful_step_count=50,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=run)  # type: ignore[no-untyped-call]
