-- The databases and roles of a development cluster, once, by the superuser.
--
-- Read by the Postgres image (psql) and by `cargo xtask`, which knows of psql's commands only
-- \getenv, \connect and :'name'. Tables and publications are made by each service's `migrate`.

\getenv users_password USERS_SERVICE_PASSWORD
\getenv orders_password ORDERS_SERVICE_PASSWORD
\getenv relay_password CDC_RELAY_PASSWORD

-- Owns the tables of its database; cannot replicate.
CREATE ROLE users_service LOGIN PASSWORD :'users_password';
CREATE ROLE orders_service LOGIN PASSWORD :'orders_password';

-- Replicates, and reads the outbox: each service grants SELECT on that table alone.
CREATE ROLE cdc_relay LOGIN REPLICATION PASSWORD :'relay_password';

CREATE DATABASE users OWNER users_service;
CREATE DATABASE orders OWNER orders_service;

REVOKE ALL ON DATABASE users FROM PUBLIC;
REVOKE ALL ON DATABASE orders FROM PUBLIC;
GRANT CONNECT ON DATABASE users TO cdc_relay;
GRANT CONNECT ON DATABASE orders TO cdc_relay;

\connect users
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO users_service;
GRANT USAGE ON SCHEMA public TO cdc_relay;

\connect orders
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO orders_service;
GRANT USAGE ON SCHEMA public TO cdc_relay;
