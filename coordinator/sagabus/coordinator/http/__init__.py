"""The coordinator's HTTP API, for people, scripts and the client: look at sagas, and ask for something.

What is asked for is published as a request: the way to a saga is its topic, and nothing here changes a saga. Verbs are
answered with what became of them, starts and events with 202. Reads come from the database, so that every coordinator
answers for all sagas, whoever owns them.
"""

from sagabus.coordinator.http.application import application
from sagabus.coordinator.http.closings import Closings
from sagabus.coordinator.http.listening import CannotListen
from sagabus.coordinator.http.request_answers import RequestAnswers
from sagabus.coordinator.http.server import serve, serving

__all__ = ["CannotListen", "Closings", "RequestAnswers", "application", "serve", "serving"]
