"""The outbox keeps the bytes of a record, as Kafka has them, in one column.

`key`, `headers` and `value` stay for the rows that are there, and are NULL in new ones. No row is written anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

OLDER = "of rows that a release before 0007 has written"
RECORD = "key, value and headers in Kafka's format; outbox_plain reads it"


def upgrade() -> None:
    for table in ("outbox", "outbox_parked"):
        op.add_column(table, sa.Column("record", sa.LargeBinary(), comment=RECORD))
        op.alter_column(table, "headers", nullable=True)
        for column in ("key", "headers", "value"):
            op.alter_column(table, column, comment=OLDER)
    op.execute(FUNCTION)
    op.execute(VIEW)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the migration")


FUNCTION = """
CREATE FUNCTION plain_record(record bytea, OUT key bytea, OUT value bytea, OUT headers jsonb)
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

VIEW = """
CREATE VIEW outbox_plain AS
SELECT shard, position, saga_id, topic, partition, coalesce(plain.key, row.key) AS key,
    coalesce(plain.value, row.value) AS value, plain.headers, parked
FROM (
    SELECT shard, position, saga_id, topic, partition, key, value, record, false AS parked FROM outbox
    UNION ALL
    SELECT shard, position, saga_id, topic, partition, key, value, record, true FROM outbox_parked
) AS row LEFT JOIN LATERAL plain_record(row.record) AS plain ON true
"""
