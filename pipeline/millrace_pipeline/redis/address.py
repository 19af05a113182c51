"""Address: where REDIS_URL leads to, and a new connection there.

    redis://, rediss://, unix://             one server, or any node of a cluster
    redis+cluster://, rediss+cluster://      several nodes of a cluster, any of which leads to the others
    redis+sentinel://, rediss+sentinel://    the primary that Sentinel names, asked anew for each connection

Why not redis-py's Sentinel and RedisCluster: they send a command again by themselves, and they hide what is wrong (a
refused password is "no master found"). What a queue needs of them is little: a name to look up, and, since all keys of
a flow live in one slot of a cluster, one node to find. Several nodes or Sentinels are tried in turn, and one that was
silent lately after the others, so that every command and service comes up while some are dead.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from millrace_pipeline.errors import QueueMisuse, QueueUnavailable
from millrace_pipeline.redis.certificates import certificate_mistake, read_certificates
from millrace_pipeline.redis.nodes import Place, Places, note_answer, note_silence, places_in

CONNECT_SECONDS = 5.0
ANOTHER_SECONDS = 2.0
"""How long to wait for one of several nodes or Sentinels, while there is another to try."""

REPLY_SECONDS = 10.0
"""How long to wait for a reply before the connection counts as lost; longer than any blocking command we send."""

READ_BYTES = 1 << 18
"""What may come with one call to the system: a good part of a batch, and little enough to stay in the cache."""

CLUSTER_PORT = 6379
SENTINEL_PORT = 26379

_CLUSTER_URL = re.compile(
    r"(?P<scheme>rediss?)\+cluster://(?:(?P<user>[^@/?#]*)@)?(?P<hosts>[^@/?#]+)(?:/(?P<db>0?))?(?:\?(?P<query>[^#]*))?"
)
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


class Address:
    """Where the list named `key` is, by way of `url`. Raises QueueMisuse for a URL that is wrong.

    May be used from several threads.
    """

    def __init__(self, url: str, *, key: str | None = None, name: str = "millrace") -> None:
        self.key = key
        self.sentinels: Sentinels | None = None
        self.named: tuple[Place, ...] = ()
        """The nodes that a URL of a cluster names."""
        self._nodes = Places()  # of a cluster, as far as we know them
        sentinel_login: dict[str, str] = {}
        sentinels, cluster = _SENTINEL_URL.fullmatch(url), _CLUSTER_URL.fullmatch(url)
        try:
            server = url
            if found := sentinels or cluster:
                places = places_in(found["hosts"], CLUSTER_PORT if cluster else SENTINEL_PORT)
                server = _server_url(found, places)
            server, sentinel_login = _without_sentinel_login(server)
            self._pool = redis.ConnectionPool.from_url(
                server,
                client_name=name,
                protocol=2,
                decode_responses=False,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=REPLY_SECONDS,
                socket_read_size=READ_BYTES,
                **({} if server.startswith("unix:") else {"socket_keepalive": True}),
            )
            self._another_seconds = self._pool.connection_kwargs.get("socket_connect_timeout", ANOTHER_SECONDS)
            self._pool.connection_kwargs.setdefault("socket_connect_timeout", CONNECT_SECONDS)
            self._pool.connection_class(**self._pool.connection_kwargs)
        except (ValueError, TypeError, redis.RedisError):
            # In words of our own: theirs hold parts of the URL, and those may be parts of a password.
            raise QueueMisuse(_NO_ADDRESS) from None
        self.tls = issubclass(self._pool.connection_class, redis.SSLConnection)
        if self.tls:
            read_certificates(self._pool.connection_kwargs)
        if sentinels:
            timeouts = {"socket_connect_timeout": self._another_seconds, "socket_timeout": self._another_seconds}
            self.sentinels = Sentinels(places, unquote(sentinels["primary"]), self._pool, sentinel_login, timeouts)
        elif cluster:
            if self._pool.connection_kwargs.get("db"):
                raise QueueMisuse("REDIS_URL: a cluster knows only database 0: leave out db")
            self.named = tuple(dict.fromkeys(places))
            self._nodes.add(places)

    def dial(self, place: Place | None = None) -> Any:
        """A new connection to where the list is, as far as we know, or to the node at this place.

        Raises QueueUnavailable, naming all nodes that were tried, or what redis-py raises.
        """
        if place is not None:
            wire = self._connect(place)
            self.moved(place)
            return wire
        if self.sentinels is not None:
            return self._connect(self.sentinels.primary())
        nodes = list(self._nodes)
        if not nodes:
            return self._connect(None)
        silent: list[str] = []
        for node in nodes:
            try:
                return self._connect(node, another=len(silent) < len(nodes) - 1)
            except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
                if isinstance(error, redis.AuthenticationError) or certificate_mistake(error):
                    raise
                silent.append(f"{node}: {error}")
        raise QueueUnavailable(f"no node of the cluster answers: {'; '.join(silent)}")

    def _connect(self, place: Place | None, *, another: bool = False) -> Any:
        # Not by the pool's make_connection: it counts every connection there ever was, and refuses the hundredth.
        wire: Any = self._pool.connection_class(**self._pool.connection_kwargs)
        if place is None:
            wire.connect()
            return wire
        wire.host, wire.port = place
        if another:
            wire.socket_connect_timeout = self._another_seconds
        try:
            wire.connect()
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            note_silence(place, error)
            raise
        note_answer(place)
        return wire

    def client(self) -> Client:
        """A redis-py client of the server that `dial` leads to. Raises as `dial` does."""
        options = dict(self._pool.connection_kwargs)
        place = self.sentinels.primary() if self.sentinels is not None else next(iter(self._nodes), None)
        if place is not None:
            options |= {"host": place.host, "port": place.port}
        pool = redis.ConnectionPool(connection_class=self._pool.connection_class, **options)
        return redis.Redis(connection_pool=pool)

    def at(self, place: Place) -> Address:
        """The address of this one node, by the same user, options and certificates."""
        alone = copy.copy(self)
        alone.sentinels, alone.named, alone._nodes = None, (), Places([place])
        return alone

    def moved(self, place: Place) -> None:
        """This node of the cluster has the list: go there next."""
        self._nodes.prefer(place)

    def learn(self, nodes: Iterable[Place]) -> None:
        """Remembers nodes of the cluster, to ask them where the list is when the node that has it is gone."""
        self._nodes.add(nodes)

    @property
    def nodes(self) -> list[Place]:
        """The nodes of the cluster that we know of, the one to try next first; none where it is no cluster."""
        return list(self._nodes)

    @property
    def checks_certificate(self) -> bool:
        """Whether the server must show a certificate that we trust."""
        return self.tls and self._pool.connection_kwargs.get("ssl_cert_reqs", "required") == "required"


class Sentinels:
    """The Sentinels that watch over one primary, and how to ask them.

    As https://redis.io/docs/latest/develop/reference/sentinel-clients/ has it: ask each in turn where the primary is,
    the one that answered last first.
    """

    def __init__(
        self,
        places: Sequence[Place],
        name: str,
        pool: redis.ConnectionPool,
        login: Mapping[str, str],
        timeouts: Mapping[str, float],
    ) -> None:
        self.name = name
        self.places = Places(places)
        not_for_them = ("host", "port", "db", "username", "password", "client_name")
        options = {key: value for key, value in pool.connection_kwargs.items() if key not in not_for_them}
        self._options = {**options, **login}
        self._hurry = {**self._options, **timeouts}
        self._class = pool.connection_class

    def primary(self) -> Place:
        """Where the primary is now. Raises QueueUnavailable where no Sentinel says, QueueMisuse where none knows it."""
        unreachable: list[str] = []
        for place in self.places:
            try:
                found = self._where(place, another=len(unreachable) < len(self.places) - 1)
            except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
                mend = "Check sentinel_username and sentinel_password in REDIS_URL"
                raise QueueMisuse(f"the Sentinel at {place} refuses this user: {error}. {mend}.") from error
            except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
                if certificate_mistake(error):
                    raise
                unreachable.append(f"{place}: {error}")
                continue
            if found:
                self.places.prefer(place)
                return Place(found[0].decode(), int(found[1]))
        if len(unreachable) < len(self.places):
            raise QueueMisuse(f"Sentinel knows no primary called {self.name!r}: check the name in REDIS_URL")
        raise QueueUnavailable(f"no Sentinel answers: {'; '.join(unreachable)}")

    def silent(self, place: Place) -> str | None:
        """Why this Sentinel does not say where the primary is; None where it does."""
        try:
            self._where(place, another=True)
        except (redis.RedisError, OSError) as error:
            return str(error)
        return None

    def _where(self, place: Place, *, another: bool) -> Any:
        """What one of them says. Raises what redis-py raises."""
        wire = self._class(**{**(self._hurry if another else self._options), "host": place.host, "port": place.port})
        try:
            wire.connect()
            wire.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name, check_health=False)
            found = wire.read_response()
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            note_silence(place, error)
            raise
        finally:
            wire.disconnect()
        note_answer(place)
        return found


def _server_url(found: re.Match[str], places: Sequence[Place]) -> str:
    """The URL of the first of these places; the primary's, if it were where a Sentinel is."""
    user = "" if found["user"] is None else f"{found['user']}@"
    query = f"?{found['query']}" if found["query"] else ""
    return f"{found['scheme']}://{user}{places[0]}/{found['db'] or 0}{query}"


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
