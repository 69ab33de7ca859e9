"""What `dev` says once all is up: what runs, where it is, and the commands that come next. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """sagas: name and input fields of each. url: of the API; empty where it is off. database: without a password.

    absent: a sentence for each service that is called and not served. here: whether the other commands find all of it
    in the current directory.
    """

    sagas: Sequence[tuple[str, Sequence[str]]]
    participants: Sequence[str]
    url: str
    kafka: str
    database: str
    log: Path
    here: bool
    absent: Sequence[str] = ()

    def lines(self) -> Iterator[str]:
        yield f"sagas:        {', '.join(name for name, _ in self.sagas)}"
        yield f"participants: {', '.join(self.participants) or 'none'}"
        yield f"bus:          {self.kafka} (Kafka protocol; new and empty at each start)"
        yield f"database:     {self.database}"
        yield f"log:          {self.log} (here: warnings, and what sagas and handlers log)"
        yield from self._next() if self.url else ()
        yield from (f"warning: {sentence}" for sentence in self.absent)
        yield f"ready at {self.url or 'no address: SAGABUS_HTTP is off'}; Ctrl-C ends it, a second Ctrl-C at once"

    def _next(self) -> Iterator[str]:
        name, fields = self.sagas[0]
        yield f"next, from another terminal {'in this directory' if self.here else f'with SAGABUS_URL={self.url}'}:"
        yield f"  sagabus start {name} --id ID-1 --input FILE --wait"
        yield f"      FILE is a JSON object of {', '.join(fields) or 'no fields'}"
        yield "  sagabus list"
        yield "  sagabus show ID-1 --history"
