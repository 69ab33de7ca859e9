"""`parked` and `unpark`: what waits in `outbox_parked`, and the word that it may go.

Un-parking only asks: the process that owns the saga's shard sends the rows within its next turn, a second at the most,
before anything else of the saga. So it works for the coordinator and for services alike, and nothing overtakes.
"""

from __future__ import annotations

from argparse import Namespace

from sagabus.commands.dead_letters import sheets
from sagabus.commands.dead_letters.service_tables import opened
from sagabus.commands.subcommand import Exit, Failed, complain, say, say_json
from sagabus.commands.widths import line_width


async def run_parked(options: Namespace) -> Exit:
    async with opened(options) as tables:
        found = await tables.parked.sagas(topic=options.topic, limit=options.limit + 1)
    shown = found[: options.limit]
    if options.json:
        say_json([sheets.parked_json(one) for one in shown])
        return Exit.DONE
    for line in sheets.parked(shown, width=line_width()):
        say(line)
    if len(found) > len(shown):
        complain(f"there are more than {options.limit}: narrow it down, or raise --limit")
    return Exit.DONE


async def run_unpark(options: Namespace) -> Exit:
    if bool(options.sagas) == options.all:
        raise Failed(Exit.USAGE, "name sagas, or give --all")
    async with opened(options) as tables:
        released = await tables.parked.release(options.sagas or None, topic=options.topic, reason=options.reason)
    if options.json:
        say_json({"released": released})
    else:
        for saga_id in released:
            say(f"{saga_id}: will be sent again by the owner of its shard, in order")
        if options.all and not released:
            say("nothing is parked")
    if missing := [saga_id for saga_id in options.sagas if saga_id not in released]:
        raise Failed(Exit.NOT_FOUND, f"nothing is parked of {', '.join(missing)}: see `sagabus dead-letters parked`")
    return Exit.DONE
