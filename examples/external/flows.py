from pydantic import BaseModel


class Measurement(BaseModel):
    place: str
    celsius: float
