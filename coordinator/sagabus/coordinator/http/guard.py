"""Who may use the API: whoever has the token; without a token, whoever is on this machine, and no page in a browser.

Without a token the API listens on loopback alone. That keeps other machines out, but not web pages, which a browser on
this machine opens: so requests must name this machine as their host (a page that rebinds its name in DNS does not), and
what changes something must be sent as `application/json` (which a page of another origin may not send unasked).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sagabus.coordinator.http.refusals import closed, refusal
from sagabus.messaging.settings import Settings, SettingsError, is_loopback, open_to_others, variable

API: Final = "/api/"

_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\]|([A-Za-z0-9._-]+))(?::[0-9]{0,5})?")
"""What a Host header may be: an IPv6 address in brackets, or a name or IPv4 address, then a port. No user, no path."""


def refuse_open(settings: Settings) -> None:
    """Raises SettingsError for an API that other machines could use without a token."""
    if faults := open_to_others(settings.http, settings.token.get_secret_value()):
        raise SettingsError(faults)


class Guard:
    """ASGI middleware. /livez and /readyz are open to everybody: they say yes, or why not, and no secret.

    accepts: false while the API is closed, at the start and at the end of its process.
    """

    def __init__(self, app: ASGIApp, *, token: str, accepts: Callable[[], bool]) -> None:
        self._app = app
        self._accepts = accepts
        self._expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(API):
            headers = Headers(scope=scope)
            answer = self._without_token(headers) if self._expected is None else self._with_token(headers)
            if answer is not None:
                status, code, message = answer
                await refusal(status, code, message, {"www-authenticate": "Bearer"})(scope, receive, send)
                return
            if not self._accepts():
                await closed()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _with_token(self, headers: Headers) -> tuple[HTTPStatus, str, str] | None:
        assert self._expected is not None
        given = headers.get("authorization", "").encode("latin-1")  # the bytes as they came
        if hmac.compare_digest(given, self._expected):
            return None
        return HTTPStatus.UNAUTHORIZED, "token.wrong", f"send `authorization: Bearer …` with the {variable('token')}"

    @staticmethod
    def _without_token(headers: Headers) -> tuple[HTTPStatus, str, str] | None:
        given = headers.get("host", "")
        host = _HOST.fullmatch(given)
        if host is not None and is_loopback(host[1] or host[2]):
            return None
        cure = f"set {variable('token')} to serve other names than localhost"
        return HTTPStatus.FORBIDDEN, "host.foreign", f"the host {given[:100]!r} is not this machine; {cure}"
