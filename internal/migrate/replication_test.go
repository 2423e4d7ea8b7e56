package migrate_test

import (
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// TestPublicationForAllTables tests that every kind of migration works if a publication contains all tables, which
// forbids to update and delete rows of tables without a replica identity, and that the tables that it leaves can be
// changed.
func TestPublicationForAllTables(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := flujotest.Connect(t, url)
	flujotest.Exec(t, conn, "SET client_min_messages = error", "CREATE PUBLICATION everything FOR ALL TABLES")
	broken := flujotest.Changed(t, "UPDATE steps SET output = '{' WHERE id = 7")
	flujotest.Migrate(t, flujotest.Options(t, broken, url))
	merge := flujotest.Options(t, flujotest.Changed(t, "UPDATE steps SET output = '[' WHERE id = 7",
		"UPDATE workflow_state SET updated_at = '2030-01-01T00:00:00+00:00'",
		"UPDATE runs SET updated_at = '2030-01-01T00:00:00+00:00'"), url)
	merge.Merge = true
	// A subscriber stops at rows of a table that it does not have, so intermediate tables are not published.
	flujotest.Exec(t, conn, "CREATE TABLE public.created (id serial PRIMARY KEY, name text)",
		`CREATE FUNCTION public.note() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO public.created (name) SELECT object_identity FROM pg_event_trigger_ddl_commands() d
			JOIN pg_class c ON c.oid = d.objid WHERE relkind = 'r' AND relpersistence = 'p' AND schema_name <> 'flujo';
		END $$`,
		"CREATE EVENT TRIGGER note ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS') "+
			"EXECUTE FUNCTION public.note()")
	flujotest.Migrate(t, merge)
	if got := flujotest.One(t, conn, "SELECT string_agg(name, ', ') FROM public.created"); got != "NULL" {
		t.Errorf("the merge published the tables %s", got)
	}
	flujotest.Exec(t, conn, "DROP EVENT TRIGGER note")
	flujotest.Migrate(t, replaceOptions(t, broken, url))
	flujotest.Exec(
		t,
		conn,
		"UPDATE flujo.flujo_port_originals SET reason = reason",
		"UPDATE flujo.flujo_port_receipts SET version = version",
		"DELETE FROM flujo.flujo_port_originals",
	)
}
