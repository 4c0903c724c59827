-- A fingerprint is a fast digest and must not hold a secret. The secret of a request that has one is remembered as a slow
-- hash, so that a retry is told from another request whatever became of the secret since.
ALTER TABLE carried_out_request ADD COLUMN secret_hash text; -- PHC string; null: the request has no secret
