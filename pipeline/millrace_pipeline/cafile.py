"""Certificates: which file of them a server's may be signed by, for whatever speaks TLS to one that a flow names."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, field_validator


class CaFileOption(BaseModel):
    """Which certificates a server's may be signed by."""

    ca_file: Path | None = Field(
        default=None,
        description="A file of the certificates (PEM) that a server's may be signed by. Default: those that the public "
        "web trusts, as in certifi.",
    )

    @field_validator("ca_file")
    @classmethod
    def _a_file(cls, file: Path | None) -> Path | None:
        return checked_ca_file(file)


def checked_ca_file(file: Path | None) -> Path | None:
    """Return the file. Raises ValueError where there is none."""
    if file is not None and not file.is_file():
        raise ValueError(f"there is no file {file}")
    return file
