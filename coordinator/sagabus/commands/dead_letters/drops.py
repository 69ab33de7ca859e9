"""What `drop` tells of the letters that it deletes: each before it is gone, and of those that look alike the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sagabus.commands.dead_letters import sheets
from sagabus.commands.subcommand import say, say_json
from sagabus.messaging.publishing.dead_letter_rows import Letter


@dataclass(slots=True)
class _Others:
    """Letters that look like the one with this id, which was told."""

    first: int
    count: int = 0
    last: int = 0


class Drops:
    """Of one command. reason: why the letters are dropped."""

    def __init__(self, reason: str, *, as_json: bool) -> None:
        self._reason: Final = reason
        self._as_json: Final = as_json
        self._alike: Final[dict[tuple[str, str, bytes | None, str], _Others]] = {}

    def tell(self, letter: Letter) -> None:
        """JSON leaves nothing out."""
        if self._as_json:
            say_json({**sheets.whole(letter), "dropped_because": self._reason})
            return
        look = letter.reason, letter.topic, letter.key, letter.message
        if (others := self._alike.get(look)) is None:
            self._alike[look] = _Others(letter.id)
            say(f"dropped: {sheets.line(letter)}")
        else:
            others.count, others.last = others.count + 1, letter.id

    def tell_others(self) -> None:
        """How many were not told one by one."""
        for others in self._alike.values():
            if others.count:
                say(f"dropped: {others.count} more like {others.first}, the last of them {others.last}")
