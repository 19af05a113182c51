"""Helper: threads for calls that may block, beside the reactor's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """Return what a call gives that may block, made in a thread that keeps no process alive."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            kept = error
            call_in(loop, lambda: None if done.cancelled() else done.set_exception(kept))
        else:
            call_in(loop, lambda: None if done.cancelled() else done.set_result(result))

    threading.Thread(target=run, name="crawl helper", daemon=True).start()
    return await done


def call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Have the loop call this, from whatever thread; nothing where it is closed."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
