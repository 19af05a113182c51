"""A row of an earthquake."""

from datetime import UTC, datetime

from pydantic import BaseModel


class Quake(BaseModel):
    """An earthquake as it was last revised. Depth is in kilometres, and may be unknown, as may be how strong it was."""

    id: str
    at: datetime
    updated: datetime
    magnitude: float | None
    place: str | None
    longitude: float
    latitude: float
    depth: float | None


def quake(feature: dict) -> dict:
    """A feature of GeoJSON in one level; times of the USGS count milliseconds since 1970."""
    about = feature["properties"]
    longitude, latitude, depth = feature["geometry"]["coordinates"]
    return {
        "id": feature["id"],
        "at": datetime.fromtimestamp(about["time"] / 1000, UTC),
        "updated": datetime.fromtimestamp(about["updated"] / 1000, UTC),
        "magnitude": about["mag"],
        "place": about["place"],
        "longitude": longitude,
        "latitude": latitude,
        "depth": depth,
    }
