"""Whether this process is alive, and whether it is ready. Open to everybody, and without a secret."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from sagabus.coordinator.http.answers import JSON


class Probes:
    """why_not: why this process is not ready, empty when it is."""

    def __init__(self, why_not: Callable[[], Awaitable[str]]) -> None:
        self._why_not = why_not

    async def livez(self, _: Request) -> Response:
        """The answer comes from the loop in which everything else runs: that is what it proves."""
        return Response(b'{"status":"alive"}', media_type=JSON)

    async def readyz(self, _: Request) -> Response:
        if reason := await self._why_not():
            answer = to_json({"status": "not ready", "reason": reason})
            return Response(answer, HTTPStatus.SERVICE_UNAVAILABLE, media_type=JSON)
        return Response(b'{"status":"ready"}', media_type=JSON)
