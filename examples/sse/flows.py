"""What is kept of the stream."""


def new_articles(change: dict) -> dict | None:
    """A few fields of a new page in the main namespace; nothing of all other changes."""
    if change.get("type") != "new" or change.get("namespace") != 0:
        return None
    return {name: change.get(name) for name in ("wiki", "title", "user", "bot")}
