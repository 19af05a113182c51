"""Door: who may change things by the page, and who may look at it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time

SESSION_SECONDS = 12 * 3600
"""How long one is signed in."""


class Door:
    """Knows a token, and makes sessions of it that need no memory: signed, so that they outlive a restart.

    Without a token, `link` is a code that signs one browser in, once; the next one is made when it is used up.
    `read_only` says why nothing can be changed; empty where it can. With `private` nobody looks without signing in.
    """

    def __init__(self, token: str | None = None, *, read_only: str = "", private: bool = False) -> None:
        self._token = token
        self._key = hashlib.sha256(b"millrace ui " + (token or secrets.token_hex(32)).encode()).digest()
        self._code = ""
        self._lock = threading.Lock()
        self.read_only = read_only
        self.private = private

    @property
    def has_token(self) -> bool:
        """True where a token signs in, and False where only a link does."""
        return self._token is not None

    def link_code(self) -> str:
        """Return a new code that signs a browser in, once; the one before is worth nothing any more."""
        with self._lock:
            self._code = secrets.token_urlsafe(24)
            return self._code

    def opens_by(self, code: str) -> bool:
        """Use up the code of a link. True where it was the right one."""
        with self._lock:
            if not self._code or not hmac.compare_digest(self._code.encode(), code.encode()):
                return False
            self._code = ""
            return True

    def opens_to(self, token: str) -> bool:
        """Return True where this is the token."""
        return self._token is not None and hmac.compare_digest(self._token.encode(), token.strip().encode())

    def session(self) -> str:
        """Return a new session, for a cookie."""
        told = f"{int(time.time()) + SESSION_SECONDS}.{secrets.token_hex(16)}"
        return f"{told}.{self._signed(told)}"

    def knows(self, session: str) -> bool:
        """Return True for a session that was made with this token, while it lasts."""
        told, _, signed = session.rpartition(".")
        if not told or not hmac.compare_digest(self._signed(told).encode(), signed.encode()):
            return False
        return int(told.partition(".")[0]) > time.time()

    def form_word(self, session: str) -> str:
        """Return what a form of this session holds, which no other site can know."""
        return self._signed(f"form {session}")

    def is_form_of(self, session: str, word: str) -> bool:
        """Return True where a form was ours, and made for this session."""
        return hmac.compare_digest(self.form_word(session).encode(), word.encode())

    def _signed(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
