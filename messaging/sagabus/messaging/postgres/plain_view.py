"""`outbox_plain`: the rows of `outbox` and `outbox_parked` with key, value and headers in columns, for people.

The tables hold a record's bytes in Kafka's own format (`contracts.record_bytes`). This reads them in SQL when somebody
looks, and costs nothing otherwise. Nothing in the product uses it.
"""

from __future__ import annotations

from typing import Final

from sagabus.messaging.postgres.tables import qualified

VIEW: Final = "outbox_plain"
FUNCTION: Final = "plain_record"


def plain_view(schema: str) -> tuple[str, ...]:
    """The statements that make it, or make it anew. The tables must be there."""
    outbox, parked = qualified(schema, "outbox"), qualified(schema, "outbox_parked")
    function, view = qualified(schema, FUNCTION), qualified(schema, VIEW)
    columns = "shard, position, saga_id, topic, partition, key, value, record"
    return (
        f"CREATE OR REPLACE FUNCTION {function}{_BODY}",
        f"""
        CREATE OR REPLACE VIEW {view} AS
        SELECT shard, position, saga_id, topic, partition, coalesce(plain.key, row.key) AS key,
            coalesce(plain.value, row.value) AS value, plain.headers, parked
        FROM (
            SELECT {columns}, false AS parked FROM {outbox} UNION ALL SELECT {columns}, true FROM {parked}
        ) AS row LEFT JOIN LATERAL {function}(row.record) AS plain ON true""",
    )


_BODY: Final = """(record bytea, OUT key bytea, OUT value bytea, OUT headers jsonb)
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    part bytea;      -- a key, value, name or content: length, then as many bytes
    name text;
    number bigint;   -- zigzag, seven bits a byte, the lowest first
    shift int;
    at int := 0;
    place int := 0;  -- 0: key, 1: value, 2: how many headers, from then on names and contents
    last int := 2;
BEGIN
    headers := '[]';
    WHILE place <= last LOOP
        number := 0;
        shift := 0;
        LOOP
            number := number | ((get_byte(record, at) & 127)::bigint << shift);
            shift := shift + 7;
            at := at + 1;
            EXIT WHEN get_byte(record, at - 1) < 128;
        END LOOP;
        number := (number >> 1) # -(number & 1);
        IF place = 2 THEN
            last := 2 + 2 * number;
        ELSE
            part := CASE WHEN number >= 0 THEN substr(record, at + 1, number::int) END;
            at := at + greatest(number, 0)::int;
            IF place = 0 THEN
                key := part;
            ELSIF place = 1 THEN
                value := part;
            ELSIF place % 2 = 1 THEN
                name := encode(part, 'escape');
            ELSE
                headers := headers || jsonb_build_array(jsonb_build_array(name, encode(part, 'escape')));
            END IF;
        END IF;
        place := place + 1;
    END LOOP;
END
$$"""
"""Names and contents of headers as `encode(…, 'escape')` shows bytes: text where they are ASCII, `\\377` where not."""
