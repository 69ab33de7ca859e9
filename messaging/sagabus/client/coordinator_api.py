"""The coordinator's HTTP API as seen by the client and the commands. JSON in, JSON out; errors are ours."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast
from urllib.request import getproxies

import httpx

from sagabus.contracts.errors import ExitCode, MessageInvalid, SagabusError
from sagabus.contracts.names import new_saga_id, saga_id
from sagabus.messaging.settings_error import SettingsError

if TYPE_CHECKING:
    from pydantic import JsonValue

Json = dict[str, Any]

CONNECT_TIMEOUT_SECONDS: Final = 5.0
ANSWER_TIMEOUT_SECONDS: Final = 15.0
"""Beyond those that were asked for with `wait`."""

POLL_SECONDS: Final = 30.0
"""One long poll: proxies cut idle connections after a minute."""

FIRST_POLL_SECONDS: Final = 1.0
"""The first one for a saga that was just asked for: it may have been rejected."""

RESTART_SECONDS: Final = 30.0
"""Without an answer after which nobody waits any longer for a coordinator that restarts."""

RETRY_PAUSE_SECONDS: Final = 0.25
"""Between two tries in that time."""

FIRST_PAUSE_SECONDS: Final = 0.03
"""Between the first two looks for a saga that was just asked for; the later ones become longer."""

PAGE: Final = 500
"""Steps, or rows of history, of one answer: the most that a coordinator gives."""

AWAY: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})

CLOSED: Final = frozenset({"completed", "compensated", "cancelled", "terminated"})
"""A saga that continued as new goes on under the same id."""


class CoordinatorUnreachable(SagabusError):
    """The coordinator's API does not answer, or cannot at the moment. Sagas go on without it."""

    exit_code = ExitCode.UNREACHABLE


class CoordinatorRefused(SagabusError):
    """The coordinator's API understood, and declines. status: of HTTP. code: stable."""

    def __init__(self, sentence: str, *, status: int, code: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


class NoSuchSaga(CoordinatorRefused):
    """No saga with this id has been started, or it was deleted by retention.

    kept_requests: how many requests came for it, and are kept until it is started.
    """

    exit_code = ExitCode.NOT_FOUND
    kept_requests: int = 0


class StartRefused(CoordinatorRefused):
    """The request for this saga will start none: it became a dead letter, or its id is used with another input."""


class VerbRefused(CoordinatorRefused):
    """The saga refuses what an operator asked of it; its history has the refusal."""


class CoordinatorApi:
    """Use it with `async with`. url: as SAGABUS_URL says.

    Methods raise CoordinatorUnreachable, CoordinatorRefused, and MessageInvalid for an id that cannot be one.
    """

    def __init__(self, url: str, *, token: str = "") -> None:
        """Raises SettingsError without a url."""
        if not url:
            raise SettingsError(
                [
                    "no `sagabus dev` runs in this folder, and SAGABUS_URL is not set: start it here, go to its "
                    "folder, or give the coordinator's address, http://host:8080"
                ]
            )
        self.url = url
        self._client = httpx.AsyncClient(
            base_url=f"{url}/api/v1",
            headers={b"authorization": f"Bearer {token}".encode()} if token else None,
            verify=may_use_tls(url),
        )

    async def sagas(self, **query: str | int | bool | list[str] | None) -> Json:
        """One page: `sagas`, and `next`, which is to be given as `cursor`."""
        given = {name: value for name, value in query.items() if value is not None}
        return await self._ask("GET", "/sagas", params=given)

    async def saga(self, id: str, *, wait: float = 0, start: str = "") -> Json:
        """As it stands; with `wait`, once it has closed or the seconds have passed. Raises NoSuchSaga.

        start: the id of the request that asked for it. Raises StartRefused if that one was rejected.
        """
        params = {name: value for name, value in (("wait", wait), ("start", start)) if value}
        return await self._ask("GET", _path(id), params=params, wait=wait)

    async def steps(self, id: str, *, run: str, after: int = 0) -> Json:
        """One page: `steps`, and `next`, which is to be given as `after`."""
        return await self._ask("GET", _path(id) + "/steps", params={"run": run, "after": after, "limit": PAGE})

    async def history(self, id: str, *, run: str, after: int = 0) -> Json:
        """One page: `rows`, and `next`, which is to be given as `after`."""
        return await self._ask("GET", _path(id) + "/history", params={"run": run, "after": after, "limit": PAGE})

    async def export(self, id: str, *, run: str, after: int = 0) -> Json:
        """One page of the recorded history: `head`, `rows`, and `next`, which is to be given as `after`."""
        return await self._ask("GET", _path(id) + "/export", params={"run": run, "after": after, "limit": PAGE})

    async def start(self, saga: str, *, id: str, input: JsonValue, allow_unknown: bool = False) -> Json:
        """Accepted is not started. A name that no coordinator runs, and an input that does not fit, are refused; so is
        a used id with another input, with StartRefused.

        allow_unknown: a definition that is yet to be deployed is taken; the saga waits for it with attention.
        """
        body = {"saga": saga, "id": new_saga_id(id), "input": input}
        return await self._ask("POST", "/sagas", body=body, params={"unknown": "allow"} if allow_unknown else None)

    async def event(
        self, id: str, *, name: str, data: JsonValue, event_id: str | None = None, near: bool = False
    ) -> Json:
        """Sent twice with one event_id, it counts once.

        near: the name may be given in part, and one that no saga's code names is refused, if another was perhaps meant.
        """
        body, params = {"name": name, "data": data, "event_id": event_id}, {"name": "near"} if near else None
        return await self._ask("POST", _path(id) + "/events", body=body, params=params)

    async def verb(self, verb: str, id: str, *, wait: float, body: Json) -> Json:
        """An operator's verb, and what became of it: `outcome` is applied, kept, or unknown after these seconds.

        body: reason, actor, and what else this verb takes. Raises NoSuchSaga, VerbRefused.
        """
        loop = asyncio.get_running_loop()
        end, portion = loop.time() + wait, min(wait, POLL_SECONDS)
        answer = await self._ask("POST", f"{_path(id)}/{verb}", body=body, params={"wait": portion}, wait=portion)
        while answer["look_again"] and (left := end - loop.time()) > 0:
            answer = await self._look_again(answer, min(left, POLL_SECONDS))
        return answer

    async def _look_again(self, answer: Json, wait: float) -> Json:
        """At a verb that is not decided upon; over restarts of the coordinator."""
        path = str(answer["look_again"]).removeprefix("/api/v1")
        try:
            again = await self._ask("GET", f"{path}{'&' if '?' in path else '?'}wait={wait:.3f}", wait=wait)
        except CoordinatorRefused as refused:
            if refused.code != "request.not_found":
                raise
            return answer
        except CoordinatorUnreachable:
            await asyncio.sleep(RETRY_PAUSE_SECONDS)
            return answer
        if again["error"]:
            code, message = again["error"]["code"], again["error"]["message"]
            sentence = f"{again['id']}: {again['request']} refused: {message}"
            raise VerbRefused(sentence, status=HTTPStatus.CONFLICT, code=code)
        return again

    async def begun(self, id: str, *, start: str, within: float) -> bool:
        """Whether there is such a saga within these seconds. start: the id of the request. Raises StartRefused."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + within, FIRST_PAUSE_SECONDS
        while True:
            try:
                await self.saga(id, start=start)
                return True
            except NoSuchSaga:
                left = end - loop.time()
            if left <= 0:
                return False
            await asyncio.sleep(min(left, pause))
            pause = min(RETRY_PAUSE_SECONDS, pause * 2)

    async def closed(self, id: str, *, start: str = "") -> Json:
        """Wait until the saga has closed, over restarts of the coordinator.

        start: the id of the request that asked for it, which may still be on its way. Raises StartRefused.
        """
        loop = asyncio.get_running_loop()
        heard, wait = loop.time(), FIRST_POLL_SECONDS if start else POLL_SECONDS
        while True:
            try:
                saga = await self.saga(id, wait=wait, start=start)
                if saga["status"] in CLOSED:
                    return saga
                heard, wait = loop.time(), POLL_SECONDS
            except NoSuchSaga:
                if not start:
                    raise
                heard, wait = loop.time(), min(POLL_SECONDS, wait * 2)
            except CoordinatorUnreachable:
                if loop.time() - heard > RESTART_SECONDS:
                    raise
                await asyncio.sleep(RETRY_PAUSE_SECONDS)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Json | None = None,
        wait: float = 0,
    ) -> Json:
        timeout = httpx.Timeout(ANSWER_TIMEOUT_SECONDS + wait, connect=CONNECT_TIMEOUT_SECONDS)
        try:
            answer = await self._client.request(method, path, params=params, json=body, timeout=timeout)
        except UnicodeEncodeError as error:
            raise MessageInvalid(
                "request.not_utf8", "the request holds characters that cannot be written as UTF-8"
            ) from error
        except httpx.HTTPError as error:
            sentence = f"the coordinator at {self.url} is unreachable: {str(error) or type(error).__name__}"
            raise CoordinatorUnreachable(sentence) from error
        if answer.is_success:
            return cast("Json", answer.json())
        raise _refusal(answer, self.url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()


def may_use_tls(url: str) -> bool:
    """Whether a request to this address may use TLS, on its own or to a proxy. If not, no certificates need be read:
    that takes longer than the request."""
    return url.startswith("https:") or bool(getproxies())


def _path(id: str) -> str:
    """Raises MessageInvalid. The dots of `..` are written as codes: a URL would lose them."""
    return "/sagas/" + ("%2E" * len(id) if id in (".", "..") else saga_id(id))


def _refusal(answer: httpx.Response, url: str) -> Exception:
    code, message = _words(answer)
    if answer.status_code in AWAY:
        return CoordinatorUnreachable(f"the coordinator at {url} cannot answer now: {message}")
    kind = _KINDS.get(code, VerbRefused if _is_of_verb(answer) else CoordinatorRefused)
    refused = kind(message, status=answer.status_code, code=code)
    if isinstance(refused, NoSuchSaga):
        refused.kept_requests = answer.json()["error"].get("kept_requests", 0)
    return refused


_KINDS: Final = {"saga.not_found": NoSuchSaga, "start.rejected": StartRefused, "start.other_input": StartRefused}


def _is_of_verb(answer: httpx.Response) -> bool:
    return answer.status_code == HTTPStatus.CONFLICT and answer.request.method == "POST"


def _words(answer: httpx.Response) -> tuple[str, str]:
    """Of an error of the coordinator's, or of whatever stands before it."""
    try:
        error = answer.json()["error"]
        return str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        return "http", f"HTTP {answer.status_code} {answer.reason_phrase}, not from a coordinator"
