"""The verbs of the API, each with the body that it takes. Addresses and requests follow from this table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import BaseModel, Field, JsonValue, StringConstraints

from sagabus.contracts.headers import LONGEST

RequestId = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST)]


class CancelBody(BaseModel):
    """actor: who, for the history. request_id: asked twice with the same one, it counts once; one is made if it is
    left out."""

    reason: Annotated[str, StringConstraints(max_length=4_000)] = ""
    actor: str = ""
    request_id: RequestId | None = Field(default=None, exclude=True)

    def fields(self) -> dict[str, JsonValue]:
        """Those of the request."""
        return self.model_dump(mode="json", exclude_none=True)


class VerbBody(CancelBody):
    """A verb of the whole saga: pause, resume, terminate."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=4_000)]


class AcknowledgeBody(VerbBody):
    """step: only what is about this step; omitted, all that the saga is flagged for."""

    step: int | None = None


class StepRequestBody(VerbBody):
    """A verb of one step: retry, skip."""

    step: int


class CompleteBody(StepRequestBody):
    """output: of the step, as its participant would have sent it; null for one without."""

    output: JsonValue

    def fields(self) -> dict[str, JsonValue]:
        return {**super().fields(), "output": self.output}


VERBS: Final[Mapping[str, type[CancelBody]]] = MappingProxyType({
    "cancel": CancelBody,
    "retry": StepRequestBody,
    "skip": StepRequestBody,
    "complete": CompleteBody,
    "acknowledge": AcknowledgeBody,
    "pause": VerbBody,
    "resume": VerbBody,
    "terminate": VerbBody,
})  # fmt: skip
"""By the last part of the address, which is the type of the request as well."""
