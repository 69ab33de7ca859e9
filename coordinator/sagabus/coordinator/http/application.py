"""The addresses of the API and what stands behind each.

GET  /api/v1/sagas                  ?status=…&saga=…&attention=true&concern=…&error=…&service=…&id_prefix=…
                                    &started_before=…&updated_before=…&limit=…&cursor=…
GET  /api/v1/sagas/{id}             ?run=…&wait=SECONDS
GET  /api/v1/sagas/{id}/steps       ?run=…&after=NUMBER&limit=…
GET  /api/v1/sagas/{id}/history     ?run=…&after=SEQ&limit=…
POST /api/v1/sagas                  {"saga", "id", "input"}
POST /api/v1/sagas/{id}/events      {"name", "data", "event_id"?}
POST /api/v1/sagas/{id}/cancel      {"reason"}
POST /api/v1/sagas/{id}/retry       {"step", "reason", "actor"?}
POST /api/v1/sagas/{id}/skip        {"step", "reason", "actor"?}
POST /api/v1/sagas/{id}/acknowledge {"reason", "actor"?, "step"?}
GET  /livez, /readyz
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from sagabus.contracts.envelope import Message
from sagabus.coordinator.http.closings import Closings
from sagabus.coordinator.http.guard import Guard, refuse_open
from sagabus.coordinator.http.probes import Probes
from sagabus.coordinator.http.refusals import HANDLERS
from sagabus.coordinator.http.saga_requests import SagaRequests
from sagabus.coordinator.http.saga_views import SagaViews
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
    owns: Callable[[str], bool] = lambda _: False,
    accepts: Callable[[], bool] = lambda: True,
) -> Starlette:
    """The API as an ASGI application. Raises SettingsError when it would be open to other machines without a token.

    publish: returns when the request is acknowledged. closings: is told of every saga that closes in this process.
    owns: whether a saga id belongs to a shard of this process, so that `closings` hears of its end. why_not: why this
    process is not ready, empty when it is. accepts: false while there is nothing behind the API yet, or any more.
    """
    refuse_open(settings)
    probes = Probes(why_not)
    views = SagaViews(OperatorReads(database, settings.namespace), closings, owns)
    requests = SagaRequests(settings.namespace, publish)
    app = Starlette(
        routes=[
            Route("/livez", probes.livez, methods=["GET"]),
            Route("/readyz", probes.readyz, methods=["GET"]),
            Route("/api/v1/sagas", views.list, methods=["GET"]),
            Route("/api/v1/sagas", requests.start, methods=["POST"]),
            Route("/api/v1/sagas/{id}", views.show, methods=["GET"]),
            Route("/api/v1/sagas/{id}/steps", views.steps, methods=["GET"]),
            Route("/api/v1/sagas/{id}/history", views.history, methods=["GET"]),
            Route("/api/v1/sagas/{id}/events", requests.event, methods=["POST"]),
            Route("/api/v1/sagas/{id}/cancel", requests.cancel, methods=["POST"]),
            Route("/api/v1/sagas/{id}/retry", requests.retry, methods=["POST"]),
            Route("/api/v1/sagas/{id}/skip", requests.skip, methods=["POST"]),
            Route("/api/v1/sagas/{id}/acknowledge", requests.acknowledge, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, token=settings.token.get_secret_value(), accepts=accepts)],
        exception_handlers=HANDLERS,
    )
    app.state.drain = views.drain
    return app
