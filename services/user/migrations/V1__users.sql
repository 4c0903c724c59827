CREATE TABLE users (
    id            uuid        PRIMARY KEY, -- version 7: the order of ids is the order of creation
    display_name  text        NOT NULL,
    email         text        NOT NULL,
    password_hash text        NOT NULL,    -- PHC string, Argon2id
    operator      boolean     NOT NULL DEFAULT false,
    version       bigint      NOT NULL,
    create_time   timestamptz NOT NULL,
    update_time   timestamptz NOT NULL
);

-- Addresses are compared without regard to case, and kept as they were given.
CREATE UNIQUE INDEX users_email_once ON users (lower(email));
