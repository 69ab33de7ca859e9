"""Which function does the work of a verb. To import it takes as long as Kafka's clients and asyncpg take."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from sagabus.commands.dead_letters import letters, parked
from sagabus.commands.subcommand import Exit

WORK: Final[Mapping[str, Callable[[Namespace], Coroutine[Any, Any, Exit]]]] = {
    "list": letters.run_list,
    "show": letters.run_show,
    "replay": letters.run_replay,
    "drop": letters.run_drop,
    "parked": parked.run_parked,
    "unpark": parked.run_unpark,
}
"""By verb."""
