"""The service of the saga that calls thousands at once: its neighbours share the coordinator with it, and no more."""

from __future__ import annotations

from sagabus.participants import ActivityContext, Participant
from tests.system.ordinary.trial_sagas import Entered, Entry, crowd, join

service = Participant(crowd)


@service.handles(join)
async def joined(command: Entry, ctx: ActivityContext) -> Entered:
    return Entered(number=command.number)
