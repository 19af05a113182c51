"""Address: where REDIS_URL leads to, and a new connection there.

    redis://, rediss://, unix://             one server, or any node of a cluster
    redis+sentinel://, rediss+sentinel://    the primary that Sentinel names, asked anew for each connection

Why not redis-py's Sentinel and RedisCluster: they send a command again by themselves, and they hide what is wrong (a
refused password is "no master found"). What a queue needs of them is little: a name to look up, and, since all keys of
a flow live in one slot of a cluster, one node to find.
"""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.errors import QueueMisuse, QueueUnavailable

CONNECT_SECONDS = 5.0
REPLY_SECONDS = 10.0
"""How long to wait for a reply before the connection counts as lost; longer than any blocking command we send."""

READ_BYTES = 1 << 18
"""What may come with one call to the system: a good part of a batch, and little enough to stay in the cache."""

SENTINEL_PORT = 26379

_SENTINEL_URL = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?:(?P<user>[^@/?#]*)@)?(?P<hosts>[^@/?#]+)/(?P<primary>[^/?#]+)"
    r"(?:/(?P<db>\d*))?(?:\?(?P<query>[^#]*))?"
)
_OPTIONS = re.compile(r"db|ssl_\w+|socket_connect_timeout|sentinel_(username|password)")
_OPTION_NAME = re.compile(r"[a-z]+(_[a-z]+)+")
"""What may be shown of an option that we don't know: it is none where a password holds a question mark."""

_NO_ADDRESS = (
    "REDIS_URL is not a Redis address: expected redis://user:password@host:6379/0, with options such as "
    "?ssl_ca_certs=/path behind it (in a password, write @ : / ? as %40 %3A %2F %3F)"
)


Client: TypeAlias = redis.Redis
"""redis-py's own client, for what a program wants to say to Redis beside the queue."""


class Place(NamedTuple):
    """A host and its port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Address:
    """Where the list named `key` is, by way of `url`. Raises QueueMisuse for a URL that is wrong.

    May be used from several threads.
    """

    def __init__(self, url: str, *, key: str | None = None, name: str = "millrace") -> None:
        self.key = key
        self.sentinels: Sentinels | None = None
        self._nodes: list[Place] = []  # of a cluster, as far as we know them; the one to try next is first
        self._lock = threading.Lock()
        sentinel_login: dict[str, str] = {}
        found = _SENTINEL_URL.fullmatch(url)
        try:
            server = url if found is None else _server_url(found, places := _places(found["hosts"]))
            server, sentinel_login = _without_sentinel_login(server)
            self._pool = redis.ConnectionPool.from_url(
                server,
                client_name=name,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=REPLY_SECONDS,
                socket_read_size=READ_BYTES,
                **({} if server.startswith("unix:") else {"socket_keepalive": True}),
            )
            self._pool.connection_kwargs.setdefault("socket_connect_timeout", CONNECT_SECONDS)
            self._pool.connection_class(**self._pool.connection_kwargs)
        except (ValueError, TypeError, redis.RedisError):
            # In words of our own: theirs hold parts of the URL, and those may be parts of a password.
            raise QueueMisuse(_NO_ADDRESS) from None
        self.tls = issubclass(self._pool.connection_class, redis.SSLConnection)
        if self.tls:
            _read_certificates(self._pool.connection_kwargs)
        if found is not None:
            self.sentinels = Sentinels(places, unquote(found["primary"]), self._pool, sentinel_login)

    def dial(self) -> Any:
        """A new connection to where the list is, as far as we know. Raises QueueError or what redis-py raises."""
        # Not by the pool's make_connection: it counts every connection there ever was, and refuses the hundredth.
        wire: Any = self._pool.connection_class(**self._pool.connection_kwargs)
        place = self._place()
        if place is not None:
            wire.host, wire.port = place
        try:
            wire.connect()
        except (redis.RedisError, OSError):
            self._try_another_than(place)
            raise
        return wire

    def client(self) -> Client:
        """A redis-py client of the server that `dial` leads to. Raises as `dial` does."""
        options = dict(self._pool.connection_kwargs)
        if (place := self._place()) is not None:
            options |= {"host": place.host, "port": place.port}
        pool = redis.ConnectionPool(connection_class=self._pool.connection_class, **options)
        return redis.Redis(connection_pool=pool)

    def _place(self) -> Place | None:
        """Where the list is, if that is not simply what the URL says."""
        if self.sentinels is not None:
            return self.sentinels.primary()
        return self._nodes[0] if self._nodes else None

    def moved(self, place: Place) -> None:
        """A node of the cluster said that this one has the list: go there next."""
        with self._lock:
            self._nodes = [place, *(node for node in self._nodes if node != place)]

    def learn(self, nodes: Sequence[Place]) -> None:
        """Remembers nodes of the cluster, to ask them where the list is when the node that has it is gone."""
        with self._lock:
            self._nodes += [node for node in dict.fromkeys(nodes) if node not in self._nodes]

    @property
    def checks_certificate(self) -> bool:
        """Whether the server must show a certificate that we trust."""
        return self.tls and self._pool.connection_kwargs.get("ssl_cert_reqs", "required") == "required"

    def _try_another_than(self, place: Place | None) -> None:
        with self._lock:
            if self._nodes and self._nodes[0] == place:
                self._nodes.append(self._nodes.pop(0))


class Sentinels:
    """The Sentinels that watch over one primary, and how to ask them.

    As https://redis.io/docs/latest/develop/reference/sentinel-clients/ has it: ask each in turn where the primary is,
    the one that answered last first.
    """

    def __init__(
        self, places: Sequence[Place], name: str, pool: redis.ConnectionPool, login: Mapping[str, str]
    ) -> None:
        self.name = name
        self.places = list(places)
        not_for_them = ("host", "port", "db", "username", "password", "client_name")
        options = {key: value for key, value in pool.connection_kwargs.items() if key not in not_for_them}
        self._options = {**options, **login}
        self._class = pool.connection_class

    def primary(self) -> Place:
        """Where the primary is now. Raises QueueUnavailable where no Sentinel says, QueueMisuse where none knows it."""
        unreachable: list[str] = []
        for place in list(self.places):
            try:
                found = self.ask(place, "GET-MASTER-ADDR-BY-NAME", self.name)
            except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
                mend = "Check sentinel_username and sentinel_password in REDIS_URL"
                raise QueueMisuse(f"the Sentinel at {place} refuses this user: {error}. {mend}.") from error
            except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
                if certificate_mistake(error):
                    raise
                unreachable.append(f"{place}: {error}")
                continue
            if found:
                self.places.sort(key=lambda other: other != place)
                return Place(found[0].decode(), int(found[1]))
        if len(unreachable) < len(self.places):
            raise QueueMisuse(f"Sentinel knows no primary called {self.name!r}: check the name in REDIS_URL")
        raise QueueUnavailable(f"no Sentinel answers: {'; '.join(unreachable)}")

    def ask(self, place: Place, *words: str) -> Any:
        """One question to one of them. Raises what redis-py raises."""
        wire = self._class(**{**self._options, "host": place.host, "port": place.port})
        try:
            wire.connect()
            wire.send_command("SENTINEL", *words, check_health=False)
            return wire.read_response()
        finally:
            wire.disconnect()


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


def _server_url(found: re.Match[str], sentinels: Sequence[Place]) -> str:
    """The URL that the primary would have, if it were where a Sentinel is."""
    user = "" if found["user"] is None else f"{found['user']}@"
    query = f"?{found['query']}" if found["query"] else ""
    return f"{found['scheme']}://{user}{sentinels[0]}/{found['db'] or 0}{query}"


def _places(hosts: str) -> list[Place]:
    places = []
    for text in hosts.split(","):
        parts = urlsplit(f"//{text}")
        if not parts.hostname:
            raise ValueError("expected host1:26379,host2:26379")
        places.append(Place(parts.hostname, parts.port or SENTINEL_PORT))
    return places


def _without_sentinel_login(url: str) -> tuple[str, dict[str, str]]:
    """The URL without the options for Sentinels, and those. Raises QueueMisuse for an option that we don't know."""
    head, mark, query = url.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    for name, _ in options:
        if not _OPTIONS.fullmatch(name):
            shown = f" {name!r}" if _OPTION_NAME.fullmatch(name) else ""
            raise QueueMisuse(
                f"REDIS_URL: unknown option{shown}: expected ssl_…, db, socket_connect_timeout or sentinel_…"
            )
    login = {name.removeprefix("sentinel_"): value for name, value in options if name.startswith("sentinel_")}
    rest = urlencode([(name, value) for name, value in options if not name.startswith("sentinel_")])
    return f"{head}{mark if rest else ''}{rest}", login


def _read_certificates(options: Mapping[str, Any]) -> None:
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
