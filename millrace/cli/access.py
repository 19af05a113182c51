"""`millrace access`: a user of Redis for each flow's producer and consumer, and new passwords for them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from millrace.cli.flowsfile import FlowsOption, settings_with
from millrace_pipeline.errors import ConfigError

app = typer.Typer()


@app.command(epilog="Example: `millrace access secrets --rotate add`")
def access(
    folder: Annotated[Path, typer.Argument(help="Where the passwords are, a folder for each user; nobody else's.")],
    flows: FlowsOption = None,
    values: Annotated[
        Path | None, typer.Option("--values", "-v", help="The values of `millrace render`, whose `env` holds here too.")
    ] = None,
    at: Annotated[
        str, typer.Option(help="Where the services find Redis: a URL without user and password.")
    ] = "redis://redis:6379/0",
    rotate: Annotated[
        Literal["add", "use", "drop"] | None,
        typer.Option(help="A step towards new passwords: a second for each user, the services use it, the first ends."),
    ] = None,
    redis: Annotated[str, typer.Option(help="The version of that Redis, where it is older than 7.2.")] = "7.2",
) -> None:
    """Makes a user of Redis and a password for each flow's producer and consumer, for `millrace render`.

    Passwords are made once and stay; `redis/users.acl` is written anew for the lists that flows.yaml has now. It holds
    hashes alone, and is what a Redis of yours needs, too. Nothing is connected to.

    Exit codes: 0 written; 2 the flows file, the URL or the step is wrong, or the folder can't be written to.
    """
    from millrace import access as users
    from millrace.render.values import read_values
    from millrace.rotation import rotate as take
    from millrace.rotation import under_way
    from millrace_pipeline.flows.flow import load
    from millrace_pipeline.process import logs
    from millrace_pipeline.process.settings import Settings

    logs.configure("pretty", "error")
    place = Settings(REDIS_URL=at).url if at else ""
    environ = {**os.environ, **read_values(values, {})[0].env}
    found = list(load(settings_with(flows).flows, environ).values())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        users.make_folders(folder, found)
        if rotate:
            take(folder, rotate)
        users.grant(folder, place, found, version=_version(redis), reload=False)
    except OSError as error:
        raise ConfigError(f"can't write {error.filename}: {error.strerror}") from None
    count = len(list(folder.glob("*/url")))
    sys.stdout.write(f"{folder}: {count} users, and {folder / 'redis' / 'users.acl'} for Redis\n")
    if left := list(under_way(folder)):
        sys.stdout.write(f"a rotation is under way: deploy this, then --rotate {', then --rotate '.join(left)}\n")


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    if not (major.isdigit() and minor.partition(".")[0].isdigit()):
        raise ConfigError(f"--redis: expected a version such as 7.0, not {text!r}")
    return int(major), int(minor.partition(".")[0])
