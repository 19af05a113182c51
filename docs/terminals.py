"""The pictures of commands in the docs: what they print of flows that run, as SVG.

`make screenshots` writes them into docs/images. Nothing on them is made up.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.span_receiver import SentSpan, SpanReceiver

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
COLUMNS, ROWS = 100, 60
NAME, TOOK = 20, 14
"""Columns of a span's name and of how long it took."""
MILLRACE = (sys.executable, "-P", "-m", "millrace")

FLOWS = """
flows:
  orders:
    source: {type: python, function: "shop:orders"}
    transforms: [shop:priced]
    queue: {key: ORDERS}
    dedupe: {key: /order, window: 1h}
    batch: {records: 100, linger: 200ms}
    sink: {type: jsonl, path: lake/orders}
    alerts: [{dead: ">0"}, {age: ">2m for 5m"}, {silent: 10m}]
  invoices:
    source: {type: python, function: "shop:invoices"}
    queue: {key: INVOICES}
    batch: {records: 50, linger: 200ms}
    sink: {type: python, function: "shop:slow"}
    alerts: [{age: ">2s for 5s"}, {silent: 10m}]
"""

SHOP = """
import random
import time

from millrace import Record

TITLES = ("A Light in the Attic", "Tipping the Velvet", "Soumission", "Sharp Objects", "The Requiem Red")


def orders(resume_from=None, rate=420):
    number = resume_from or 0
    while True:
        for _ in range(20):
            number += 1
            price = None if number == 700 else round(random.uniform(5, 60), 2)
            data = {"order": number, "title": random.choice(TITLES), "price": price}
            yield Record(data, key=str(number), position=number)
        time.sleep(20 / rate)


def invoices(resume_from=None):
    return orders(resume_from, 130)


def priced(order):
    if order["price"] is None:
        raise ValueError(f"no price in order {order['order']}")
    return {**order, "price": round(order["price"] * 1.2, 2), "currency": "EUR"} if order["order"] % 25 else None


def slow(batch):
    time.sleep(0.9)
"""

PICTURES = {
    "top": ("top", "--once"),
    "tap": ("tap", "orders", "--diff", "--limit", "3"),
    "where": ("where", "orders", "42", "700", "725", "999999"),
    "alerts": ("alerts",),
    "history": ("history", "orders", "--since", "5m"),
}

_SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
 font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font: bold 18px sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's own fetches a font from the network."""

_DARK = TerminalTheme(
    (24, 26, 31),
    (220, 223, 228),
    [
        (40, 44, 52),
        (224, 108, 117),
        (152, 195, 121),
        (229, 192, 123),
        (97, 175, 239),
        (198, 120, 221),
        (86, 182, 194),
        (220, 223, 228),
    ],
    [
        (110, 118, 135),
        (240, 130, 138),
        (170, 215, 140),
        (240, 205, 140),
        (120, 190, 250),
        (212, 140, 232),
        (105, 200, 212),
        (255, 255, 255),
    ],
)


def main() -> None:
    """Run the flows, and take the pictures."""
    with tempfile.TemporaryDirectory() as scratch, SpanReceiver() as receiver:
        folder = Path(scratch)
        (folder / "flows.yaml").write_text(FLOWS)
        (folder / "shop.py").write_text(SHOP)
        environ = _environ(folder)
        with (folder / "run.log").open("wb") as log:
            traced = {**environ, "MILLRACE_TRACES": "5%", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
            run = [*MILLRACE, "run", "--consumers", "2"]
            running = subprocess.Popen(run, cwd=folder, env=traced, stdout=log, stderr=log)
            try:
                threading.Event().wait(75)
                for name, arguments in PICTURES.items():
                    said = Text.from_ansi(printed(arguments, folder, environ))
                    draw(name, Text.assemble((f"$ millrace {' '.join(arguments)}\n", "bold"), said))
            finally:
                running.send_signal(signal.SIGTERM)
                running.wait(60)
        draw("traces", Text.from_markup(waterfall(receiver.spans())))


def printed(arguments: tuple[str, ...], folder: Path, environ: Mapping[str, str]) -> str:
    """Return what a command prints on a terminal, with its colours."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, True)
    process = subprocess.Popen(
        [*MILLRACE, *arguments],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:
        pass  # the terminal is gone with its last process
    process.wait(60)
    os.close(ours)
    return said.decode().replace("\r\n", "\n").rstrip()


def waterfall(spans: list[SentSpan]) -> str:
    """Return a delivery and the publishes that it links to over their time, as receivers of traces draw them."""
    known = {span.ids: span for span in spans}
    deliveries = (span for span in spans if span.name == "deliver invoices")
    told = max(deliveries, key=lambda span: sum(link.ids in known for link in span.links))
    linked = [known[ids] for ids in dict.fromkeys(link.ids for link in told.links) if ids in known]
    shown = sorted(linked, key=lambda span: span.began)[-6:]
    start, end = shown[0].began, told.began + told.nanoseconds
    scale = (COLUMNS - NAME - TOOK) / (end - start)
    lines = [f"[dim]trace {told.trace_id}, {(end - start) / 1e9:.2f} s[/dim]", ""]
    for span in (*shown, told):
        before = round((span.began - start) * scale)
        width = max(1, round(span.nanoseconds * scale))
        bar, colour = "█" * width, "cyan" if span is told else "green"
        waited = "[dim]" + "·" * max(0, round((told.began - start) * scale) - before - width) + "[/dim]"
        row = " " * before + f"[{colour}]{bar}[/{colour}]" + (waited if span is not told else "")
        took = f"{span.nanoseconds / 1e6:,.1f} ms"
        lines.append(f"{span.name:<{NAME}}{row}" + " " * 2 + f"[dim]{took}[/dim]")
    lines += ["", "[dim]·  on the list, until the batch is claimed[/dim]", ""]
    lines += [f"[dim]{name:<{NAME + 12}}[/dim]{value}" for name, value in sorted(told.attributes.items())]
    return "\n".join(lines)


def draw(name: str, said: Text) -> None:
    """Write a terminal that shows this as SVG."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(said)
        picture = console.export_svg(title=f"millrace {name}", theme=_DARK, code_format=_SVG, unique_id=name)
    file = IMAGES / f"terminal-{name}.svg"
    file.write_text(picture)
    sys.stdout.write(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes\n")


def _environ(folder: Path) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
    parts = [ROOT, *(ROOT / part for part in ("producer", "consumer", "pipeline")), folder]
    return {
        **environ,
        "PYTHONPATH": os.pathsep.join(map(str, parts)),
        "COLUMNS": str(COLUMNS),
        "LINES": str(ROWS),
        "TERM": "xterm-256color",
    }


if __name__ == "__main__":
    main()
