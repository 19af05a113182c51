"""Exits: what the end of a command tells a script. docs/how-to/exit-codes.md has them as one table."""

from __future__ import annotations

FAILED = 1
"""What was asked for failed, or is not so: a record is missing, a service gave up, a sink doesn't answer."""

WRONG = 2
"""The command line, flows.yaml, or what they name is wrong: nothing was done, and trying again changes nothing."""

TOO_MANY_DEAD = 3
"""All was done, and more records became dead letters than the flow's `dead.fail_above`, or --fail-on-dead, allows."""

PAUSED = 5
"""It was to end once all is done, and a person has paused what would do it. Resume the flow, and try again."""

UNREACHED = 4
"""A command that asks Redis, or reads a sink again, got no answer: nothing is known. Try again later."""
