-- The least that a role needs for every command but `migrate`: the use of the tables.
-- A privileged role runs this once, after `dbos migrate`, and again after each later one:
--   psql "$POSTGRES_URL" --set=role=importer --file=docs/permissions.sql
-- Whoever may do this may also end sessions of the same role, which a takeover does.

GRANT USAGE ON SCHEMA public, dbos TO :"role";
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, dbos TO :"role";
REVOKE INSERT, UPDATE, DELETE
    ON public.alembic_version, dbos.dbos_migrations, dbos.dbos_datasource_migrations FROM :"role";
