"""What a record of an outside topic is to sagas: the requests that follow from it. Pure.

A record without a value is a tombstone of a compacted topic, and says nothing to a saga. One with a `ce_type` that no
route names is somebody else's matter. Without a `ce_type` it counts as the event of its topic, if routes name one event
of that topic only. What the author's functions raise is a fault of one route: the others of the record go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from sagabus.contracts import codec, requests
from sagabus.contracts.envelope import Headers, Message, Record, source_of
from sagabus.contracts.errors import DeclarationError, MessageInvalid
from sagabus.contracts.headers import LONGEST, HeaderReader
from sagabus.contracts.words import words_of
from sagabus.coordinator.definition import SagaDefinition
from sagabus.coordinator.route import Route

SAGA_ID_FAULT: Final = "route.saga_id"
START_FAULT: Final = "route.start"
TYPE_MISSING: Final = "route.type_missing"

_OfTopic = Mapping[str, Sequence[Route]]
"""By the event's name."""


@dataclass(slots=True)
class Routed:
    """What a record has led to. faults: reason code and sentence of each route that could not be followed."""

    messages: list[Message] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)


class Routes:
    """Of all definitions of a process. Of several versions of one saga the newest one's count."""

    def __init__(self, definitions: Iterable[SagaDefinition[Any, Any]], *, namespace: str) -> None:
        """Raises DeclarationError for a topic of the namespace's own."""
        self._namespace = namespace
        self._source = source_of(namespace)
        self._of: dict[str, dict[str, list[Route]]] = {}
        for definition in _newest(definitions):
            for route in definition.routes:
                if route.topic.startswith(f"{namespace}."):
                    raise DeclarationError(f"{route}: {route.topic} is a topic of the coordinator itself")
                self._of.setdefault(route.topic, {}).setdefault(route.event.name, []).append(route)

    @property
    def topics(self) -> Sequence[str]:
        """That are read."""
        return sorted(self._of)

    def follow(self, record: Record, *, at: int) -> Routed:
        """at: microseconds since 1970. Raises MessageInvalid for a record that cannot be understood at all."""
        routed = Routed()
        if record.value is None:
            return routed
        headers = HeaderReader(record.headers)
        routes = self._routes_of(record, headers.text("ce_type"))
        if not routes:
            return routed
        told = _Told(self._namespace, self._source, _id_of(record, headers), headers.trace(), at)
        read: dict[type[BaseModel], BaseModel] = {}
        for route in routes:
            model = route.event.model
            if model not in read:
                read[model] = codec.decode(model, record.value, what=f"event {route.event.name}")
            try:
                message = told.message(route, read[model], record.value)
            except MessageInvalid as fault:
                routed.faults.append((fault.reason, f"{route}: {fault.message}"))
                continue
            if message is not None and message not in routed.messages:
                routed.messages.append(message)
        return routed

    def _routes_of(self, record: Record, type: str | None) -> Sequence[Route]:
        of_topic: _OfTopic = self._of.get(record.topic, {})
        if type:
            return of_topic.get(type, ())
        if len(of_topic) == 1:
            return next(iter(of_topic.values()))
        events = ", ".join(sorted(of_topic))
        raise MessageInvalid(TYPE_MISSING, f"it has no ce_type, and routes of {record.topic} name several: {events}")


@dataclass(frozen=True, slots=True)
class _Told:
    """What the requests that follow from one record have alike."""

    namespace: str
    source: bytes
    id: str
    trace: Headers
    at: int

    def message(self, route: Route, data: BaseModel, body: bytes) -> Message | None:
        """None if it is for no saga. Raises MessageInvalid."""
        id = _saga_id(route, data)
        if id is None:
            return None
        if route.starts:
            return requests.start_request(route.saga, _input(route, data, body), **self._envelope(id))
        return requests.event_request(route.event.name, body, **self._envelope(id))

    def _envelope(self, saga_id: str) -> dict[str, Any]:
        return {
            "saga_id": saga_id, "namespace": self.namespace, "message_id": self.id, "source": self.source,
            "time": self.at, "trace": self.trace,
        }  # fmt: skip


def _newest(definitions: Iterable[SagaDefinition[Any, Any]]) -> Iterable[SagaDefinition[Any, Any]]:
    found: dict[str, SagaDefinition[Any, Any]] = {}
    for definition in definitions:
        if definition.name not in found or found[definition.name].version < definition.version:
            found[definition.name] = definition
    return found.values()


def _saga_id(route: Route, data: BaseModel) -> str | None:
    found: object = _asked(SAGA_ID_FAULT, "saga_id", route.saga_id, data)
    if found is None or isinstance(found, str):
        return found
    raise MessageInvalid(SAGA_ID_FAULT, f"saga_id gave a {type(found).__name__}; it is to give a text, or None")


def _input(route: Route, data: BaseModel, body: bytes) -> bytes:
    if route.input_of is None:
        return body
    made: object = _asked(START_FAULT, "start", route.input_of, data)
    if not isinstance(made, route.input):
        wanted = route.input.__name__
        raise MessageInvalid(START_FAULT, f"start gave a {type(made).__name__}; it is to give a {wanted}")
    return codec.encode_as(route.input, made, what=f"the input of {route.saga}")


def _asked(reason: str, name: str, function: Any, data: BaseModel) -> object:
    """What the author's function says. Raises MessageInvalid, whatever it raises."""
    try:
        return function(data)
    except (Exception, SystemExit) as error:
        raise MessageInvalid(reason, f"{name} raised {type(error).__name__}: {words_of(error)}") from error


def _id_of(record: Record, headers: HeaderReader) -> str:
    """What makes two requests the same one. An id of CloudEvents counts within its source alone."""
    own, source = headers.text("ce_id"), headers.text("ce_source")
    if own:
        id = f"{source}#{own}" if source else own
        if len(id) <= LONGEST:
            return id
    return f"{record.topic}:{record.partition}:{record.offset}"
