-- A deleted user stays, with his address, and can be undeleted.
ALTER TABLE users ADD COLUMN delete_time timestamptz;
