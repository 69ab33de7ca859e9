"""The addresses of the API and what stands behind each.

GET  /api/v1/sagas                  ?status=…&saga=…&attention=true&concern=…&paused=true&error=…&service=…
                                    &where=NAME=VALUE&started_before=…&updated_before=…&limit=…&cursor=…
GET  /api/v1/sagas/{id}             ?run=…&wait=SECONDS
GET  /api/v1/sagas/{id}/steps       ?run=…&after=NUMBER&limit=…
GET  /api/v1/sagas/{id}/history     ?run=…&after=SEQ&limit=…
GET  /api/v1/sagas/{id}/export      ?run=…&after=SEQ&limit=…
POST /api/v1/sagas                  ?unknown=allow   {"saga", "id", "input"}
POST /api/v1/sagas/{id}/events      ?name=near   {"name", "data", "event_id"?}
POST /api/v1/sagas/{id}/cancel      ?run=…&wait=SECONDS, as all verbs   {"reason"?, "actor"?, "request_id"?}
POST /api/v1/sagas/{id}/retry       {"step", "reason", "actor"?, "request_id"?}
POST /api/v1/sagas/{id}/skip        {"step", "reason", "actor"?, "request_id"?}
POST /api/v1/sagas/{id}/complete    {"step", "output", "reason", "actor"?, "request_id"?}
POST /api/v1/sagas/{id}/acknowledge {"reason", "actor"?, "step"?, "request_id"?}
POST /api/v1/sagas/{id}/pause       {"reason", "actor"?, "request_id"?}
POST /api/v1/sagas/{id}/resume      {"reason", "actor"?, "request_id"?}
POST /api/v1/sagas/{id}/terminate   {"reason", "actor"?, "request_id"?}
GET  /api/v1/sagas/{id}/requests/{request}  ?run=…&after=SEQ&wait=SECONDS
GET  /livez, /readyz
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from sagabus.contracts.envelope import Message
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.http.closings import Closings
from sagabus.coordinator.http.event_names import EventNames
from sagabus.coordinator.http.event_requests import EventRequests
from sagabus.coordinator.http.guard import Guard, refuse_open
from sagabus.coordinator.http.probes import Probes
from sagabus.coordinator.http.refusals import HANDLERS
from sagabus.coordinator.http.request_answers import RequestAnswers
from sagabus.coordinator.http.saga_requests import SagaRequests
from sagabus.coordinator.http.saga_views import SagaViews
from sagabus.coordinator.http.start_check import StartCheck
from sagabus.coordinator.http.verb_requests import VerbRequests
from sagabus.coordinator.http.verbs import VERBS
from sagabus.coordinator.store.operators import OperatorReads
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.settings import Settings


def application(
    *,
    database: Database,
    settings: Settings,
    publish: Callable[[Message], Awaitable[None]],
    closings: Closings,
    why_not: Callable[[], Awaitable[str]],
    answers: RequestAnswers | None = None,
    definitions: Iterable[SagaDefinition[Any, Any]] | None = None,
    owns: Callable[[str], bool] = lambda _: False,
    accepts: Callable[[], bool] = lambda: True,
) -> Starlette:
    """The API as an ASGI application. Raises SettingsError when it would be open to other machines without a token.

    publish: returns when the request is acknowledged. closings: is told of every saga that closes in this process.
    owns: whether a saga id belongs to a shard of this process, so that `closings` hears of its end. why_not: why this
    process is not ready, empty when it is. answers: is told of every verb that is decided upon in this process.
    definitions: that starts are checked against; None: they are not checked. accepts: false while there is nothing
    behind the API yet, or any more.
    """
    refuse_open(settings)
    probes = Probes(why_not)
    reads = OperatorReads(database, settings.namespace)
    views = SagaViews(reads, closings, owns)
    check = None if definitions is None else StartCheck(definitions, reads)
    requests = SagaRequests(settings.namespace, publish, check)
    events = EventRequests(requests, reads, EventNames(definitions or ()))
    verbs = VerbRequests(requests, reads, answers or RequestAnswers(), owns)
    app = Starlette(
        routes=[
            Route("/livez", probes.livez, methods=["GET"]),
            Route("/readyz", probes.readyz, methods=["GET"]),
            Route("/api/v1/sagas", views.list, methods=["GET"]),
            Route("/api/v1/sagas", requests.start, methods=["POST"]),
            Route("/api/v1/sagas/{id}", views.show, methods=["GET"]),
            Route("/api/v1/sagas/{id}/steps", views.steps, methods=["GET"]),
            Route("/api/v1/sagas/{id}/history", views.history, methods=["GET"]),
            Route("/api/v1/sagas/{id}/export", views.export, methods=["GET"]),
            Route("/api/v1/sagas/{id}/events", events.take, methods=["POST"]),
            Route("/api/v1/sagas/{id}/requests/{request}", verbs.show, methods=["GET"]),
            *(Route(f"/api/v1/sagas/{{id}}/{verb}", verbs.of(verb), methods=["POST"]) for verb in VERBS),
        ],
        middleware=[Middleware(Guard, token=settings.token.get_secret_value(), accepts=accepts)],
        exception_handlers=HANDLERS,
    )

    def drain() -> None:
        views.drain()
        verbs.drain()

    app.state.drain = drain
    return app
