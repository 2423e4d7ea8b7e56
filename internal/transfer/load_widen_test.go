package transfer_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// columnTypes returns "table.column type" for each column of Flujo's tables, and "name type" for each sequence.
func columnTypes(t testing.TB, conn *pgx.Conn) []string {
	t.Helper()
	return strings.Split(one(t, conn, `SELECT string_agg(what, E'\n' ORDER BY what) FROM (
		SELECT format('%s.%s %s', relname, attname, format_type(atttypid, atttypmod)) FROM pg_attribute a
			JOIN pg_class c ON c.oid = attrelid
			WHERE relnamespace = 'flujo'::regnamespace AND relkind = 'r' AND attnum > 0
				AND relname NOT LIKE 'flujo\_port%'
		UNION ALL SELECT format('%s %s', sequencename, data_type) FROM pg_sequences
			WHERE schemaname = 'flujo') x(what)`), "\n")
}

// wantTypes tests that all columns and sequences have Flujo's types, except for the given ones.
func wantTypes(t testing.TB, conn *pgx.Conn, other map[string]string) {
	t.Helper()
	kinds := map[string]string{
		"T": "text",
		"I": "integer",
		"R": "real",
		"D": "double precision",
		"J": "jsonb",
		"Z": "timestamp with time zone",
		"B": "boolean",
	}
	all := map[string]string{}
	for table, columns := range flujoTables {
		for column := range strings.SplitSeq(columns, ", ") {
			words := strings.Fields(column)
			all[table+"."+words[0]] = kinds[strings.TrimSuffix(words[1], "!")]
		}
		if flujoKeys[table] == "id" {
			all[table+"_id_seq"] = "integer"
		}
	}
	maps.Copy(all, other)
	var want []string
	for name, kind := range all {
		want = append(want, name+" "+kind)
	}
	slices.Sort(want)
	got := columnTypes(t, conn)
	slices.Sort(got)
	wantSame(t, "types", got, want)
}

// writeWideIntegers writes a file with integers beyond int4 in ids and other columns. A row with a finding precedes
// each of them, to test that a finding is reported once although the table is read again. It returns the file's path.
func writeWideIntegers(t testing.TB) string {
	t.Helper()
	f := newFile(t, format06)
	f.insert("runs", cells{
		"error_message":     "a\x00",
		"execution_time_ms": int64(1),
		"created_at":        "2026-01-05T09:00:00",
		"memory_usage_mb":   0.1,
	})
	f.insert("runs", cells{"run_id": "r2", "execution_time_ms": int64(-2147483649)})
	f.insert("steps", cells{
		"id":                int64(1),
		"output":            "{",
		"token_counts":      int64(2147483647),
		"execution_time_ms": int64(-2147483648),
	})
	f.insert("steps", cells{"id": int64(2), "output": "{", "token_counts": int64(2147483648), "cost_usd": 0.1})
	f.insert("steps",
		cells{"id": int64(3), "output": "{", "token_counts": int64(9223372036854775807), "step_index": 3e9})
	f.insert("spans", cells{"id": int64(5_000_000_000), "span_id": "x\x00"})
	f.insert("evaluations", cells{"id": int64(2147483646)})
	return f.close()
}

// TestWidenIntegers tests that exactly the columns and sequences that need it become bigint.
func TestWidenIntegers(t *testing.T) {
	t.Parallel()
	path := writeWideIntegers(t)
	found := []finding{
		{table: "runs", key: "r", rowid: 1, column: "error_message", reason: "nul-removed"},
		{table: "steps", key: "1", rowid: 1, column: "output", reason: "invalid-json"},
		{table: "steps", key: "2", rowid: 2, column: "output", reason: "invalid-json"},
		{table: "steps", key: "3", rowid: 3, column: "output", reason: "invalid-json"},
		{table: "spans", key: "5000000000", rowid: 5_000_000_000, column: "span_id", reason: "nul-removed"},
	}
	widened := map[string]string{
		"runs.execution_time_ms": "bigint",
		"steps.token_counts":     "bigint",
		"steps.step_index":       "bigint",
		"spans.id":               "bigint",
		"spans_id_seq":           "bigint",
	}
	for _, exist := range []bool{false, true} {
		t.Run(fmt.Sprintf("tables exist %v", exist), func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := connect(t, url)
			if exist {
				mustInitialize(t, url, "")
			}
			before := leftovers(t, conn)
			o := options(t, path, url)
			o.Strict = true
			wantStrict(t, o, "4 columns would be widened to bigint", "5 cells")
			o.Strict, o.DryRun = false, true
			mustMigrate(t, o)
			if got := leftovers(t, conn); got != before {
				t.Errorf("the dry run left %s, want %s as before", got, before)
			}
			if exist {
				wantTypes(t, conn, nil)
			}
			o.DryRun = false
			all := collectFindings(&o)
			result := mustMigrate(t, o)
			wantTypes(t, conn, widened)
			wantReport(t, result, *all, found)
			names := slices.Sorted(slices.Values(result.Widened))
			wantSame(t, "widened", names,
				[]string{"runs.execution_time_ms", "spans.id", "steps.step_index", "steps.token_counts"})
			if len(result.NaiveTimestamps) != 1 || result.NaiveTimestamps[0].Count != 1 {
				t.Errorf("got naive timestamps %+v, want one", result.NaiveTimestamps)
			}
			if len(result.Rounded) != 2 || result.Rounded[0].Count != 1 || result.Rounded[1].Count != 1 {
				t.Errorf("got rounded %+v, want one of each column", result.Rounded)
			}
			var text strings.Builder
			if err := result.Text(&text); err != nil {
				t.Fatal(err)
			}
			line := "widened to bigint, for values out of the range of PostgreSQL's integer: " +
				strings.Join(result.Widened, ", ") + "\n"
			if !strings.Contains(text.String(), line) {
				t.Errorf("the report does not say %q:\n%s", line, &text)
			}
			wantWideIntegers(t, conn)
		})
	}
}

// wantWideIntegers tests the rows of writeWideIntegers in PostgreSQL, and the next ids.
func wantWideIntegers(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	const insert = "INSERT INTO flujo.%s VALUES (%s) RETURNING id"
	for _, c := range [][2]string{
		{"SELECT string_agg(execution_time_ms::text, ' ' ORDER BY run_id) FROM flujo.runs", "1 -2147483649"},
		{"SELECT string_agg(token_counts::text, ' ' ORDER BY id) FROM flujo.steps",
			"2147483647 2147483648 9223372036854775807"},
		{"SELECT string_agg(step_index::text, ' ' ORDER BY id) FROM flujo.steps", "0 0 3000000000"},
		{"SELECT execution_time_ms FROM flujo.steps WHERE id = 1", "-2147483648"},
		{"SELECT string_agg(id::text, ' ') FROM flujo.spans", "5000000000"},
	} {
		if got := one(t, conn, c[0]); got != c[1] {
			t.Errorf("%s: got %s, want %s", c[0], got, c[1])
		}
	}
	for table, rest := range map[string][2]string{
		"spans (run_id, span_id, name, start_time, status, created_at)": {"'r', 's', 'n', 1, 's', now()", "5000000001"},
		"steps (run_id, step_name, step_index, status, created_at)":     {"'r', 's', 1, 's', now()", "4"},
		"evaluations (run_id, score)":                                   {"'r', 1", "2147483647"},
	} {
		var id int64
		if err := conn.QueryRow(context.Background(), fmt.Sprintf(insert, table, rest[0])).Scan(&id); err != nil {
			t.Errorf("insert into %s: %v", table, err)
		} else if fmt.Sprint(id) != rest[1] {
			t.Errorf("insert into %s: got id %d, want %s", table, id, rest[1])
		}
	}
}

// TestWidenForNextID tests ids that fit an integer where the next id does not.
func TestWidenForNextID(t *testing.T) {
	t.Parallel()
	f := newFile(t, format06)
	f.insert("runs", nil)
	f.insert("steps", cells{"id": int64(2147483647)})
	f.insert("spans", cells{"id": int64(1)})
	f.exec("UPDATE sqlite_sequence SET seq = 4000000000 WHERE name = 'spans'") // as if rows were deleted
	url := pgtest.Database(t)
	result := mustMigrate(t, options(t, f.close(), url))
	conn := connect(t, url)
	wantTypes(t, conn, map[string]string{
		"steps.id":     "bigint",
		"steps_id_seq": "bigint",
		"spans.id":     "bigint",
		"spans_id_seq": "bigint",
	})
	for table, want := range map[string]string{"steps": "2147483648", "spans": "4000000001", "evaluations": "1"} {
		if got := one(t, conn, fmt.Sprintf("SELECT nextval('flujo.%s_id_seq')", table)); got != want {
			t.Errorf("%s: got next id %s, want %s", table, got, want)
		}
	}
	wantSame(t, "widened", result.Widened, []string{"steps.id", "spans.id"})
}

// TestHighestID tests the highest id of SQLite, after which the sequence has no value.
func TestHighestID(t *testing.T) {
	t.Parallel()
	f := newFile(t, format06)
	f.insert("runs", nil)
	f.insert("steps", cells{"id": int64(9223372036854775807)})
	f.insert("steps", cells{"id": int64(-9223372036854775808)})
	path := f.close()
	url := pgtest.Database(t)
	result := mustMigrate(t, options(t, path, url))
	if notes := strings.Join(result.Notes, " "); !strings.Contains(notes, "steps has the highest possible id") {
		t.Errorf("got notes %q, want one on the highest id of steps", result.Notes)
	}
	conn := connect(t, url)
	const want = "-9223372036854775808 9223372036854775807"
	if got := one(t, conn, "SELECT string_agg(id::text, ' ' ORDER BY id) FROM flujo.steps"); got != want {
		t.Errorf("got ids %s, want %s", got, want)
	}
	_, err := conn.Exec(context.Background(),
		"INSERT INTO flujo.steps (run_id, step_name, step_index, status, created_at) VALUES ('r', 's', 1, 's', now())")
	if err == nil {
		t.Error("an insert after the highest id succeeded")
	}
}

// TestExistingWiderTypes tests that columns that are already wider stay so.
func TestExistingWiderTypes(t *testing.T) {
	t.Parallel()
	wider := map[string]string{"steps.id": "bigint", "steps.token_counts": "bigint", "runs.total_steps": "bigint",
		"steps.cost_usd": "double precision", "runs.memory_usage_mb": "double precision"}
	for _, c := range []struct {
		name  string
		path  string
		other map[string]string
	}{
		{"file without wide integers", fixture, nil},
		{"file with wide integers", writeWideIntegers(t), map[string]string{"runs.execution_time_ms": "bigint",
			"steps.step_index": "bigint", "spans.id": "bigint", "spans_id_seq": "bigint"}},
		{"ids beyond their sequence", writeWideID(t), map[string]string{"steps_id_seq": "bigint"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			mustInitialize(t, url, "")
			conn := connect(t, url)
			for name, kind := range wider {
				table, column, _ := strings.Cut(name, ".")
				run(t, conn, fmt.Sprintf("ALTER TABLE flujo.%s ALTER %s TYPE %s", table, column, kind))
			}
			result := mustMigrate(t, options(t, c.path, url))
			want := maps.Clone(wider)
			maps.Copy(want, c.other)
			wantTypes(t, conn, want)
			for _, r := range result.Rounded {
				if _, double := wider[r.Column]; double {
					t.Errorf("%s is double precision, but %d values were rounded", r.Column, r.Count)
				}
			}
			for _, name := range result.Widened {
				if _, was := wider[name]; was {
					t.Errorf("%s was already bigint, but the report says that it was changed to bigint", name)
				}
			}
			next := one(t, conn, "SELECT max(id) + 1 FROM flujo.steps")
			if got := one(t, conn, "SELECT nextval('flujo.steps_id_seq')"); got != next {
				t.Errorf("got next id %s, want %s", got, next)
			}
		})
	}
}

// writeWideID writes a file with an id beyond int4 and returns its path.
func writeWideID(t testing.TB) string {
	t.Helper()
	f := newFile(t, format06)
	f.insert("runs", nil)
	f.insert("steps", cells{"id": int64(3_000_000_000)})
	return f.close()
}

// TestWidenWithoutOwnership tests that a role that may not alter the tables is refused, with the statements that the
// owner must execute, and that nothing changes.
func TestWidenWithoutOwnership(t *testing.T) {
	t.Parallel()
	clean := copyOf(t, fixture)
	for _, c := range []struct {
		name  string
		path  string
		exact bool
		words []string
	}{
		{"column", writeWideIntegers(t), false, []string{"runs.execution_time_ms", "must be owner",
			`have the table's owner run ALTER TABLE "flujo"."runs" ALTER COLUMN "execution_time_ms" TYPE bigint;`}},
		{"id", writeWideID(t), false, []string{"steps.id", "must be owner",
			`run ALTER TABLE "flujo"."steps" ALTER COLUMN "id" TYPE bigint; ` +
				`ALTER SEQUENCE "flujo"."steps_id_seq" AS bigint; then run again`}},
		{"floats", clean, true, []string{"must be owner",
			`run ALTER TABLE "flujo"."runs" ALTER COLUMN "memory_usage_mb" TYPE double precision;`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			role := pgtest.Role(t, url, "")
			name := one(t, connect(t, role), "SELECT current_user")
			mustInitialize(t, url, name)
			conn := connect(t, url)
			o := options(t, c.path, role)
			o.ExactFloats = c.exact
			wantError(t, o, clierr.Refused, c.words...)
			wantTypes(t, conn, nil)
			for table := range flujoTables {
				if table == mapping.Versions {
					continue
				}
				if got := one(t, conn, "SELECT count(*) FROM flujo."+table); got != "0" {
					t.Errorf("%s: got %s rows, want 0", table, got)
				}
			}
			if got := originals(t, conn); got != nil {
				t.Errorf("got originals %v, want none", got)
			}
			if c.name == "id" { // execute the statements of the hint
				run(t, conn,
					`ALTER TABLE "flujo"."steps" ALTER COLUMN "id" TYPE bigint`,
					`ALTER SEQUENCE "flujo"."steps_id_seq" AS bigint`)
				mustMigrate(t, o)
				if got := one(t, conn, "SELECT nextval('flujo.steps_id_seq')"); got != "3000000001" {
					t.Errorf("got next id %s, want 3000000001", got)
				}
				return
			}
			o.ExactFloats = false
			o.SQLite = clean // needs no wider types
			mustMigrate(t, o)
			wantTypes(t, conn, nil)
		})
	}
}
