"""The pictures of the page in the docs: flows that run, looked at by a Chromium, each as WebP below 100 kB.

`make screenshots` writes them into docs/images. Nothing on them is made up: it takes as long as there is to be seen.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import FLAGS, NAMES

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
SECONDS = int(os.environ.get("SECONDS_TO_RUN", "420"))
MOST_BYTES = 100_000

FLOWS = """
flows:
  orders:
    source: {type: python, function: "shop:orders"}
    transforms: [shop:priced]
    queue: {key: ORDERS}
    batch: {records: 100, linger: 200ms}
    lease: 10s
    sink: {type: parquet, path: lake/orders, partition: [date]}
  invoices:
    source: {type: python, function: "shop:invoices"}
    queue: {key: INVOICES}
    batch: {records: 50, linger: 200ms}
    lease: 10s
    sink: {type: python, function: "shop:slow"}
  stock:
    source: {type: rest, url: "http://127.0.0.1:9/stock", every: 1s}
    queue: {key: STOCK}
    sink: {type: jsonl, path: lake/stock}
  reviews:
    source: {type: external}
    queue: {key: REVIEWS}
    sink: {type: jsonl, path: lake/reviews}
"""

SHOP = """
import math
import random
import time

from millrace import Record

TITLES = ("A Light in the Attic", "Tipping the Velvet", "Soumission", "Sharp Objects", "The Requiem Red")


def orders(resume_from=None, rate=420):
    number = resume_from or 0
    while True:
        wave = rate * (1 + 0.5 * math.sin(time.time() / 40)) * random.uniform(0.8, 1.2)
        for _ in range(20):
            number += 1
            price = None if random.random() < 0.0006 else round(random.uniform(5, 60), 2)
            data = {"order": number, "title": random.choice(TITLES), "price": price}
            yield Record(data, key=f"o-{number}", position=number)
        time.sleep(20 / wave)


def invoices(resume_from=None):
    return orders(resume_from, 130)


def priced(order):
    if order["price"] is None:
        raise ValueError(f"no price in order {order['order']}")
    return order if order["order"] % 25 else None


def slow(batch):
    time.sleep(0.9)
"""

PICTURES = {
    "page-flows": ("/", 1100),
    "page-flow": ("/flows/orders", 1100),
    "page-letters": ("/flows/orders/dead", 1100),
    "page-letter": ("LETTER", 1100),
    "page-ask": ("/flows/orders/dead/do/replay", 1100),
    "page-phone": ("/flows/invoices", 390),
}
TALLEST = {"page-letters": 640, "page-phone": 1100, "page-flow": 1080}


def main() -> None:
    """Run the flows, and take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "flows.yaml").write_text(FLOWS)
        (folder / "shop.py").write_text(SHOP)
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "REDIS_"))}
        environ["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT), *(str(ROOT / part) for part in ("producer", "consumer", "pipeline")), str(folder)]
        )
        command = [sys.executable, "-P", "-m", "millrace"]
        with (folder / "run.log").open("wb") as log, (folder / "ui.log").open("wb") as said:
            run = [*command, "run", "--consumers", "2"]
            running = subprocess.Popen(run, cwd=folder, env=environ, stdout=log, stderr=log)
            threading.Event().wait(10)
            page = subprocess.Popen([*command, "ui", "--port", "0"], cwd=folder, env=environ, stdout=said, stderr=said)
            try:
                threading.Event().wait(SECONDS)
                look((folder / "ui.log").read_text())
            finally:
                for process in (page, running):
                    process.send_signal(signal.SIGTERM)
                    process.wait(60)


def look(said: str) -> None:
    """Take all pictures of the page that said this of itself."""
    link = re.findall(r"works once: (\S+)", said)[-1]
    address = link.partition("/sign-in")[0]
    program = next(filter(None, map(shutil.which, NAMES)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        context = browser.new_context()
        first = context.new_page()
        first.goto(link)
        first.goto(f"{address}/flows/orders/dead")
        letter = first.locator("tbody th a").first.get_attribute("href") or ""
        signed_in = context.storage_state()
        for scheme in ("light", "dark"):
            for name, (path, width) in PICTURES.items():
                context = browser.new_context(
                    viewport={"width": width, "height": 500},
                    color_scheme=scheme,
                    device_scale_factor=1.5,
                    storage_state=signed_in,
                )
                page = context.new_page()
                page.goto(address + (letter if path == "LETTER" else path))
                page.wait_for_timeout(3500)
                height = min(TALLEST.get(name, 2000), int(page.evaluate("document.documentElement.scrollHeight")))
                page.set_viewport_size({"width": width, "height": height})
                save(browser, page.screenshot(), IMAGES / f"{name}-{scheme}.webp")
                context.close()
        browser.close()


def save(browser: Browser, png: bytes, file: Path) -> None:
    """Write a picture as WebP, as well as it can be below so many bytes."""
    page: Page = browser.new_page()
    told = base64.b64encode(png).decode()
    for quality in (0.92, 0.85, 0.75, 0.6):
        text = page.evaluate(
            """async ([told, quality]) => {
              const picture = await createImageBitmap(await (await fetch(`data:image/png;base64,${told}`)).blob());
              const canvas = new OffscreenCanvas(picture.width, picture.height);
              canvas.getContext("2d").drawImage(picture, 0, 0);
              const made = await canvas.convertToBlob({ type: "image/webp", quality });
              const bytes = new Uint8Array(await made.arrayBuffer());
              return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
            }""",
            [told, quality],
        )
        content = base64.b64decode(text)
        if len(content) < MOST_BYTES:
            break
    file.write_bytes(content)
    page.close()
    sys.stdout.write(f"{file.relative_to(ROOT)}: {len(content):,} bytes, quality {quality}\n")


if __name__ == "__main__":
    began = time.monotonic()
    main()
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")
