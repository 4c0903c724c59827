-- Events, written in the transaction of what they tell about. Insert-only; the relay reads them from the log.
-- Partitioned by day and without a default partition: a row that fits nowhere must fail its transaction, loudly.
CREATE TABLE outbox (
    id                uuid        NOT NULL,
    aggregate_type    text        NOT NULL,
    aggregate_id      text        NOT NULL,
    aggregate_version bigint      NOT NULL,
    event_type        text        NOT NULL,
    payload           json        NOT NULL, -- json, not jsonb: kept byte for byte
    headers           json        NOT NULL,
    owner             text,                 -- the user who may see the event; null: operators only
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (created_at, id)
) PARTITION BY RANGE (created_at);

-- Makes the partitions of today and of `days_ahead` days after it, in UTC; returns how many were missing.
-- A table is made first and attached then, because CREATE … PARTITION OF would stop every writer.
CREATE FUNCTION outbox_make_partitions(days_ahead integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    day   date;
    name  text;
    made  integer := 0;
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

SELECT outbox_make_partitions(7);

CREATE PUBLICATION tailrace_outbox FOR TABLE outbox
    WITH (publish = 'insert', publish_via_partition_root = true);

-- Ids of requests that were carried out, so that a retry gets the answer and not a second effect (AIP-155).
CREATE TABLE carried_out_request (
    caller      text        NOT NULL, -- who asked; empty: anyone
    request_id  uuid        NOT NULL,
    fingerprint bytea       NOT NULL, -- of the request, to tell a retry from another request with the same id
    result_id   uuid        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT carried_out_request_once PRIMARY KEY (caller, request_id)
);
CREATE INDEX carried_out_request_created_at ON carried_out_request (created_at);

-- The relay reads the outbox and nothing else. Without the role (another set-up) its owner grants by hand.
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'cdc_relay') THEN
        GRANT SELECT ON outbox TO cdc_relay;
    END IF;
END $$;
