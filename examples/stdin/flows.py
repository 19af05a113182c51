"""The transform of this example."""


def only_errors(line: dict) -> dict | None:
    """Leaves out all but errors."""
    return line if line.get("level") == "error" else None
