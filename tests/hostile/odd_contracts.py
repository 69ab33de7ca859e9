"""A saga's contract that takes nearly anything: floats and free JSON, where JSON's odd corners come through."""

from __future__ import annotations

from pydantic import BaseModel, JsonValue

from sagabus.contracts import Service, event


class Odd(BaseModel):
    value: JsonValue = None
    number: float = 0.0


class Happened(BaseModel):
    value: JsonValue


odds = Service("odds")
put_back = odds.compensation("put_back", Odd)
keep = odds.activity("keep", Odd, Odd, compensation=put_back)
odd_event = event("odd.happened", Happened)
