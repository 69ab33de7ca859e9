"""Which process this is, for whoever has to find it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """instance: `SAGABUS_INSTANCE`; empty where it is not set."""

    host: str
    process: int
    instance: str = ""

    @classmethod
    def of_this_process(cls, instance: str = "") -> ProcessIdentity:
        return cls(host=socket.gethostname(), process=os.getpid(), instance=instance)

    def __str__(self) -> str:
        instance = f", instance {self.instance}" if self.instance else ""
        return f"process {self.process} on {self.host}{instance}"
