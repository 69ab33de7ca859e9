"""Test a saga without a broker or a database.

SagaTest      a saga in memory with a virtual clock, answers given by the test
given         the same, step by step: expect a command, reply, …
replays       whether a recorded history is replayed by the code as it is now
simulate      crashes, duplicates, lost and late messages around your saga, from seeds
"""

from sagabus.client.failures import SagaFailed
from sagabus.testing.asked import Asked, PublishedEvent, StartedSaga, TestedStep
from sagabus.testing.given import given
from sagabus.testing.recorded_history import HistoryDiffers, replays
from sagabus.testing.saga_test import SagaTest
from sagabus.testing.simulation import Ending, Simulated, SimulationFailed, simulate
from sagabus.testing.words import NoAnswer, NotEnded, ReplayDiffers, Unexpected

__all__ = [
    "Asked",
    "Ending",
    "HistoryDiffers",
    "NoAnswer",
    "NotEnded",
    "PublishedEvent",
    "ReplayDiffers",
    "SagaFailed",
    "SagaTest",
    "Simulated",
    "SimulationFailed",
    "StartedSaga",
    "TestedStep",
    "Unexpected",
    "given",
    "replays",
    "simulate",
]
