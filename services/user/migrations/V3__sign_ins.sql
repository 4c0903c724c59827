-- A sign-in: what begins with a password and lives on by refresh tokens.
CREATE TABLE sign_in (
    id         uuid        PRIMARY KEY,
    user_id    uuid        NOT NULL REFERENCES users (id),
    expires_at timestamptz NOT NULL
);
CREATE INDEX sign_in_user_id ON sign_in (user_id);
CREATE INDEX sign_in_expires_at ON sign_in (expires_at);

-- Every refresh token of a sign-in, the spent ones too: one that comes again betrays a theft.
CREATE TABLE refresh_token (
    digest     bytea   PRIMARY KEY, -- SHA-256; the token has 256 random bits, so nothing slower is needed
    sign_in_id uuid    NOT NULL REFERENCES sign_in (id) ON DELETE CASCADE,
    spent      boolean NOT NULL DEFAULT false
);
CREATE INDEX refresh_token_sign_in_id ON refresh_token (sign_in_id);
