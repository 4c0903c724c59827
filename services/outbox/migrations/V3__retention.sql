-- Which day it is, is the caller's to say. The old form stays for older replicas during a roll-out.
CREATE FUNCTION outbox_make_partitions(today date, days_ahead integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    day  date;
    name text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('outbox_make_partitions'));
    FOR offset_days IN 0..days_ahead LOOP
        day := today + offset_days;
        name := 'outbox_' || to_char(day, 'YYYY_MM_DD');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE outbox INCLUDING ALL)', name);
        EXECUTE format(
            'ALTER TABLE outbox ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            name, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

CREATE OR REPLACE FUNCTION outbox_make_partitions(days_ahead integer) RETURNS integer LANGUAGE sql AS $$
    SELECT outbox_make_partitions((now() AT TIME ZONE 'UTC')::date, days_ahead)
$$;

REVOKE EXECUTE ON FUNCTION outbox_make_partitions(integer), outbox_make_partitions(date, integer) FROM PUBLIC;

-- Partitions that were taken off the outbox, and may be dropped when every slot has confirmed what was written before.
CREATE TABLE outbox_retired (
    partition   text        PRIMARY KEY,
    retired_at  timestamptz NOT NULL,
    retired_lsn pg_lsn      NOT NULL -- where the log stood when it was off
);
