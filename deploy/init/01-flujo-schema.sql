-- Prepares a database for Flujo's state: the extension vector, the schema
-- flujo, and the privileges of the role that Flujo connects as. It creates no
-- tables; `flujo-port init` and `flujo-port migrate` do. It is safe to run again.
--
--   psql -d DATABASE -f 01-flujo-schema.sql                     grants to the database's owner
--   psql -d DATABASE -v app_role=NAME -f 01-flujo-schema.sql    grants to NAME
--
-- Run flujo-port as the same role, since Flujo's own migrations need to own the
-- tables.

\set ON_ERROR_STOP on

-- Only memory indexing needs vector, and on most servers only a superuser may
-- create it. So its absence is a warning and not an error.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') THEN
        RAISE WARNING 'the extension "vector" is not installed on this server'
            USING HINT = 'Install pgvector 0.5.0 or later, or migrate with --without-pgvector.';
    ELSE
        CREATE EXTENSION IF NOT EXISTS vector;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'the extension "vector" may not be created by role "%"', current_user
        USING HINT = 'Have a superuser run: CREATE EXTENSION vector;';
END
$$;

\if :{?app_role}
\else
SELECT pg_get_userbyid(datdba) AS app_role FROM pg_database WHERE datname = current_database() \gset
\endif

BEGIN;

CREATE SCHEMA IF NOT EXISTS flujo;

-- Only app_role has privileges in the schema.
REVOKE ALL ON SCHEMA flujo FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA flujo TO :"app_role";

-- For tables that other roles created here, and for those that the current role
-- will create here.
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES ON ALL TABLES IN SCHEMA flujo TO :"app_role";
GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA flujo TO :"app_role";
ALTER DEFAULT PRIVILEGES IN SCHEMA flujo
    GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES ON TABLES TO :"app_role";
ALTER DEFAULT PRIVILEGES IN SCHEMA flujo
    GRANT USAGE, SELECT, UPDATE ON SEQUENCES TO :"app_role";

COMMIT;
