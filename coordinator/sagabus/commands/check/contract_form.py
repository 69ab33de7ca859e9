"""The contracts of modules as one JSON value, to be compared with a later state of them (`contract_changes`).

    {"sagabus_contracts": 1,
     "activities": {"payment.pay": {"input": SCHEMA, "output": SCHEMA or null, "refusals": […],
                                    "compensation": "payment.refund" or null}},
     "sagas": {"trip version 1": {"input": SCHEMA, "output": SCHEMA or null}},
     "events": {"payment.paid": {"data": SCHEMA, "topic": … or null, "key": … or null}}}

A SCHEMA is what pydantic makes of the model, of what is read. It holds what the modules define and what the code of
their sagas names.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from sagabus.commands.subcommand import Exit, Failed
from sagabus.contracts import SagaType
from sagabus.contracts.activity import Activity, Service
from sagabus.contracts.event_type import EventType
from sagabus.coordinator import SagaDefinition
from sagabus.coordinator.code_names import objects_named

FORM: Final = 1
GIT_SECONDS: Final = 30.0

Json = dict[str, Any]


def form_of(objects: Iterable[object]) -> Json:
    """objects: all that modules define."""
    found = [*objects]
    for one in [*found]:
        if isinstance(one, SagaDefinition):
            found += objects_named(one._body)
        elif isinstance(one, Service):
            found += [*one.activities.values(), *one.events.values()]
    activities = {one.name: _activity(one) for one in found if isinstance(one, Activity)}
    activities |= {
        one.compensation.name: _activity(one.compensation)
        for one in found
        if isinstance(one, Activity) and one.compensation is not None
    }
    sagas = {
        f"{one.name} version {one.version}": _saga(one.contract) for one in found if isinstance(one, SagaDefinition)
    }
    sagas |= {one.name: _saga(one) for one in found if isinstance(one, SagaType)}
    events = {one.name: _event(one) for one in found if isinstance(one, EventType)}
    return {
        "sagabus_contracts": FORM,
        "activities": dict(sorted(activities.items())),
        "sagas": dict(sorted(sagas.items())),
        "events": dict(sorted(events.items())),
    }


def write(form: Json, file: str) -> None:
    """Sorted and indented, to be kept beside the code. Raises Failed."""
    try:
        Path(file).write_text(json.dumps(form, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise Failed(Exit.NOT_WRITTEN, f"{file} cannot be written: {error.strerror}") from error


def read(where: str) -> Json:
    """where: a file that `--write-contracts` wrote, or REF:FILE for what it was in a commit of git. Raises Failed."""
    text = _of_git(where) if ":" in where and not Path(where).exists() else _of_file(where)
    try:
        form = json.loads(text)
    except ValueError as error:
        raise Failed(Exit.USAGE, f"{where} is no JSON: {error}") from error
    if not isinstance(form, dict) or form.get("sagabus_contracts") != FORM:
        raise Failed(
            Exit.USAGE, f"{where} holds no contracts: write them with `sagabus check MODULE --write-contracts FILE`"
        )
    return form


def _of_file(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        cure = "write it with `sagabus check MODULE --write-contracts FILE`, or give REF:FILE for a commit of git"
        raise Failed(Exit.USAGE, f"{file} cannot be read: {error}; {cure}") from error


def _of_git(where: str) -> str:
    try:
        # `./`: FILE is meant as from here, and not from the top of the repository.
        ref, _, file = where.partition(":")
        name = f"{ref}:{file if file.startswith(('./', '../', '/')) else f'./{file}'}"
        done = subprocess.run(["git", "show", name], capture_output=True, check=False, timeout=GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(Exit.USAGE, f"git cannot be asked for {where}: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise Failed(Exit.USAGE, f"git has no {where}: {said}; give a commit, a branch or a tag, and a file in it")
    return done.stdout.decode(errors="replace")


def _activity(one: Activity[..., Any, Any]) -> Json:
    return {
        "input": _schema(one.input),
        "output": _schema(one.output_model),
        "refusals": sorted(one.refusals),
        "compensation": None if one.compensation is None else one.compensation.name,
    }


def _saga(one: SagaType[..., Any, Any]) -> Json:
    return {"input": _schema(one.input), "output": _schema(one.output_model)}


def _event(one: EventType[..., Any]) -> Json:
    return {"data": _schema(one.model), "topic": one.topic, "key": one.key}


def _schema(model: type[BaseModel] | None) -> Json | None:
    """By alias, as it goes over the wire. A model of which pydantic makes no schema accepts anything here."""
    if model is None:
        return None
    try:
        return model.model_json_schema(by_alias=True, mode="validation")
    except Exception:  # a type of the author's own, of which only its validator knows
        return {}
