"""The transform of this example."""


def post(event: dict) -> dict | None:
    """What was written, by whom and in which languages; nothing of deletions and of what is no post."""
    commit = event.get("commit", {})
    if event.get("kind") != "commit" or commit.get("operation") != "create":
        return None
    record = commit["record"]
    return {
        "at": record["createdAt"],
        "by": event["did"],
        "text": record["text"],
        "languages": record.get("langs", []),
    }
