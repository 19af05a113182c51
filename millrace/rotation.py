"""Rotation: new passwords for the users in a folder of `access`, while the services run.

Each user has two passwords for a while, so that there is no moment at which a service holds one that Redis refuses.
Three steps, and after each of them what was rendered anew is deployed, and through:

    add    a second password for each user: Redis takes both, the services go on with the first
    use    the services get the second; Redis, which still takes both, is left alone
    drop   Redis takes the first no more
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from millrace.access import NEXT, OLD, OWN, address, write
from millrace_pipeline.errors import ConfigError

Step = Literal["add", "use", "drop"]


def rotate(folder: Path, step: Step) -> int:
    """Take this step for every user in the folder, and return how many there are; `access.grant` then tells Redis.

    A step that was broken off is taken again. Raises ConfigError where it isn't this step's turn.
    """
    users = [file.parent for file in sorted(folder.glob("*/url"))]
    if not users:
        raise ConfigError(f"there are no users in {folder}: `millrace access {folder}` makes them")
    added = [user for user in users if (user / NEXT).exists()]
    used = [user for user in users if (user / OLD).exists()]
    if step == "add" and used:
        raise ConfigError(f"a rotation is under way in {folder}: the first passwords are valid still: --rotate drop")
    if step == "use" and not added:
        raise ConfigError(f"there are no second passwords in {folder}: --rotate add, deploy that, and then use them")
    if step == "drop" and added:
        raise ConfigError(f"the second passwords in {folder} aren't in use: --rotate use, deploy that, and then drop")
    if step == "drop" and not used:
        raise ConfigError(f"there is no password to drop in {folder}: a rotation begins with --rotate add")
    for user in users:
        _STEPS[step](user)
    return len(users)


def _add(user: Path) -> None:
    if not (user / NEXT).exists():
        url = (user / "url").read_text()
        name = urlsplit(url).username or user.name
        write(user / NEXT, address(url, name, secrets.token_hex(32)), OWN)


def _use(user: Path) -> None:
    if (user / NEXT).exists():
        write(user / OLD, (user / "url").read_text(), OWN)
        (user / NEXT).replace(user / "url")


def _drop(user: Path) -> None:
    (user / OLD).unlink(missing_ok=True)


_STEPS = {"add": _add, "use": _use, "drop": _drop}


def under_way(folder: Path) -> Iterator[str]:
    """Yield the steps that are yet to be taken."""
    if any(folder.glob(f"*/{NEXT}")):
        yield "use"
    if any(folder.glob(f"*/{NEXT}")) or any(folder.glob(f"*/{OLD}")):
        yield "drop"
