-- A retry gets the answer of then, whatever became of the entity since. What was carried out before this migration has no
-- answer to repeat, so it is forgotten.
DELETE FROM carried_out_request;
ALTER TABLE carried_out_request ADD COLUMN answer bytea NOT NULL; -- the response, encoded
