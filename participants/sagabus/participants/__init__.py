"""What the author of a participant uses."""

from sagabus.participants.context import ActivityContext, ExternalContext
from sagabus.participants.participant import Participant
from sagabus.participants.refusal import Refused, TryAgain

__all__ = ["ActivityContext", "ExternalContext", "Participant", "Refused", "TryAgain"]
