"""What the environment says, and what it may not say wrong."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.process.settings import Settings

VARIABLES = (
    "REDIS_URL",
    "REDIS_URL_FILE",
    "MILLRACE_FLOWS",
    "MILLRACE_HTTP",
    "MILLRACE_LOG",
    "MILLRACE_LOG_LEVEL",
    "MILLRACE_GRACE_SECONDS",
)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def load(monkeypatch: pytest.MonkeyPatch, **environ: str) -> Settings:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return Settings.load()


def test_an_empty_environment_gives_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch)
    assert settings.url == "redis://localhost:6379/0"
    assert not settings.redis_url_is_set
    assert settings.flows == Path("flows.yaml")
    assert settings.http is None
    assert (settings.log, settings.log_level, settings.grace_seconds) == ("auto", "info", 20.0)


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        monkeypatch,
        REDIS_URL="rediss://me:pw@redis.example:6380/2",
        MILLRACE_FLOWS="/etc/millrace/flows.yaml",
        MILLRACE_HTTP="0.0.0.0:9090",
        MILLRACE_LOG="json",
        MILLRACE_LOG_LEVEL="DEBUG",
        MILLRACE_GRACE_SECONDS="2.5",
    )
    assert settings.url == "rediss://me:pw@redis.example:6380/2"
    assert settings.redis_url_is_set
    assert settings.flows == Path("/etc/millrace/flows.yaml")
    assert settings.http == (("0.0.0.0", 9090),)
    assert (settings.log, settings.log_level, settings.grace_seconds) == ("json", "debug", 2.5)


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, **dict.fromkeys(VARIABLES, "")) == Settings()
    assert Settings.load().http is None


def test_variables_of_others_that_are_called_like_a_field_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, LOG="/var/log/x", log="loud", HTTP="proxy", FLOWS="rivers", GRACE_SECONDS="-1")
    assert settings == Settings()
    assert settings.log == "auto"


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("9090", (("127.0.0.1", 9090),)),
        ("0", (("127.0.0.1", 0),)),
        ("localhost:80", (("localhost", 80),)),
        ("[::1]:9000", (("::1", 9000),)),
        ("9090, metrics:9091", (("127.0.0.1", 9090), ("metrics", 9091))),
    ],
)
def test_a_port_alone_is_on_loopback_and_there_may_be_several_addresses(
    text: str, addresses: tuple[tuple[str, int], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(monkeypatch, MILLRACE_HTTP=text).http == addresses


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MILLRACE_HTTP", "localhost", "expected a port"),
        ("MILLRACE_HTTP", ":9090", "expected a port"),
        ("MILLRACE_HTTP", "70000", "expected a port"),
        ("MILLRACE_HTTP", "localhost:http", "expected a port"),
        ("MILLRACE_HTTP", "9090,", "expected a port"),
        ("MILLRACE_HTTP", "9090,metrics", "expected a port"),
        ("MILLRACE_LOG", "loud", "expected 'auto', 'json' or 'pretty'"),
        ("MILLRACE_LOG_LEVEL", "verbose", "expected 'debug', 'info', 'warning' or 'error'"),
        ("MILLRACE_GRACE_SECONDS", "soon", "expected a valid number"),
        ("MILLRACE_GRACE_SECONDS", "-1", "expected greater than or equal to 0"),
        ("MILLRACE_GRACE_SECONDS", "inf", "expected"),
        ("REDIS_URL", "localhost:6379", "expected redis://"),
        ("REDIS_URL", "http://localhost", "expected redis://"),
        ("REDIS_URL", "redis://localhost/zero", "expected redis://"),
        ("REDIS_URL", "unix:", "expected redis://"),
    ],
)
def test_a_wrong_variable_is_named_with_what_was_expected(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(monkeypatch, **{name: value})
    assert str(caught.value).startswith(f"{name}: {expected}")


def test_all_wrong_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as caught:
        load(monkeypatch, MILLRACE_HTTP="x", MILLRACE_LOG="x", REDIS_URL="x")
    names = [line.partition(":")[0] for line in str(caught.value).splitlines()]
    assert sorted(names) == ["MILLRACE_HTTP", "MILLRACE_LOG", "REDIS_URL"]


@pytest.mark.parametrize("url", ["redis://:hunter2/hunter2@host", "redis://me:hunter2@host:hunter2/0", "hunter2"])
def test_a_password_is_in_no_error_and_no_repr(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as caught:
        load(monkeypatch, REDIS_URL=url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@localhost")
    assert "hunter2" not in repr(Settings.load())
    assert "hunter2" not in repr(Settings().with_redis_url("redis://:hunter2@elsewhere"))


def test_the_url_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "redis_url"
    secret.write_text("redis://:hunter2@redis:6379/0\n")
    settings = load(monkeypatch, REDIS_URL_FILE=str(secret))
    assert settings.url == "redis://:hunter2@redis:6379/0"
    assert settings.redis_url_is_set
    assert settings.with_redis_url("unix:///run/redis.sock").url == "unix:///run/redis.sock"


def test_a_file_of_no_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^REDIS_URL_FILE: can't read .*absent: No such file"):
        load(monkeypatch, REDIS_URL_FILE=str(tmp_path / "absent"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"^REDIS_URL_FILE: can't read .*bytes: it is not UTF-8"):
        load(monkeypatch, REDIS_URL_FILE=str(tmp_path / "bytes"))
    (tmp_path / "wrong").write_text("hunter2")
    with pytest.raises(ConfigError, match=r"^REDIS_URL_FILE: in .*wrong: expected redis://") as caught:
        load(monkeypatch, REDIS_URL_FILE=str(tmp_path / "wrong"))
    assert "hunter2" not in str(caught.value)


def test_the_url_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, REDIS_URL="redis://here", REDIS_URL_FILE=str(tmp_path / "absent"))
    assert settings.url == "redis://here"
