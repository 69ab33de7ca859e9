"""What a change of a contract breaks: each change that does with its words, and each that does not."""

from __future__ import annotations

import json
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model

from sagabus.commands.check import contract_form
from sagabus.commands.check.contract_changes import changes
from sagabus.commands.check.schema_changes import narrowings
from sagabus.commands.subcommand import Failed
from sagabus.contracts import SagaType, Service

Short = Annotated[str, Field(max_length=5)]
Positive = Annotated[int, Field(ge=1)]


class Inner(BaseModel):
    a: int


class InnerMore(BaseModel):
    a: int
    b: int


class Tree(BaseModel):
    name: str
    parts: list[Tree] = []


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Dogged(BaseModel):
    kind: Literal["dog"]
    name: str
    age: int


def model(**fields: Any) -> type[BaseModel]:
    return create_model("Model", **fields)


def between(before: type[BaseModel], after: type[BaseModel], *, whole: bool = False) -> list[str]:
    return [
        f"{path}: {words}"
        for path, words in narrowings(before.model_json_schema(), after.model_json_schema(), whole=whole)
    ]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {"x": (int, ...)}, "x: it is a new field, and required"),
        ({"x": (int, 1)}, {"x": (int, ...)}, "x: it is required now, and could be left out"),
        ({"x": (int, ...)}, {"x": (str, ...)}, "x: it is a string now, and was an integer"),
        ({"x": (float, ...)}, {"x": (int, ...)}, "x: it is an integer now, and was a number"),
        ({"x": (Any, ...)}, {"x": (int, ...)}, "x: it is an integer now, and was anything"),
        ({"x": (int | None, ...)}, {"x": (int, ...)}, "x: null is accepted no longer"),
        ({"x": (int | str, ...)}, {"x": (int | None, ...)}, "x: string is accepted no longer"),
        ({"x": (Literal["a", "b"], ...)}, {"x": (Literal["a"], ...)}, "x: 'b' is accepted no longer"),
        ({"x": (str, ...)}, {"x": (Literal["a"], ...)}, "x: only 'a' is accepted now"),
        ({"x": (str, ...)}, {"x": (Literal["a", "b"], ...)}, "x: only 'a', 'b' is accepted now"),
        ({"x": (str, ...)}, {"x": (Short, ...)}, "x: maxLength is 5 now, and was not set"),
        ({"x": (Positive, ...)}, {"x": (Annotated[int, Field(ge=2)], ...)}, "x: minimum is 2 now, and was 1"),
        ({"x": (str, ...)}, {"x": (Annotated[str, Field(pattern="a+")], ...)}, "x: pattern is a+ now, and was not set"),
        ({"x": (list[int], ...)}, {"x": (list[str], ...)}, "x[]: it is a string now, and was an integer"),
        ({"x": (tuple[int, str], ...)}, {"x": (tuple[int, int], ...)}, "x[1]: it is an integer now, and was a string"),
        ({"x": (dict[str, int], ...)}, {"x": (dict[str, str], ...)}, "x.*: it is a string now, and was an integer"),
        ({"x": (Inner, ...)}, {"x": (InnerMore, ...)}, "x.b: it is a new field, and required"),
        ({"x": (Cat | Dog, ...)}, {"x": (Cat | Dogged, ...)}, "x: Dog is accepted no longer"),
    ],
)  # fmt: skip
def test_a_type_that_accepts_less_is_found(before: dict[str, Any], after: dict[str, Any], words: str) -> None:
    assert between(model(**before), model(**after)) == [words]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"x": (int, ...)}, {"x": (int, ...)}),
        ({}, {"x": (int, 1)}),
        ({"x": (int, ...)}, {"x": (int, 1)}),
        ({"x": (int, ...)}, {}),
        ({"x": (int, ...)}, {"x": (float, ...)}),
        ({"x": (int, ...)}, {"x": (Any, ...)}),
        ({"x": (int, ...)}, {"x": (int | None, ...)}),
        ({"x": (Literal["a"], ...)}, {"x": (Literal["a", "b"], ...)}),
        ({"x": (Literal["a"], ...)}, {"x": (str, ...)}),
        ({"x": (Annotated[int, Field(ge=2)], ...)}, {"x": (Annotated[int, Field(ge=1)], ...)}),
        ({"x": (Annotated[str, Field(max_length=5)], ...)}, {"x": (str, ...)}),
        ({"x": (Inner, ...)}, {"x": (Inner, ...)}),
        ({"x": (Tree, ...)}, {"x": (Tree, ...)}),
        ({"x": (Cat, ...)}, {"x": (Cat | Dog, ...)}),
        ({"x": (Decimal, ...)}, {"x": (Decimal, ...)}),
        ({"x": (InnerMore, ...)}, {"x": (Inner, ...)}),
    ],
)
def test_one_that_accepts_as_much_or_more_is_not(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert between(model(**before), model(**after)) == []


def test_a_field_may_go_unless_the_model_forbids_what_it_does_not_have() -> None:
    strict = create_model("Model", __config__=ConfigDict(extra="forbid"), a=(int, ...))
    words = "b: it was removed, and the model forbids fields that it does not have"
    assert between(model(a=(int, ...), b=(int, ...)), strict) == [words]


def test_whoever_leaves_no_field_out_may_be_asked_for_it() -> None:
    assert between(model(x=(int, 1)), model(x=(int, ...)), whole=True) == []
    assert between(model(), model(x=(int, ...)), whole=True) != []


class Job(BaseModel):
    order: str


class MoreJob(Job):
    weight: int


class Light(Job):
    weight: int = 1


class Done(BaseModel):
    ref: str


def contracts(
    *, input: type[BaseModel] = Job, output: type[BaseModel] | None = Done, refusals: tuple[str, ...] = ("full",),
    undo: str | None = "release", activity: str = "reserve", saga: str = "trip", result: type[BaseModel] | None = Done,
    event: str = "told", data: type[BaseModel] = Job, key: str | None = None,
) -> contract_form.Json:  # fmt: skip
    gives: Any = result
    stock = Service("stock")
    undone = None if undo is None else stock.compensation(undo, Job)
    stock.activity(activity, input, output, compensation=undone, refusals=refusals)
    stock.event(event, data, key=key)
    return contract_form.form_of([stock, SagaType(saga, Job, gives)])


@pytest.mark.parametrize(
    ("after", "code", "words"),
    [
        ({"input": MoreJob}, "contract.narrowed", "stock.reserve: input.weight: it is a new field, and required"),
        ({"output": MoreJob}, "contract.narrowed", "stock.reserve: output.order: it is a new field, and required"),
        ({"refusals": ()}, "contract.refusal", "stock.reserve declares its refusal full no longer"),
        ({"activity": "book"}, "contract.removed", "the activity stock.reserve was removed"),
        ({"saga": "tour"}, "contract.removed", "the saga trip was removed"),
        ({"event": "said"}, "contract.removed", "the event stock.told was removed"),
        ({"data": MoreJob}, "contract.narrowed", "event stock.told: data.weight: it is a new field, and required"),
        ({"key": "order"}, "contract.event", "event stock.told: its key is 'order', and was None"),
        (
            {"result": Job}, "contract.result",
            "saga trip: whoever reads its result as it was cannot read what it gives now at ref",
        ),
        (
            {"result": None}, "contract.result",
            "saga trip: whoever reads its result as it was cannot read what it gives now",
        ),
    ],
)  # fmt: skip
def test_a_change_that_breaks_is_found(after: dict[str, Any], code: str, words: str) -> None:
    found = [*changes(contracts(), contracts(**after))]
    assert (found[0].code, found[0].what) == (code, words)
    assert all(one.is_error and one.cure for one in found)


def test_another_undo_is_found() -> None:
    removed, changed = changes(contracts(), contracts(undo="put_back"))
    assert removed.what == "the activity stock.release was removed"
    assert changed.what == "stock.reserve is undone by stock.put_back, and was undone by stock.release"
    *_, none = changes(contracts(), contracts(undo=None))
    assert none.what == "stock.reserve is undone by nothing, and was undone by stock.release"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({}, {"input": Light}),
        ({}, {"refusals": ("full", "closed")}),
        ({"undo": None}, {}),
        ({"result": None}, {}),
        ({"output": None}, {"output": None}),
        ({}, {"output": None}),
    ],
)
def test_what_was_added_is_not(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert [*changes(contracts(**before), contracts(**after))] == []


def test_a_version_of_a_saga_may_go_and_the_last_one_may_not() -> None:
    form = contracts()
    one, both = (
        {**form, "sagas": {"trip version 2": {}}},
        {**form, "sagas": {"trip version 1": {}, "trip version 2": {}}},
    )
    for sagas in (one["sagas"], both["sagas"]):
        for version in sagas:
            sagas[version] = {"input": {}, "output": None}
    assert [*changes(both, one)] == []
    (gone,) = changes(one, {**form, "sagas": {}})
    assert gone.what == "the saga trip was removed"


def test_they_are_written_and_read_also_from_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    form = contracts()
    contract_form.write(form, "contracts.json")
    assert contract_form.read("contracts.json") == form
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", *words], check=True, capture_output=True)
    contract_form.write(contracts(undo=None), "contracts.json")
    assert contract_form.read("HEAD:contracts.json") == form
    with pytest.raises(Failed, match=r"git has no HEAD:others\.json"):
        contract_form.read("HEAD:others.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read"), ("{", "is no JSON"), ("{}", "holds no contracts"), ("[]", "holds no contracts")],
)
def test_what_holds_no_contracts_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "contracts.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Failed, match=words):
        contract_form.read(str(file))
    with pytest.raises(Failed, match="cannot be written"):
        contract_form.write({}, str(tmp_path / "nowhere" / "contracts.json"))


def test_what_a_sagas_code_names_is_among_them() -> None:
    from sagabus.shop import order_processing  # a module that defines a saga, and imports its contracts

    form = contract_form.form_of([order_processing.order_processing])
    assert "inventory.reserve_inventory" in form["activities"]
    assert "inventory.cancel_reservation" in form["activities"]
    assert [*form["sagas"]] == ["order_processing version 1"]
    assert json.loads(json.dumps(form)) == form
