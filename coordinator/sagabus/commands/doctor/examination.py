"""One look at everything, and what is told of it. Changes nothing."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict

from sagabus.commands import modules
from sagabus.commands.doctor import bus, processes
from sagabus.commands.doctor.finding import Report
from sagabus.commands.doctor.tables import Tables
from sagabus.commands.subcommand import Exit, Failed, say, say_json
from sagabus.contracts.activity import Service
from sagabus.contracts.errors import DeclarationError
from sagabus.messaging.postgres.database import Database
from sagabus.messaging.service.backing import find_here
from sagabus.messaging.settings import SERVICES, unknown_variables


async def run_doctor(options: Namespace) -> Exit:
    backing = find_here(require=SERVICES)
    found = modules.find(options.modules)
    services = _services(options)
    here = {one.service.name for one in found.participants}.union(options.service)
    report = Report()
    for name in unknown_variables():
        report.found("settings.unknown", f"{name} is set, and is no setting", "look for a typing error, or unset it")
    partitions = await bus.look(backing.kafka, backing.settings, services, report)
    database = Database(backing.settings.database)
    try:
        await Tables(database, backing.settings, partitions, report).look(
            coordinator=not options.services_only,
            definitions=found.definitions,
            services=here,
        )
    finally:
        await database.stop()
    if not options.services_only:
        await processes.look(report)
    _tell(options, report)
    return _exit(report)


def _services(options: Namespace) -> Sequence[Service]:
    """Those that the modules speak of, and those that are named. Raises Failed."""
    found = {one.name: one for one in modules.services(options.modules, required=False)}
    try:
        return [*found.values(), *(Service(name) for name in options.service if name not in found)]
    except DeclarationError as error:
        raise Failed(Exit.USAGE, f"--service: {error}") from error


def _tell(options: Namespace, report: Report) -> None:
    if options.json:
        findings = [asdict(one) for one in report.findings]
        say_json({"well": not findings, "findings": findings, "figures": report.figures, "hints": report.hints})
        return
    for name, figure in report.figures.items():
        if figure == {}:
            continue
        shown = ", ".join(f"{key} {value}" for key, value in figure.items()) if isinstance(figure, dict) else figure
        say(f"{name}: {shown}")
    for hint in report.hints:
        say(f"hint: {hint}")
    for number, one in enumerate(report.findings, start=1):
        say("")
        say(f"{number}. {one.what} [{one.code}]")
        say(f"   cure: {one.cure}")
    if report.findings:
        say("")
    say(f"{len(report.findings)} found" if report.findings else "all is well")


def _exit(report: Report) -> Exit:
    if any(one.away for one in report.findings):
        return Exit.UNREACHABLE
    return Exit.FOUND if report.findings else Exit.DONE
