"""What the doctor finds: a code for scripts, what is wrong, and what cures it; and hints, which are no faults."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Finding:
    """away: a server is unreachable, so that nothing can be said of what it holds."""

    code: str
    what: str
    cure: str
    away: bool = False


@dataclass
class Report:
    """Grows while the doctor looks. figures: what was seen, whether it is a fault or not. hints: sentences."""

    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)
    hints: list[str] = field(default_factory=list)

    def found(self, code: str, what: str, cure: str, *, away: bool = False) -> None:
        self.findings.append(Finding(code, what, cure, away))
