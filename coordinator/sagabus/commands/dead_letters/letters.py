"""`list`, `show`, `replay` and `drop`: the rows of `dead_letter`."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from sagabus.commands.dead_letters import sheets
from sagabus.commands.dead_letters.drops import Drops
from sagabus.commands.dead_letters.replay import DeadLetterReplay
from sagabus.commands.dead_letters.service_tables import ServiceTables, opened
from sagabus.commands.subcommand import Exit, Failed, complain, say, say_json
from sagabus.commands.widths import line_width
from sagabus.messaging.publishing.dead_letter_rows import Repair, Wanted


async def run_list(options: Namespace) -> Exit:
    wanted = _wanted(options)
    async with opened(options) as tables:
        totals = await tables.letters.totals(wanted)
        letters = await tables.letters.newest(wanted, limit=options.limit)
    if options.json:
        listed = [sheets.summary(letter) for letter in letters]
        say_json({"letters": listed, "total": sum(totals.values()), "by_reason": totals})
        return Exit.DONE
    for line in sheets.listed(letters, totals, width=line_width()):
        say(line)
    return Exit.DONE


async def run_show(options: Namespace) -> Exit:
    async with opened(options) as tables:
        letter = await tables.letters.letter(options.id)
    if letter is None:
        raise Failed(Exit.NOT_FOUND, _not_there(tables, [options.id]))
    if options.json:
        say_json(sheets.whole(letter))
    else:
        for line in sheets.shown(letter):
            say(line)
    return Exit.DONE


async def run_replay(options: Namespace) -> Exit:
    repair = _repair(options)
    _check_which(options)
    async with opened(options, kafka=True) as tables, tables.producer() as producer:
        replay = DeadLetterReplay(tables.letters, producer, repair)
        try:
            if options.all:
                await replay.all(await tables.letters.ids(_wanted(options)), progress=complain)
            else:
                await replay.each(options.ids)
        finally:
            _tell_replayed(options, replay)
        for id, words in replay.refused.items():
            complain(f"{id} stays: {words}")
        await _check_absent(tables, [] if options.all else replay.absent)
    return Exit.REFUSED if replay.refused else Exit.DONE


async def run_drop(options: Namespace) -> Exit:
    _check_which(options)
    absent, drops = [], Drops(options.reason, as_json=options.json)
    async with opened(options) as tables:
        try:
            for id in await tables.letters.ids(_wanted(options)) if options.all else options.ids:
                async with tables.letters.taken([id]) as letters:
                    for letter in letters:  # told before it is gone
                        drops.tell(letter)
                absent += [] if letters else [id]
        finally:
            drops.tell_others()
        await _check_absent(tables, [] if options.all else absent)
    return Exit.DONE


async def _check_absent(tables: ServiceTables, ids: Sequence[int]) -> None:
    """Raises Failed for letters that could not be had: another operator's matter, or not there at all."""
    held = [id for id in ids if await tables.letters.letter(id) is not None]
    if held:
        raise Failed(Exit.REFUSED, f"{_named(held)} is being handled by another operator at this moment; look again")
    if ids:
        raise Failed(Exit.NOT_FOUND, _not_there(tables, ids))


def _not_there(tables: ServiceTables, ids: Sequence[int]) -> str:
    which = f"the schema {tables.schema} has no dead letter {_named(ids)}"
    return f"{which}: it was replayed, dropped or pruned, or it is another service's (--service)"


def _named(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))


def _tell_replayed(options: Namespace, replay: DeadLetterReplay) -> None:
    if options.json:
        say_json({"replayed": replay.replayed, "refused": replay.refused, "absent": replay.absent})
    elif replay.replayed and not options.all:
        say(f"replayed: {_named(replay.replayed)}")
    elif options.all:
        say(f"replayed {len(replay.replayed)}, refused {len(replay.refused)}")


def _wanted(options: Namespace) -> Wanted:
    return Wanted(reason=options.reason_code, topic=options.topic, saga=options.saga)


def _check_which(options: Namespace) -> None:
    chosen = any((options.reason_code, options.topic, options.saga))
    if bool(options.ids) == options.all:
        raise Failed(Exit.USAGE, "name dead letters by their ids, or give --all with --reason-code, --topic or --saga")
    if options.all != chosen:
        raise Failed(Exit.USAGE, "--all needs --reason-code, --topic or --saga, and these need --all")


def _repair(options: Namespace) -> Repair:
    if options.all and (options.value or options.key or options.header):
        raise Failed(Exit.USAGE, "a repair is for letters that are named by their ids, not for --all")
    return Repair(
        value=None if options.value is None else _bytes(options.value),
        key=None if options.key is None else options.key.encode(),
        headers=tuple(options.header),
    )


def _bytes(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise Failed(Exit.USAGE, f"--value {file}: {error.strerror}; give a file, or - for standard input") from error
