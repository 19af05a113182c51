"""Certificates: those that a Redis URL names, and what is wrong where one is why a connection failed."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any

from millrace_pipeline.errors import QueueMisuse


def certificate_mistake(error: BaseException) -> str | None:
    """What is wrong with a certificate, and the mend, where that is why a connection failed; else None."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        mend = "name the file of the CA that signed it in REDIS_URL: ?ssl_ca_certs=/path/to/ca.pem"
        return f"Redis' certificate is not trusted: {cause.verify_message}. If it is the right server, {mend}"
    reason = (getattr(cause, "reason", None) or "").upper()
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"):
        return f"Redis doesn't speak TLS on this port ({reason}): write redis:// for rediss://, or name its TLS port"
    if "ALERT" in reason and re.search(r"CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|ACCESS_DENIED", reason):
        mend = "name one that it trusts in REDIS_URL: ?ssl_certfile=/path/to/our.pem&ssl_keyfile=/path/to/our.key"
        return f"Redis refuses our certificate ({reason}): {mend}"
    return None


def read_certificates(options: Mapping[str, Any]) -> None:
    """Reads the files that the URL names, so that one that is missing or no certificate is an error at once."""
    context = ssl.create_default_context()
    try:
        if options.get("ssl_certfile") or options.get("ssl_keyfile"):
            context.load_cert_chain(
                options.get("ssl_certfile", ""), options.get("ssl_keyfile"), options.get("ssl_password", "")
            )
        if options.get("ssl_ca_certs") or options.get("ssl_ca_path"):
            context.load_verify_locations(options.get("ssl_ca_certs"), options.get("ssl_ca_path"))
    except (OSError, ValueError) as error:
        files = [str(options[name]) for name in ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs") if name in options]
        raise QueueMisuse(f"REDIS_URL: can't use {', '.join(files)}: {error}") from error
