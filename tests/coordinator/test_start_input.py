"""The input of a start is validated once, and no two sagas share one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from pydantic import BaseModel

from sagabus.contracts import codec
from sagabus.coordinator import SagaContext, saga

BODY = b'{"type":"start","saga":"keeps","input":{"items":[1]}}'


class Basket(BaseModel):
    items: list[int]


def test_an_input_is_validated_once_and_handed_to_one_saga_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Basket] = []
    validated: list[bytes | None] = []
    decode = codec.decode

    @saga("keeps")
    async def keeps(ctx: SagaContext, basket: Basket) -> None:
        seen.append(basket)
        basket.items.append(2)

    def counted(model: Any, data: bytes | None, **options: Any) -> Any:
        validated.append(data)
        return decode(model, data, **options)

    def run(request: bytes) -> None:
        with suppress(StopIteration):
            keeps.run(Any, request).send(None)  # type: ignore[arg-type]    # it asks its context for nothing

    monkeypatch.setattr(codec, "decode", counted)
    keeps.input_hash(BODY)
    run(BODY)
    assert validated == [BODY]
    run(BODY)
    assert validated == [BODY, BODY], "what one saga has changed is not what the next one gets"
    assert seen[0] is not seen[1]
    keeps.input_hash(BODY)
    run(BODY.replace(b"1", b"7"))
    assert seen[2].items == [7, 2], "another request than the one that was hashed last is read"
