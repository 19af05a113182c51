"""Server: which Redis the flows of this folder use. Every command and every door asks here, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from millrace.embedded import info, is_embedded
from millrace.home import FOLDER, Home, Visit
from millrace_pipeline.errors import ConfigError
from millrace_pipeline.process.settings import Settings

Kind = Literal["told", "embedded", "default"]


class Server:
    """The Redis at `url`.

    `kind` says why it is this one: REDIS_URL or REDIS_URL_FILE told so; it is this folder's embedded Valkey, which is
    there until `close`; or nothing told, and nothing has run here, so it is the default, whoever is there.
    """

    def __init__(self, url: str, kind: Kind, visit: Visit | None = None) -> None:
        self.url = url
        self.kind = kind
        self._visit = visit

    def __str__(self) -> str:
        """Names it for people, without user and password."""
        if self.kind == "embedded":
            return f"the embedded Valkey of this folder ({FOLDER}/, {without_secrets(self.url)})"
        return without_secrets(self.url) + (" (the default: REDIS_URL is not set)" if self.kind == "default" else "")

    def close(self) -> None:
        """Lets it go: an embedded one that nobody else uses is stopped."""
        if self._visit is not None:
            self._visit.close()


def server_of(settings: Settings, *, folder: Path = Path()) -> Server:
    """The Redis that the flows in this folder use.

    Where REDIS_URL says nothing and flows have run here, it is the embedded one of `millrace run`: while that runs, or
    any command that needs it, the one that is there; else it is started on the data that is here.

    Raises ConfigError where it can't be started, or where the default is the embedded one of another folder.
    """
    if settings.redis_url_is_set:
        return Server(settings.url, "told")
    home = Home(folder / FOLDER)
    if home.used:
        visit = home.visit()
        return Server(visit.url, "embedded", visit)
    if _is_of_another_folder(settings.url):
        raise ConfigError(
            f"REDIS_URL is not set and no flow has run in this folder; at {without_secrets(settings.url)}, the "
            "default, is the embedded Valkey of another folder. `millrace run` brings one of this folder's own; or set "
            "REDIS_URL"
        )
    return Server(settings.url, "default")


def server_to_begin_with(settings: Settings, *, preferred: int) -> Server:
    """The Redis for a flow that `millrace run` can't begin: as `server_of`, but the embedded one where nobody answers.

    Raises ConfigError where it can't be started.
    """
    if settings.redis_url_is_set or Home().used:
        return server_of(settings)
    parts = urlsplit(settings.url)
    said = info((parts.hostname or "localhost", parts.port or 6379), parts.password or "")
    if said and not is_embedded(said):
        return Server(settings.url, "default")
    return bring(settings, port=None, preferred=preferred)


def bring(settings: Settings, *, port: int | None, preferred: int) -> Server:
    """The Redis that `millrace run` uses: as above, but the embedded one also where nothing has run here yet."""
    if settings.redis_url_is_set:
        return Server(settings.url, "told")
    visit = Home().visit(port=port, preferred=preferred)
    return Server(visit.url, "embedded", visit)


def folder_with_flows(settings: Settings) -> Path:
    """The folder from here upwards in which flows have run, as it has `.millrace/` and the flows file; else this one.

    For programs that are not started where the flows file is: `scrapy crawl` is in its project's folder.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if Home(folder / FOLDER).used and (folder == here or (folder / settings.flows).is_file()):
            return folder
    return here


def without_secrets(url: str) -> str:
    """The address without user, password and options, which may hold some."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _is_of_another_folder(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme != "redis":
        return False
    return is_embedded(info((parts.hostname or "localhost", parts.port or 6379), parts.password or ""))
