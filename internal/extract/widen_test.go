package extract_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// writeWideIntegers writes a file with integers beyond int4 in ids and other columns. A row with a finding precedes
// each of them, to test that a finding is reported once although the table is read again. It returns the file's path.
func writeWideIntegers(t testing.TB) string {
	t.Helper()
	f := flujotest.NewFile(t, flujotest.Format06)
	f.Insert("runs", flujotest.Cells{
		"error_message":     "a\x00",
		"execution_time_ms": int64(1),
		"created_at":        "2026-01-05T09:00:00",
		"memory_usage_mb":   0.1,
	})
	f.Insert("runs", flujotest.Cells{"run_id": "r2", "execution_time_ms": int64(-2147483649)})
	f.Insert("steps", flujotest.Cells{
		"id":                int64(1),
		"output":            "{",
		"token_counts":      int64(2147483647),
		"execution_time_ms": int64(-2147483648),
	})
	f.Insert(
		"steps",
		flujotest.Cells{"id": int64(2), "output": "{", "token_counts": int64(2147483648), "cost_usd": 0.1},
	)
	f.Insert("steps",
		flujotest.Cells{"id": int64(3), "output": "{", "token_counts": int64(9223372036854775807), "step_index": 3e9})
	f.Insert("spans", flujotest.Cells{"id": int64(5_000_000_000), "span_id": "x\x00"})
	f.Insert("evaluations", flujotest.Cells{"id": int64(2147483646)})
	return f.Close()
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
			conn := flujotest.Connect(t, url)
			if exist {
				flujotest.Initialize(t, url, "")
			}
			before := flujotest.Leftovers(t, conn)
			o := flujotest.Options(t, path, url)
			o.Strict = true
			wantStrict(t, o, "4 columns would be widened to bigint", "5 values")
			o.Strict, o.DryRun = false, true
			flujotest.Migrate(t, o)
			if got := flujotest.Leftovers(t, conn); got != before {
				t.Errorf("the dry run left %s, want %s as before", got, before)
			}
			if exist {
				flujotest.WantTypes(t, conn, nil)
			}
			o.DryRun = false
			all := collectFindings(&o)
			result := flujotest.Migrate(t, o)
			flujotest.WantTypes(t, conn, widened)
			wantReport(t, result, *all, found)
			names := slices.Sorted(slices.Values(result.Widened))
			flujotest.WantSame(t, "widened", names,
				[]string{"runs.execution_time_ms", "spans.id", "steps.step_index", "steps.token_counts"})
			if len(result.NaiveTimestamps) != 1 || result.NaiveTimestamps[0].Count != 1 {
				t.Errorf("got naive timestamps %+v, want one", result.NaiveTimestamps)
			}
			if len(result.Rounded) != 2 || result.Rounded[0].Count != 1 || result.Rounded[1].Count != 1 {
				t.Errorf("got rounded %+v, want one of each column", result.Rounded)
			}
			text := strings.Join(flujotest.ReportLines(t, result.Document()), "\n") + "\n"
			line := "widened to bigint, for values out of the range of integer: " +
				strings.Join(result.Widened, ", ") + "\n"
			if !strings.Contains(text, line) {
				t.Errorf("the report does not say %q:\n%s", line, text)
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
		if got := flujotest.One(t, conn, c[0]); got != c[1] {
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
	f := flujotest.NewFile(t, flujotest.Format06)
	f.Insert("runs", nil)
	f.Insert("steps", flujotest.Cells{"id": int64(2147483647)})
	f.Insert("spans", flujotest.Cells{"id": int64(1)})
	f.Exec("UPDATE sqlite_sequence SET seq = 4000000000 WHERE name = 'spans'") // as if rows were deleted
	url := pgtest.Database(t)
	result := flujotest.Migrate(t, flujotest.Options(t, f.Close(), url))
	conn := flujotest.Connect(t, url)
	flujotest.WantTypes(t, conn, map[string]string{
		"steps.id":     "bigint",
		"steps_id_seq": "bigint",
		"spans.id":     "bigint",
		"spans_id_seq": "bigint",
	})
	for table, want := range map[string]string{"steps": "2147483648", "spans": "4000000001", "evaluations": "1"} {
		if got := flujotest.One(t, conn, fmt.Sprintf("SELECT nextval('flujo.%s_id_seq')", table)); got != want {
			t.Errorf("%s: got next id %s, want %s", table, got, want)
		}
	}
	flujotest.WantSame(t, "widened", result.Widened, []string{"steps.id", "spans.id"})
}

// TestHighestID tests the highest id of SQLite, after which the sequence has no value.
func TestHighestID(t *testing.T) {
	t.Parallel()
	f := flujotest.NewFile(t, flujotest.Format06)
	f.Insert("runs", nil)
	f.Insert("steps", flujotest.Cells{"id": int64(9223372036854775807)})
	f.Insert("steps", flujotest.Cells{"id": int64(-9223372036854775808)})
	path := f.Close()
	url := pgtest.Database(t)
	result := flujotest.Migrate(t, flujotest.Options(t, path, url))
	if notes := strings.Join(result.Notes, " "); !strings.Contains(notes, "steps has the highest possible id") {
		t.Errorf("got notes %q, want one on the highest id of steps", result.Notes)
	}
	conn := flujotest.Connect(t, url)
	const want = "-9223372036854775808 9223372036854775807"
	if got := flujotest.One(t, conn, "SELECT string_agg(id::text, ' ' ORDER BY id) FROM flujo.steps"); got != want {
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
		{"file without wide integers", flujotest.Fixture, nil},
		{"file with wide integers", writeWideIntegers(t), map[string]string{"runs.execution_time_ms": "bigint",
			"steps.step_index": "bigint", "spans.id": "bigint", "spans_id_seq": "bigint"}},
		{"ids beyond their sequence", writeWideID(t), map[string]string{"steps_id_seq": "bigint"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			flujotest.Initialize(t, url, "")
			conn := flujotest.Connect(t, url)
			for name, kind := range wider {
				table, column, _ := strings.Cut(name, ".")
				flujotest.Exec(t, conn, fmt.Sprintf("ALTER TABLE flujo.%s ALTER %s TYPE %s", table, column, kind))
			}
			result := flujotest.Migrate(t, flujotest.Options(t, c.path, url))
			want := maps.Clone(wider)
			maps.Copy(want, c.other)
			flujotest.WantTypes(t, conn, want)
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
			next := flujotest.One(t, conn, "SELECT max(id) + 1 FROM flujo.steps")
			if got := flujotest.One(t, conn, "SELECT nextval('flujo.steps_id_seq')"); got != next {
				t.Errorf("got next id %s, want %s", got, next)
			}
		})
	}
}

// writeWideID writes a file with an id beyond int4 and returns its path.
func writeWideID(t testing.TB) string {
	t.Helper()
	f := flujotest.NewFile(t, flujotest.Format06)
	f.Insert("runs", nil)
	f.Insert("steps", flujotest.Cells{"id": int64(3_000_000_000)})
	return f.Close()
}

// TestWidenWithoutOwnership tests that a role that may not alter the tables is refused, with the statements that the
// owner must execute, and that nothing changes.
func TestWidenWithoutOwnership(t *testing.T) {
	t.Parallel()
	clean := flujotest.Copy(t, flujotest.Fixture)
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
			name := flujotest.One(t, flujotest.Connect(t, role), "SELECT current_user")
			flujotest.Initialize(t, url, name)
			conn := flujotest.Connect(t, url)
			o := flujotest.Options(t, c.path, role)
			o.ExactFloats, o.NoMigrations = c.exact, true
			flujotest.WantError(t, o, clierr.Refused, c.words...)
			flujotest.WantTypes(t, conn, nil)
			for table := range flujotest.Tables {
				if table == mapping.Versions {
					continue
				}
				if got := flujotest.One(t, conn, "SELECT count(*) FROM flujo."+table); got != "0" {
					t.Errorf("%s: got %s rows, want 0", table, got)
				}
			}
			if got := flujotest.Originals(t, conn); got != nil {
				t.Errorf("got originals %v, want none", got)
			}
			if c.name == "id" { // execute the statements of the hint
				flujotest.Exec(t, conn,
					`ALTER TABLE "flujo"."steps" ALTER COLUMN "id" TYPE bigint`,
					`ALTER SEQUENCE "flujo"."steps_id_seq" AS bigint`)
				flujotest.Migrate(t, o)
				if got := flujotest.One(t, conn, "SELECT nextval('flujo.steps_id_seq')"); got != "3000000001" {
					t.Errorf("got next id %s, want 3000000001", got)
				}
				return
			}
			o.ExactFloats = false
			o.SQLite = clean // needs no wider types
			flujotest.Migrate(t, o)
			flujotest.WantTypes(t, conn, nil)
		})
	}
}
