package migrate_test

import (
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/sqltext"
)

// TestArchiveIsPrivate tests that default privileges let nobody read the archive, and that the SQL of the report
// restores it nevertheless.
func TestArchiveIsPrivate(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	reader := pgtest.Role(t, url, "")
	name := flujotest.OneAt(t, reader, "SELECT current_user")
	var statements []string
	for _, to := range []string{"PUBLIC", name, name + " WITH GRANT OPTION"} {
		statements = append(statements,
			"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO "+to)
		if to != "PUBLIC" {
			statements = append(statements, "ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO "+to)
		}
	}
	statements = append(statements, "ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO PUBLIC",
		"ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC")
	flujotest.ExecAt(t, url, statements...)
	file := flujotest.Changed(t, "UPDATE steps SET output = '{' WHERE id = 7")
	flujotest.Migrate(t, flujotest.Options(t, file, url))
	result := flujotest.Migrate(t, replaceOptions(t, flujotest.Fixture, url))
	archive := result.Replaced.ArchiveSchema
	conn := flujotest.Connect(t, url)
	for _, role := range []string{name, "public"} {
		if got := flujotest.One(
			t,
			conn,
			"SELECT has_schema_privilege($1, $2, 'USAGE, CREATE')",
			role,
			archive,
		); got != "false" {
			t.Errorf("%s may use the archive schema", role)
		}
		if got := flujotest.One(t, conn, `SELECT count(*) FROM pg_class WHERE relnamespace = $2::regnamespace
			AND relkind = 'r' AND relname <> 'flujo_port_originals'
			AND has_table_privilege($1, oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')`,
			role, sqltext.Ident(archive)); got != "0" {
			t.Errorf("%s has privileges on %s tables of the archive", role, got)
		}
	}
	for _, line := range result.Replaced.UndoSQL {
		flujotest.Exec(t, conn, line)
	}
	flujotest.WantVerdict(t, file, url, "equal", 0)
}
