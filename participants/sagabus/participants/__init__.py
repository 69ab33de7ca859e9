"""What the author of a participant uses."""

from sagabus.participants.handlers.context import ActivityContext, ExternalContext
from sagabus.participants.handlers.refusal import Refused, TryAgain
from sagabus.participants.participant import Participant

__all__ = ["ActivityContext", "ExternalContext", "Participant", "Refused", "TryAgain"]
