"""What PostgreSQL keeps of a password: enough to check one, and not the password.

RFC 5802, spelt `SCRAM-SHA-256$rounds:salt$stored:server`: https://www.postgresql.org/docs/current/catalog-pg-authid.html
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64encode

ROUNDS = 4096


def verifier(password: str) -> str:
    """What `ALTER ROLE … PASSWORD` takes in the place of this password, which is ASCII. Another one at each call."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, ROUNDS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${ROUNDS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _text(raw: bytes) -> str:
    return b64encode(raw).decode()
