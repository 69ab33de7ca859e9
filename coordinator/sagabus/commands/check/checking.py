"""The work of `sagabus check` and `sagabus diff`, and what is told of it."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Sequence

import asyncpg

from sagabus.commands import modules
from sagabus.commands.check import contract_changes, contract_form, lints
from sagabus.commands.check.finding import Finding
from sagabus.commands.check.histories import DatabaseHistories, Pace, Rehearsals, Tally, of_folder
from sagabus.commands.modules import Definition
from sagabus.commands.printable import printable
from sagabus.commands.subcommand import Exit, Failed, complain, say, say_json
from sagabus.coordinator.store.rows import SagaKey
from sagabus.messaging.service.backing import find_backing, find_here
from sagabus.messaging.settings import Settings, load_settings

SAMPLE = 20
"""Sagas of each version that `check --database` takes, unless told otherwise."""


async def run_check(options: Namespace) -> Exit:
    _refuse_sample_alone(options)
    if options.database is not None:
        _settings(options.database)  # wrong ones are told first
    definitions = _definitions(options)
    findings = [] if options.no_lints else lints.found(definitions)
    findings += _contracts(options)
    parts: list[Rehearsals] = []
    if options.histories is not None:
        parts.append(_of_files(options.histories, definitions))
    if options.database is not None:
        parts.append(await _of_database(options, definitions, everything=False))
    return _told(options, definitions, findings, parts)


async def run_diff(options: Namespace) -> Exit:
    _settings(options.database)  # wrong ones are told first
    definitions = modules.definitions(options.modules)
    part = await _of_database(options, definitions, everything=options.sample is None)
    return _told(options, definitions, [], [part])


def _definitions(options: Namespace) -> Sequence[Definition]:
    """Modules of contracts alone will do where contracts are all that is asked for."""
    if options.contracts is None and options.write_contracts is None:
        return modules.definitions(options.modules)
    return modules.find(options.modules).definitions


def _refuse_sample_alone(options: Namespace) -> None:
    if options.sample is not None and options.database is None:
        raise Failed(Exit.USAGE, "--sample is about a database: add --database, or --database URL")


def _contracts(options: Namespace) -> list[Finding]:
    if options.contracts is None and options.write_contracts is None:
        return []
    form = contract_form.form_of(modules.objects(options.modules))
    before = contract_form.read(options.contracts) if options.contracts is not None else None
    if options.write_contracts is not None:
        contract_form.write(form, options.write_contracts)
    return [] if before is None else [*contract_changes.changes(before, form)]


def _of_files(folder: str, definitions: Sequence[Definition]) -> Rehearsals:
    rehearsals, pace = Rehearsals(definitions, strict=True), Pace(complain)
    for file, one in of_folder(folder):
        rehearsals.take(one, file=file)
        pace.at(rehearsals)
    return rehearsals


async def _of_database(options: Namespace, definitions: Sequence[Definition], *, everything: bool) -> Rehearsals:
    """Raises DatabaseUnreachable."""
    if options.sample is not None and options.sample < 1:
        raise Failed(Exit.USAGE, f"--sample {options.sample}: give a whole number from 1 on")
    settings = _settings(options.database)
    histories = DatabaseHistories(settings.database, settings.namespace)
    rehearsals, pace = Rehearsals(definitions, strict=False), Pace(complain)
    try:
        await histories.reachable()
        if everything:
            async for keys in histories.all_open():
                await _take(histories, keys, rehearsals, pace)
        elif options.subcommand.name == "diff":
            await _take(histories, await histories.open_sample(options.sample), rehearsals, pace)
        else:
            await _take(histories, await histories.sample(options.sample or SAMPLE), rehearsals, pace)
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError) as error:
        what = f"the schema {settings.namespace} has no tables of a coordinator: {error}"
        raise Failed(Exit.REFUSED, f"{what}; look at SAGABUS_NAMESPACE, or run `sagabus migrate`") from error
    finally:
        await histories.stop()
    return rehearsals


async def _take(histories: DatabaseHistories, keys: Sequence[SagaKey], rehearsals: Rehearsals, pace: Pace) -> None:
    async for one in histories.recorded(keys):
        rehearsals.take(one)
        pace.at(rehearsals)
        await asyncio.sleep(0)  # so that an interrupt is heard


def _settings(url: str | None) -> Settings:
    """url: empty, or None, for what the settings say, or the host of this directory."""
    if not url:
        return find_here(require=("database",)).settings
    return find_backing(load_settings(require=("database",), database=url)).settings


def _told(
    options: Namespace, definitions: Sequence[Definition], findings: Sequence[Finding], parts: Sequence[Rehearsals]
) -> Exit:
    every = [*findings, *(one for part in parts for one in part.findings)]
    if options.json:
        say_json(_as_json(definitions, every, parts))
    else:
        for line in _lines(options, definitions, every, parts):
            say(line)
    return Exit.FOUND if any(one.is_error for one in every) else Exit.DONE


def _as_json(definitions: Sequence[Definition], every: Sequence[Finding], parts: Sequence[Rehearsals]) -> object:
    return {
        "well": not any(one.is_error for one in every),
        "definitions": [{"saga": one.name, "version": one.version} for one in definitions],
        "histories": [
            {"saga": name, "version": version, **tally.as_json()}
            for part in parts
            for (name, version), tally in sorted(part.tallies.items())
        ],
        "findings": [one.as_json() for one in every],
    }


def _lines(
    options: Namespace, definitions: Sequence[Definition], every: Sequence[Finding], parts: Sequence[Rehearsals]
) -> list[str]:
    lines = [printable(one.line) for one in every]
    for part in parts:
        lines += map(printable, part.not_named())
        lines += [_of_version(name, version, tally) for (name, version), tally in sorted(part.tallies.items())]
        if not part.tallies:
            lines.append("no sagas were found, so none is stopped")
    errors = sum(one.is_error for one in every)
    warnings = len(every) - errors
    lines.append(
        f"{_counted(len(definitions), 'definition')}, {_counted(_count(parts), 'history', 'histories')}: "
        f"{_counted(errors, 'error')}, {_counted(warnings, 'warning')}"
    )
    return lines


def _count(parts: Sequence[Rehearsals]) -> int:
    return sum(part.count for part in parts)


def _of_version(name: str, version: int, tally: Tally) -> str:
    what = f"{printable(name)} version {version}: "
    if not tally.has_code:
        return f"{what}{tally.open} open, and no code for them: all would stop"
    closed = f"; {tally.closed} closed, {tally.closed_stopped} of them not followed" if tally.closed else ""
    return f"{what}{tally.open} open, {tally.follows} follow, {tally.stopped} would stop{closed}"


def _counted(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or f'{one}s'}"
