-- The databases and roles of a development cluster, once, by the superuser.
--
-- Read by the Postgres image (psql) and by `cargo xtask`, which knows of psql's commands only
-- \getenv, \connect and :'name'. Tables, publications and what each service may do with its tables are made by its `migrate`.

\getenv users_owner_password USERS_OWNER_PASSWORD
\getenv users_password USERS_SERVICE_PASSWORD
\getenv orders_owner_password ORDERS_OWNER_PASSWORD
\getenv orders_password ORDERS_SERVICE_PASSWORD
\getenv relay_password CDC_RELAY_PASSWORD

-- Owns the tables of its database: migrations and partitions. Cannot replicate.
CREATE ROLE users_owner LOGIN PASSWORD :'users_owner_password';
CREATE ROLE orders_owner LOGIN PASSWORD :'orders_owner_password';

-- Serves calls: reads and writes rows, and may only add to the outbox. Owns nothing, cannot replicate.
CREATE ROLE users_service LOGIN PASSWORD :'users_password';
CREATE ROLE orders_service LOGIN PASSWORD :'orders_password';

-- Replicates, and reads the outbox: each owner grants SELECT on that table alone.
CREATE ROLE cdc_relay LOGIN REPLICATION PASSWORD :'relay_password';

CREATE DATABASE users OWNER users_owner;
CREATE DATABASE orders OWNER orders_owner;

REVOKE ALL ON DATABASE users FROM PUBLIC;
REVOKE ALL ON DATABASE orders FROM PUBLIC;
GRANT CONNECT ON DATABASE users TO users_service, cdc_relay;
GRANT CONNECT ON DATABASE orders TO orders_service, cdc_relay;

\connect users
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO users_owner;
GRANT USAGE ON SCHEMA public TO users_service, cdc_relay;

\connect orders
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO orders_owner;
GRANT USAGE ON SCHEMA public TO orders_service, cdc_relay;
