"""Marks: whose a list is, written beside it by the services that use it."""

from __future__ import annotations

import structlog
from msgspec import structs

from millrace_pipeline.errors import ConfigError
from millrace_pipeline.flows.project import Project
from millrace_pipeline.queue.layout import refuse_partitions
from millrace_pipeline.queue.session import Session

log = structlog.get_logger(__name__)

FIELDS = Project.__struct_fields__


def mark_of(session: Session) -> Project | None:
    """The project that the list is marked with; None where it bears no mark: nothing of ours has used it yet."""
    (found,) = session.ask(("HMGET", session.keys.project, *FIELDS))
    if not any(found):
        return None
    return Project(*((value or b"").decode(errors="replace") for value in found))


def mark(session: Session, project: Project, *, take_over: bool = False) -> None:
    """Marks the list as this project's: what every service does before all else.

    A list with another's mark keeps it, unless `take_over`, and the log says so: it may be that both the flow's source
    and its sink were changed at once, or that two files with no name share a list on purpose.

    Raises ConfigError where both have names, and they differ, and where the flow is kept in partitions.
    """
    refuse_partitions(session)
    while True:
        seen = mark_of(session)
        ours = seen is None or take_over or project.is_of(seen)
        if seen is not None and not ours:
            if project.differs_by_name(seen):
                raise ConfigError(
                    theirs(session, project, seen, "Nothing was read or written", "--take-over makes it ours")
                )
            log.warning("list_of_another_project", queue=session.keys.ready, theirs=str(seen), ours=str(project))
            return
        if seen is not None and seen == structs.replace(project, place=seen.place):
            return
        words = [word for name in FIELDS for word in (name, getattr(seen, name, ""), getattr(project, name))]
        if session.ask_script("mark", [session.keys.project], [len(FIELDS), *words])[0]:
            return


def theirs(session: Session, project: Project, mark: Project, outcome: str, anyway: str) -> str:
    """What to say where a list is another's: both by name, and the mends."""
    return (
        f"list {session.keys.ready} is another project's. Its mark: {mark}. This flows file: {project}. {outcome}. "
        "Set REDIS_URL to your own Redis, or give the flow a list of its own (queue: {key: …}); if both are one "
        f"project, write the same `project: NAME` at the top of both files; {anyway}"
    )
