-- What is known here of users, from the events of the user service: that there is one, and whether he is deleted. Nothing
-- personal is copied.
CREATE TABLE known_user (
    name    text    PRIMARY KEY, -- users/{uuid}
    version bigint  NOT NULL,    -- of the last event that counted: an older one changes nothing
    deleted boolean NOT NULL     -- who is deleted stays, so that an older event does not bring him back
);

-- Up to where each partition of the users' topics was read; written in the transaction of what was made of it.
CREATE TABLE inbox (
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL,
    cluster     text    NOT NULL, -- the Kafka that the offset is of
    PRIMARY KEY (topic, partition)
);

-- Events that cannot be read. Their payload stays in the topic: it may be personal.
CREATE TABLE inbox_set_aside (
    topic         text        NOT NULL,
    partition     integer     NOT NULL,
    record_offset bigint      NOT NULL,
    event_id      text        NOT NULL, -- empty: it has none
    event_type    text        NOT NULL, -- empty: it has none
    reason        text        NOT NULL,
    set_aside_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, record_offset)
);
