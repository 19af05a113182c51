"""The Kafka cluster of the tests."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

from tests.conftest import eventually
from tests.kafka_cluster import KafkaCluster

TGKILL = {"x86_64": 234, "aarch64": 131}[os.uname().machine]


def threads() -> set[int]:
    return {int(thread.name) for thread in Path("/proc/self/task").iterdir()}


def test_a_signal_ends_no_cluster() -> None:
    """One that a thread of it got, such as the alarm of a test's timeout, ended it, now and then, in silence."""
    heard = []
    before, handler = threads(), signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    try:
        with KafkaCluster() as cluster:
            for thread in threads() - before:
                ctypes.CDLL(None).syscall(TGKILL, os.getpid(), thread, signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGUSR1)
            eventually(lambda: heard)
            cluster.create_topic("a", 1)
            assert cluster.partitions("a") == [0]
    finally:
        signal.signal(signal.SIGUSR1, handler)
