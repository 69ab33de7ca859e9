"""What `sagabus check` finds: a code for scripts, where it is, what is wrong, and what to do instead."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Severity(StrEnum):
    ERROR = "error"
    """The command ends with 6."""
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """place: `file:line`, empty where it is about no line. saga: `name version n`, or the name of a contract. id: of
    the saga whose history it is about. row: of that history, 0 for none."""

    code: str
    severity: Severity
    what: str
    cure: str
    place: str = ""
    saga: str = ""
    id: str = ""
    row: int = 0

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    @property
    def line(self) -> str:
        """For people, in one line."""
        place = f"{self.place}: " if self.place else ""
        about = f"{self.saga}, {self.id}: " if self.id else ""
        return f"{place}{self.severity} [{self.code}] {about}{self.what}; {self.cure}"

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def error(code: str, what: str, cure: str, *, place: str = "", saga: str = "", id: str = "", row: int = 0) -> Finding:
    return Finding(
        code=code, severity=Severity.ERROR, what=what, cure=cure, place=place, saga=saga, id=id, row=row
    )  # fmt: skip


def warning(code: str, what: str, cure: str, *, place: str = "", saga: str = "", id: str = "", row: int = 0) -> Finding:
    return Finding(
        code=code, severity=Severity.WARNING, what=what, cure=cure, place=place, saga=saga, id=id, row=row
    )  # fmt: skip
