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
	"flujo-port/internal/transfer"

	"github.com/jackc/pgx/v5"
)

// columnTypes gives the type of each column of Flujo's tables, and of its
// sequences, as table.column type.
func columnTypes(t testing.TB, conn *pgx.Conn) []string {
	t.Helper()
	return strings.Split(one(t, conn, `SELECT string_agg(what, E'\n' ORDER BY what) FROM (
		SELECT format('%s.%s %s', relname, attname, format_type(atttypid, atttypmod)) FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
			WHERE relnamespace = 'flujo'::regnamespace AND relkind = 'r' AND attnum > 0 AND relname NOT LIKE 'flujo\_port%'
		UNION ALL SELECT format('%s %s', sequencename, data_type) FROM pg_sequences WHERE schemaname = 'flujo') x(what)`), "\n")
}

// wantTypes checks that exactly the given columns and sequences have another
// type than Flujo's.
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

// beyond writes a file with integers beyond int4 in ids and elsewhere. Before
// each of them comes a row that is changed, so that what was found of it is to
// be told once although the table is read anew.
func beyond(t testing.TB) string {
	t.Helper()
	f := newFile(t, format06)
	f.insert(
		"runs",
		cells{
			"error_message":     "a\x00",
			"execution_time_ms": int64(1),
			"created_at":        "2026-01-05T09:00:00",
			"memory_usage_mb":   0.1,
		},
	)
	f.insert("runs", cells{"run_id": "r2", "execution_time_ms": int64(-2147483649)})
	f.insert(
		"steps",
		cells{
			"id":                int64(1),
			"output":            "{",
			"token_counts":      int64(2147483647),
			"execution_time_ms": int64(-2147483648),
		},
	)
	f.insert("steps", cells{"id": int64(2), "output": "{", "token_counts": int64(2147483648), "cost_usd": 0.1})
	f.insert(
		"steps",
		cells{"id": int64(3), "output": "{", "token_counts": int64(9223372036854775807), "step_index": 3e9},
	)
	f.insert("spans", cells{"id": int64(5_000_000_000), "span_id": "x\x00"})
	f.insert("evaluations", cells{"id": int64(2147483646)})
	return f.close()
}

// TestIntegersBeyondInt4: columns and sequences become bigint where the file
// needs it, and nowhere else.
func TestIntegersBeyondInt4(t *testing.T) {
	t.Parallel()
	path := beyond(t)
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
	for _, there := range []bool{false, true} {
		t.Run(fmt.Sprintf("tables there %v", there), func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := connect(t, url)
			if there {
				initialise(t, url)
			}
			before := leftovers(t, conn)
			o := options(t, path, url)
			o.Strict = true
			wantStrict(t, o, "4 columns would be made bigint", "5 cells")
			o.Strict, o.DryRun = false, true
			migrate(t, o)
			if got := leftovers(t, conn); got != before {
				t.Errorf("left %s, there was %s", got, before)
			}
			if there {
				wantTypes(t, conn, nil)
			}
			o.DryRun = false
			all := collectFindings(&o)
			result := migrate(t, o)
			wantTypes(t, conn, widened)
			wantReport(t, result, *all, found)
			names := slices.Sorted(slices.Values(result.Widened))
			wantSame(
				t,
				"widened",
				names,
				[]string{"runs.execution_time_ms", "spans.id", "steps.step_index", "steps.token_counts"},
			)
			if len(result.NaiveTimestamps) != 1 || result.NaiveTimestamps[0].Count != 1 {
				t.Errorf("naive timestamps %+v, want one", result.NaiveTimestamps)
			}
			if len(result.Rounded) != 2 || result.Rounded[0].Count != 1 || result.Rounded[1].Count != 1 {
				t.Errorf("rounded %+v, want one of each", result.Rounded)
			}
			var text strings.Builder
			if err := result.Text(&text); err != nil {
				t.Fatal(err)
			}
			if line := "changed to bigint, for integers out of range of PostgreSQL's integer: " + strings.Join(result.Widened, ", ") + "\n"; !strings.Contains(
				text.String(),
				line,
			) {
				t.Errorf("the report does not say %q:\n%s", line, &text)
			}
			wantBeyond(t, conn)
		})
	}
}

func wantBeyond(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	const insert = "INSERT INTO flujo.%s VALUES (%s) RETURNING id"
	for _, c := range [][2]string{
		{"SELECT string_agg(execution_time_ms::text, ' ' ORDER BY run_id) FROM flujo.runs", "1 -2147483649"},
		{"SELECT string_agg(token_counts::text, ' ' ORDER BY id) FROM flujo.steps", "2147483647 2147483648 9223372036854775807"},
		{"SELECT string_agg(step_index::text, ' ' ORDER BY id) FROM flujo.steps", "0 0 3000000000"},
		{"SELECT execution_time_ms FROM flujo.steps WHERE id = 1", "-2147483648"},
		{"SELECT string_agg(id::text, ' ') FROM flujo.spans", "5000000000"},
	} {
		if got := one(t, conn, c[0]); got != c[1] {
			t.Errorf("%s: %s, want %s", c[0], got, c[1])
		}
	}
	for table, rest := range map[string][2]string{
		"spans (run_id, span_id, name, start_time, status, created_at)": {"'r', 's', 'n', 1, 's', now()", "5000000001"},
		"steps (run_id, step_name, step_index, status, created_at)":     {"'r', 's', 1, 's', now()", "4"},
		"evaluations (run_id, score)":                                   {"'r', 1", "2147483647"},
	} {
		var id int64
		if err := conn.QueryRow(context.Background(), fmt.Sprintf(insert, table, rest[0])).Scan(&id); err != nil {
			t.Errorf("the next insert: %v", err)
		} else if fmt.Sprint(id) != rest[1] {
			t.Errorf("the next id in %s is %d, want %s", table, id, rest[1])
		}
	}
}

// TestNextIDBeyondInt4: the ids fit, the next one does not.
func TestNextIDBeyondInt4(t *testing.T) {
	t.Parallel()
	f := newFile(t, format06)
	f.insert("runs", nil)
	f.insert("steps", cells{"id": int64(2147483647)})
	f.insert("spans", cells{"id": int64(1)})
	f.exec("UPDATE sqlite_sequence SET seq = 4000000000 WHERE name = 'spans'") // rows that were deleted
	url := pgtest.Database(t)
	result := migrate(t, options(t, f.close(), url))
	conn := connect(t, url)
	wantTypes(
		t,
		conn,
		map[string]string{
			"steps.id":     "bigint",
			"steps_id_seq": "bigint",
			"spans.id":     "bigint",
			"spans_id_seq": "bigint",
		},
	)
	for table, want := range map[string]string{"steps": "2147483648", "spans": "4000000001", "evaluations": "1"} {
		if got := one(t, conn, fmt.Sprintf("SELECT nextval('flujo.%s_id_seq')", table)); got != want {
			t.Errorf("%s: next id %s, want %s", table, got, want)
		}
	}
	wantSame(t, "widened", result.Widened, []string{"steps.id", "spans.id"})
}

// TestLastIDOfAll: there is no id after the last one that SQLite has.
func TestLastIDOfAll(t *testing.T) {
	t.Parallel()
	f := newFile(t, format06)
	f.insert("runs", nil)
	f.insert("steps", cells{"id": int64(9223372036854775807)})
	f.insert("steps", cells{"id": int64(-9223372036854775808)})
	path := f.close()
	url := pgtest.Database(t)
	result := migrate(t, options(t, path, url))
	if notes := strings.Join(result.Notes, " "); !strings.Contains(notes, "steps has the highest id") {
		t.Errorf("notes %q", result.Notes)
	}
	conn := connect(t, url)
	if got := one(t, conn, "SELECT string_agg(id::text, ' ' ORDER BY id) FROM flujo.steps"); got != "-9223372036854775808 9223372036854775807" {
		t.Errorf("ids %s", got)
	}
	if _, err := conn.Exec(context.Background(), "INSERT INTO flujo.steps (run_id, step_name, step_index, status, created_at) VALUES ('r', 's', 1, 's', now())"); err == nil {
		t.Error("an id was found after the last one")
	}
}

// TestWiderTypesAreUsed: what an earlier run, or a person, made wider stays.
func TestWiderTypesAreUsed(t *testing.T) {
	t.Parallel()
	wider := map[string]string{"steps.id": "bigint", "steps.token_counts": "bigint", "runs.total_steps": "bigint",
		"steps.cost_usd": "double precision", "runs.memory_usage_mb": "double precision"}
	for _, c := range []struct {
		name  string
		path  string
		other map[string]string
	}{
		{"that the file does not need", fixture, nil},
		{"that the file needs", beyond(t), map[string]string{"runs.execution_time_ms": "bigint", "steps.step_index": "bigint", "spans.id": "bigint", "spans_id_seq": "bigint"}},
		{"with ids beyond their sequence", beyondSequence(t), map[string]string{"steps_id_seq": "bigint"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			initialise(t, url)
			conn := connect(t, url)
			for name, kind := range wider {
				table, column, _ := strings.Cut(name, ".")
				run(t, conn, fmt.Sprintf("ALTER TABLE flujo.%s ALTER %s TYPE %s", table, column, kind))
			}
			result := migrate(t, options(t, c.path, url))
			want := maps.Clone(wider)
			maps.Copy(want, c.other)
			wantTypes(t, conn, want)
			for _, r := range result.Rounded {
				if _, double := wider[r.Column]; double {
					t.Errorf("%s is double precision, and %d values were rounded", r.Column, r.Count)
				}
			}
			for _, name := range result.Widened {
				if _, was := wider[name]; was {
					t.Errorf("%s was made bigint once more", name)
				}
			}
			next := one(t, conn, "SELECT max(id) + 1 FROM flujo.steps")
			if got := one(t, conn, "SELECT nextval('flujo.steps_id_seq')"); got != next {
				t.Errorf("the next id is %s, want %s", got, next)
			}
		})
	}
}

func beyondSequence(t testing.TB) string {
	t.Helper()
	f := newFile(t, format06)
	f.insert("runs", nil)
	f.insert("steps", cells{"id": int64(3_000_000_000)})
	return f.close()
}

// TestTypesOfAnotherOwner: a role that may fill the tables and not alter them is
// told what is to be altered, and nothing changes.
func TestTypesOfAnotherOwner(t *testing.T) {
	t.Parallel()
	clean := copyOf(t, fixture)
	for _, c := range []struct {
		name  string
		path  string
		exact bool
		words []string
	}{
		{"column", beyond(t), false, []string{"runs.execution_time_ms", "must be owner", `have the table's owner run ALTER TABLE "flujo"."runs" ALTER COLUMN "execution_time_ms" TYPE bigint;`}},
		{"id", beyondSequence(t), false, []string{"steps.id", "must be owner", `run ALTER TABLE "flujo"."steps" ALTER COLUMN "id" TYPE bigint; ALTER SEQUENCE "flujo"."steps_id_seq" AS bigint; then run again`}},
		{"floats", clean, true, []string{"must be owner", `run ALTER TABLE "flujo"."runs" ALTER COLUMN "memory_usage_mb" TYPE double precision;`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			role := pgtest.Role(t, url, "")
			name := one(t, connect(t, role), "SELECT current_user")
			if _, err := transfer.Init(context.Background(), transfer.InitOptions{Postgres: url, Schema: schema, WithoutPGVector: true, GrantTo: name}); err != nil {
				t.Fatal(err)
			}
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
					t.Errorf("%s has %s rows", table, got)
				}
			}
			if got := originals(t, conn); got != nil {
				t.Errorf("originals were left: %v", got)
			}
			if c.name == "id" { // done as it was said
				run(
					t,
					conn,
					`ALTER TABLE "flujo"."steps" ALTER COLUMN "id" TYPE bigint`,
					`ALTER SEQUENCE "flujo"."steps_id_seq" AS bigint`,
				)
				migrate(t, o)
				if got := one(t, conn, "SELECT nextval('flujo.steps_id_seq')"); got != "3000000001" {
					t.Errorf("the next id is %s", got)
				}
				return
			}
			o.ExactFloats = false
			o.SQLite = clean // which needs nothing wider
			migrate(t, o)
			wantTypes(t, conn, nil)
		})
	}
}
