"""The coordinator's HTTP API, for people, scripts and the client: look at sagas, and ask for something.

What is asked for is published as a request and answered with 202: the way to a saga is its topic, and nothing here
changes a saga. Reads come from the database, so that every coordinator answers for all sagas, whoever owns them.
"""

from sagabus.coordinator.http.application import application
from sagabus.coordinator.http.closings import Closings
from sagabus.coordinator.http.server import CannotListen, serve, serving

__all__ = ["CannotListen", "Closings", "application", "serve", "serving"]
