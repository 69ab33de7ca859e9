"""The error of wrong settings. It stands apart: to import the settings themselves takes a tenth of a second."""

from __future__ import annotations

from collections.abc import Collection

from sagabus.contracts.errors import ExitCode, SagabusError


class SettingsError(SagabusError):
    """Settings that cannot work. The message names all faults; `faults` has them one by one."""

    exit_code = ExitCode.USAGE

    def __init__(self, faults: Collection[str]) -> None:
        super().__init__("\n".join(["wrong or missing settings:", *(f"  {fault}" for fault in faults)]))
        self.faults = tuple(faults)
