"""What is said of a Redis before anything is trusted to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from millrace.embedded import Embedded
from millrace_pipeline.redis.preflight import Finding, preflight


def found(findings: list[Finding], words: str) -> Finding:
    return next(finding for finding in findings if words in finding.message)


def test_a_server_that_would_throw_records_away_is_refused_with_the_command_that_mends_it() -> None:
    with Embedded(config={"maxmemory": "10mb", "maxmemory-policy": "allkeys-lru"}) as server:
        finding = found(preflight(server.url), "allkeys-lru")
        assert finding.level == "error"
        assert "CONFIG SET maxmemory-policy noeviction" in finding.mend


def test_a_server_without_persistence_or_limit_is_warned_of() -> None:
    with Embedded(config={"maxmemory": 0}) as server:
        findings = preflight(server.url)
        assert found(findings, "no persistence").level == "warning"
        assert found(findings, "no maxmemory").level == "warning"
        assert all(finding.level != "error" for finding in findings)


def test_a_fit_server_is_found_fit() -> None:
    with Embedded(aof=True) as server:
        assert {finding.level for finding in preflight(server.url)} == {"ok"}


def test_nobody_listening_and_a_wrong_password_are_findings_not_tracebacks() -> None:
    assert preflight("redis://127.0.0.1:1/0")[0].level == "error"
    with Embedded(config={"requirepass": "right"}) as server:
        (finding,) = preflight(server.url.replace("right", "wrong"))
        assert finding.level == "error"
        assert "wrong" not in finding.message.replace("WRONGPASS", "")


def test_a_service_refuses_a_redis_that_would_throw_records_away(tmp_path: Path) -> None:
    (tmp_path / "flows.yaml").write_text(
        "flows: {s: {source: {type: sse, url: 'http://127.0.0.1:1/'}, sink: {type: stdout}}}"
    )
    with Embedded(config={"maxmemory": "10mb", "maxmemory-policy": "allkeys-lru"}) as server:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "millrace", "consume"],
            cwd=tmp_path,
            env={**os.environ, "REDIS_URL": server.url},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 2
    assert "noeviction" in done.stderr
    assert "Traceback" not in done.stderr
