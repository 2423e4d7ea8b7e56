package sink

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// ownTablesSQL creates the program's own tables, each with a row.
const ownTablesSQL = `
CREATE TABLE flujo.flujo_port_originals (table_name text); INSERT INTO flujo.flujo_port_originals VALUES ('old');
CREATE TABLE flujo.flujo_port_receipts (id bigint PRIMARY KEY); INSERT INTO flujo.flujo_port_receipts VALUES (1);`

// content returns all rows of the schema, and the next ids.
func content(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	var b strings.Builder
	for _, table := range append(slices.Clone(tableNames), "flujo_port_originals", "flujo_port_receipts") {
		rows := "no table"
		if one(t, conn, "SELECT to_regclass($1)", "flujo."+table) != "NULL" {
			rows = one(t, conn, fmt.Sprintf("SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM flujo.%s t", table))
		}
		fmt.Fprintf(&b, "%s: %s\n", table, rows)
	}
	for _, table := range []string{"steps", "spans", "evaluations"} {
		fmt.Fprintf(
			&b,
			"%s: %s\n",
			table,
			one(t, conn, fmt.Sprintf("SELECT last_value || ' ' || is_called FROM flujo.%s_id_seq", table)),
		)
	}
	return b.String()
}

// replaced archives the rows of a database, empties the tables and loads other rows.
func replaced(t *testing.T, url string) *Archive {
	t.Helper()
	tx, s := prepare(t, url)
	var each []string
	archive, err := tx.ArchiveRows(background, s, func(table string) { each = append(each, table) })
	check(t, err)
	if !slices.Equal(each, tableNames) {
		t.Errorf("each was called for %v", each)
	}
	wantOne(t, tx.Conn.Conn, "SELECT count(*) FROM flujo.steps", "3")
	check(t, tx.Empty(background, s))
	wantOne(t, tx.Conn.Conn, "SELECT count(*) FROM flujo.runs", "0")
	check(t, tx.EnsureOriginals(background, s))
	run(
		t,
		tx.Conn.Conn,
		"INSERT INTO flujo.flujo_port_originals VALUES (1, 'new', '', 0, '', '', '')",
		"CREATE TABLE IF NOT EXISTS flujo.flujo_port_receipts (id bigint)",
		"INSERT INTO flujo.flujo_port_receipts VALUES (2)",
	)
	if _, err := tx.Copy(background, systemState, newTuples(nil, state("new", "1"))); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.SetSequence(background, steps, 99, false); err != nil {
		t.Fatal(err)
	}
	commit(t, tx)
	return archive
}

// TestArchiveRows tests that the archive holds the rows, and that the undo script restores them and everything else.
func TestArchiveRows(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{true, false} {
		url, conn := initialized(t)
		run(t, conn, rowsSQL, "SELECT nextval('flujo.spans_id_seq')",
			"INSERT INTO flujo.system_state VALUES (E'it''s\\n\\\\', '{}', '2026-01-05')")
		if own {
			run(t, conn, ownTablesSQL)
		}
		before := content(t, conn)
		archive := replaced(t, url)
		// The migration creates the table of receipts, and the script leaves it empty.
		before = strings.Replace(before, "flujo_port_receipts: no table", "flujo_port_receipts: NULL", 1)
		if content(t, conn) == before {
			t.Error("the rows were not replaced")
		}
		rows := map[string]int64{}
		for _, table := range archive.Tables {
			rows[table.Name] = table.Rows
			wantOne(t, conn, "SELECT count(*) FROM "+archive.name(table.Name), fmt.Sprint(table.Rows))
		}
		if rows["runs"] != 2 || rows["steps"] != 3 || rows["system_state"] != 1 ||
			(rows["flujo_port_originals"] == 1) != own ||
			(rows["flujo_port_receipts"] == 1) != own ||
			len(rows) != map[bool]int{true: 9, false: 7}[own] {
			t.Errorf("got the archived tables %v", archive.Tables)
		}
		// Nothing in the archive depends on Flujo's tables or their sequences.
		wantOne(t, conn, fmt.Sprintf(`SELECT count(*) FROM pg_depend d JOIN pg_class a ON a.oid = d.objid
			JOIN pg_class b ON b.oid = d.refobjid
			WHERE a.relnamespace = '%s'::regnamespace AND b.relnamespace = 'flujo'::regnamespace`,
			one(t, conn, "quote_ident($1)", archive.Schema)), "0")
		wantOne(t, conn, "SELECT count(*) FROM pg_attrdef d JOIN pg_class c ON c.oid = adrelid "+
			"WHERE relnamespace::regnamespace::text LIKE '%archive%'", "0")

		undo := connect(t, url)
		if archive.Undo[0] != "BEGIN;" || archive.Undo[len(archive.Undo)-1] != "COMMIT;" {
			t.Errorf("the script is not one transaction: %q", archive.Undo)
		}
		run(t, undo, archive.Undo...)
		if after := content(t, conn); after != before {
			t.Errorf("after the script:\n%s\nbefore:\n%s", after, before)
		}
		run(t, undo, archive.Drop)
		wantOne(t, conn, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%archive%'", "0")
		if after := content(t, conn); after != before {
			t.Errorf("after the archive was dropped:\n%s", after)
		}
	}
}

// TestArchiveRowsRolledBack tests that a dry run leaves everything as it was.
func TestArchiveRowsRolledBack(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	run(t, conn, rowsSQL, ownTablesSQL)
	before := content(t, conn)
	tx, s := prepare(t, url)
	if _, err := tx.ArchiveRows(background, s, nil); err != nil {
		t.Fatal(err)
	}
	check(t, tx.Empty(background, s))
	tx.Rollback()
	if after := content(t, conn); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	wantOne(t, conn, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%archive%'", "0")
}

// TestArchiveRowsExists tests the name of the archive schema, and that another one of that name is left alone.
func TestArchiveRowsExists(t *testing.T) {
	t.Parallel()
	url, _ := initialized(t)
	tx, s := prepare(t, url)
	name := one(t, tx.Conn.Conn, `SELECT 'flujo_archive_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')
		|| 'T' || to_char(now() AT TIME ZONE 'UTC', 'HH24MISS') || 'Z'`)
	run(t, tx.Conn.Conn, fmt.Sprintf("CREATE SCHEMA %q", name))
	_, err := tx.ArchiveRows(background, s, nil)
	wantError(t, err, clierr.Refused, fmt.Sprintf("the archive schema %q already exists", name), "run again")
}

// TestArchiveRowsLongSchema tests a schema whose name has the maximum length.
func TestArchiveRowsLongSchema(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	tx := begin(t, url)
	tx.Schema = strings.Repeat("é", 31) + "x" // 63 bytes
	s := &Schema{}
	check(t, tx.makeSchema(background, s))
	archive, err := tx.createArchive(background)
	check(t, err)
	if !strings.HasPrefix(archive.Schema, strings.Repeat("é", 19)+"_archive_20") || len(archive.Schema) != longestName {
		t.Errorf("got the schema %q of %d bytes", archive.Schema, len(archive.Schema))
	}
	wantOne(t, tx.Conn.Conn, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%archive%'", "1")
}

func TestShorten(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		n    int
		want string
	}{
		{"flujo", 5, "flujo"}, {"flujo", 9, "flujo"}, {"flujo", 3, "flu"},
		{"éé", 3, "é"}, {"éé", 4, "éé"}, {"é", 1, ""},
		{"日本", 5, "日"}, {"x", 0, ""},
	} {
		if got := shorten(tc.name, tc.n); got != tc.want {
			t.Errorf("shorten(%q, %d) = %q, want %q", tc.name, tc.n, got, tc.want)
		}
	}
}

// TestArchiveRowsPrivileges tests that the hint of the error has the statements that help.
func TestArchiveRowsPrivileges(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	role := pgtest.Role(t, url, "")
	run(t, conn, rowsSQL, ownTablesSQL)
	tx, s := prepare(t, url)
	check(t, tx.Grant(background, s, roleName(t, role)))
	commit(t, tx)
	mayNotCreate(t, url)
	run(t, conn, "REVOKE SELECT ON SEQUENCE flujo.spans_id_seq FROM "+roleName(t, role),
		"REVOKE ALL ON flujo.flujo_port_receipts FROM "+roleName(t, role))

	tx, s = prepare(t, role)
	_, err := tx.ArchiveRows(background, s, nil)
	wantError(t, err, clierr.Refused, "lacks privileges that replacing rows needs", "GRANT TRUNCATE ON flujo.runs TO")
	_, grants, ok := strings.Cut(fmt.Sprint(err), "run: ")
	if !ok || !strings.Contains(grants, "ON SEQUENCE flujo.spans_id_seq") || strings.Contains(grants, "steps_id_seq") ||
		!strings.Contains(grants, "GRANT SELECT ON flujo.flujo_port_receipts") ||
		!strings.Contains(grants, "ALTER TABLE flujo.flujo_port_originals OWNER TO") ||
		!strings.Contains(grants, "GRANT CREATE ON DATABASE") {
		t.Errorf("got the statements %s", grants)
	}
	tx.Rollback()
	run(t, conn, grants)
	tx, s = prepare(t, role)
	if _, err := tx.ArchiveRows(background, s, nil); err != nil {
		t.Errorf("with these privileges: %v", err)
	}
	check(t, tx.Empty(background, s))
}

func TestArchiveRowsRefused(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	role := pgtest.Role(t, url, "")
	run(
		t,
		conn,
		rowsSQL,
		"GRANT ALL ON SCHEMA flujo TO PUBLIC",
		"GRANT ALL ON ALL TABLES IN SCHEMA flujo TO PUBLIC",
		"GRANT ALL ON ALL SEQUENCES IN SCHEMA flujo TO PUBLIC",
		"GRANT CREATE ON DATABASE "+databaseName(t, conn)+" TO PUBLIC",
		"CREATE TABLE public.notes (run text CONSTRAINT of_run REFERENCES flujo.runs)",
	)
	tx, s := prepare(t, url)
	_, err := tx.ArchiveRows(background, s, nil)
	wantError(t, err, clierr.Refused, "public.notes refers to runs", "ALTER TABLE public.notes DROP CONSTRAINT of_run")
	tx.Rollback()
	run(t, conn, "DROP TABLE public.notes", "ALTER TABLE flujo.steps ENABLE ROW LEVEL SECURITY")
	tx, s = prepare(t, role)
	_, err = tx.ArchiveRows(background, s, nil)
	wantError(t, err, clierr.Refused, "row-level security may hide rows of steps")
	tx.Rollback()

	tx, s = prepare(t, url)
	run(t, tx.Conn.Conn, "ALTER TABLE flujo.steps ALTER id DROP DEFAULT; DROP SEQUENCE flujo.steps_id_seq")
	_, err = tx.ArchiveRows(background, s, nil)
	wantError(t, err, clierr.Refused, "column steps.id", "has no sequence")
	tx.Rollback()

	reader := connect(t, url)
	run(t, reader, "BEGIN; SELECT FROM flujo.spans")
	tx, s = prepare(t, url)
	run(t, tx.Conn.Conn, "SET LOCAL lock_timeout = 50")
	_, err = tx.ArchiveRows(background, s, nil)
	wantError(t, err, clierr.Failed, `waiting for a lock on table "spans"`, "everything else that reads it")
}

func TestEmptyFails(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	run(t, conn, "CREATE TABLE public.notes (run text REFERENCES flujo.runs)")
	tx, s := prepare(t, url)
	wantError(t, tx.Empty(background, s), clierr.Refused, "empty Flujo's tables", "0A000")
}
