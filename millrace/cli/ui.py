"""`millrace ui`: the page of all flows, in a browser."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.cli.asked import Asked
from millrace.cli.flowsfile import FlowsOption, choose_lists, settings_with
from millrace.server import Server, without_secrets
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.extras import need
from millrace_pipeline.process.listening import LOOPBACK
from millrace_pipeline.process.settings import Settings

if TYPE_CHECKING:
    from millrace.ui.door import Door

app = typer.Typer()

PORT = 8484


@app.command(epilog="Example: `millrace ui`, then open http://127.0.0.1:8484/")
def ui(
    flows: FlowsOption = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = LOOPBACK,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 is any free one.")] = PORT,
    read_only: Annotated[bool, typer.Option("--read-only", help="Nobody changes anything by it.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Nobody looks without signing in, either.")] = False,
) -> None:
    """Serves a page that shows all flows live, and what is to be done about them: dead letters, variants.

    It reads as the user of REDIS_URL, who may be `reader`. It changes things as the user of MILLRACE_OPERATOR_URL, for
    who knows MILLRACE_UI_TOKEN; without these it is read only. On the embedded Valkey of this folder neither is needed:
    the link that it prints signs in, once.

    Exit codes: 0 it was told to end; 2 the flow, a setting or the address is wrong.
    """
    for module in ("starlette", "uvicorn", "jinja2"):
        need(module, "ui", "millrace ui")
    from millrace.ui.app import app_of
    from millrace.ui.serving import hosts_of, listen, serve
    from millrace.ui.signing import Signing
    from millrace.ui.site import Site

    settings = settings_with(flows)
    chosen = {flow.name: flow for flow in choose_lists(settings, [])}
    asked = Asked.of(settings)
    door, operator_url = _door(settings, asked.server, read_only=read_only, private=private)
    listening = listen(host, port)
    where = listening.getsockname()
    site = Site(chosen, asked.server, operator_url, door, where[1])
    shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104
    address = f"http://{shown}:{where[1]}/"
    signing = Signing(site, address)
    sys.stderr.write(f"Millrace is at {address}\n" + (f"{door.read_only}\n" if door.read_only else ""))
    signing.say_link()
    serve(app_of(site, hosts_of(host, settings.ui_hosts), signing), site.watch, listening)


def _door(settings: Settings, server: Server, *, read_only: bool, private: bool) -> tuple[Door, str]:
    """Who may come in, and as whom things are changed. Raises ConfigError."""
    from millrace.ui.door import Door

    token, operator = settings.token, settings.operator
    if operator is not None and without_secrets(operator) != without_secrets(server.url):
        raise ConfigError(
            f"MILLRACE_OPERATOR_URL is another Redis than the one that is read: {without_secrets(operator)} and "
            f"{without_secrets(server.url)}: write the same address in both, with another user"
        )
    why = ""
    if read_only:
        why = "This page is read only: it was started with --read-only."
    elif server.kind != "embedded" and (operator is None or token is None):
        lacks = [
            name for name, told in (("MILLRACE_OPERATOR_URL", operator), ("MILLRACE_UI_TOKEN", token)) if told is None
        ]
        why = f"This page is read only: set {' and '.join(lacks)} (docs/how-to/page.md), or use `millrace dead`."
    if private and token is None and server.kind != "embedded":
        raise ConfigError("--private needs something to sign in with: set MILLRACE_UI_TOKEN")
    return Door(token, read_only=why, private=private), operator or server.url
