package migrate_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// TestTamperedColumns tests that a cell that differs from the file, in any column of any table, is reported and nothing
// is committed. The first migration has such a cell in the first column of every table, the second in the second, and
// so on.
func TestTamperedColumns(t *testing.T) {
	t.Parallel()
	file := flujotest.FullFile(t)
	url := pgtest.Database(t)
	tamper := flujotest.Tamperer(t, url)
	conn := flujotest.Connect(t, url)
	changes := map[string]string{
		"T": "%s || 'x'", "I": "%s + 1", "R": "%s * 1.5", "D": "%s + 0.0000002384185791015625", "B": "NOT %s",
		"J": `jsonb_build_object('other', %s)`, "Z": "%s + interval '1 microsecond'",
	}
	columns := map[string][]string{} // by table, without the key
	rounds, tried := 0, 0
	for table, list := range flujotest.Tables {
		if table == "flujo_schema_versions" {
			continue // holds no state
		}
		for column := range strings.SplitSeq(list, ", ") {
			if name, _, _ := strings.Cut(column, " "); name != flujotest.Keys[table] {
				columns[table] = append(columns[table], column)
			}
		}
		rounds = max(rounds, len(columns[table]))
		t.Run(table+"."+flujotest.Keys[table],
			func(t *testing.T) { testTamperedKey(t, file, url, tamper, table, flujotest.Keys[table]) })
	}
	for round := range rounds {
		t.Run(fmt.Sprint("column ", round), func(t *testing.T) {
			var damage []string
			want := map[string]report.Difference{} // by table
			for table, list := range columns {
				if round >= len(list) {
					continue
				}
				tried++
				name, kind, _ := strings.Cut(list[round], " ")
				rowKey := map[string]string{"id": "2", "run_id": "'q'", "key": "'kq'"}[flujotest.Keys[table]]
				change := fmt.Sprintf(changes[kind[:1]], name)
				if name == "run_id" {
					change = "'r'" // the id of another run, so that the foreign key holds
				}
				damage = append(
					damage,
					fmt.Sprintf(
						"UPDATE %s SET %s = %s WHERE %s = %s",
						table,
						name,
						change,
						flujotest.Keys[table],
						rowKey,
					),
				)
				want[table] = report.Difference{
					Table:  table,
					Key:    strings.Trim(rowKey, "'"),
					Column: name,
					Kind:   report.CellDiffer,
				}
			}
			tamper(strings.Join(damage, "; "))
			result, differences, err := migrateTampered(t, file, url)
			if err == nil || len(differences) != len(want) || result.Differing != int64(len(want)) || result.Committed {
				t.Fatalf("got differences %v, %d differing rows, committed %v and error %v; want %d differences",
					differences, result.Differing, result.Committed, err, len(want))
			}
			for _, d := range differences {
				w := want[d.Table]
				w.InFile, w.InPostgres = d.InFile, d.InPostgres // compared below
				if d != w || d.InFile == d.InPostgres {
					t.Errorf("got difference %+v, want %+v", d, w)
				}
				delete(want, d.Table)
			}
			first := differences[0]
			for _, word := range []string{first.Table, first.Key, first.Column, first.InFile, first.InPostgres} {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the error does not say %q: %v", word, err)
				}
			}
			if got := flujotest.One(t, conn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'"); got != "0" {
				t.Error("the schema was committed")
			}
		})
	}
	if tried != 58 {
		t.Errorf("tested %d columns, want 58", tried)
	}
}

// testTamperedKey changes a key, and tests that a missing and an extra row are reported.
func testTamperedKey(t *testing.T, file, url string, tamper func(string), table, key string) {
	rowKey := map[string]string{"id": "2", "run_id": "'q'", "key": "'kq'"}[key]
	other := map[string]string{"id": "77", "run_id": "'other'", "key": "'other'"}[key]
	// With session_replication_role = replica, the children may keep the old key of their run.
	tamper(fmt.Sprintf("SET LOCAL session_replication_role = replica; UPDATE %s SET %s = %s WHERE %[2]s = %[4]s", table,
		key, other, rowKey))
	result, differences, err := migrateTampered(t, file, url)
	if err == nil || result.Committed || len(differences) != 2 {
		t.Fatalf("got differences %v and error %v, want two differences", differences, err)
	}
	missing, extra := differences[0], differences[1]
	if missing.Table != table || missing.Key != strings.Trim(rowKey, "'") || missing.Kind != report.RowMissing ||
		extra.Table != table || extra.Key != strings.Trim(other, "'") || extra.Kind != report.RowExtra {
		t.Errorf("got differences %+v, want a missing and an extra row of %s", differences, table)
	}
}

// migrateTampered runs a migration that succeeds or finds a mismatch, and returns its report and the differences.
func migrateTampered(t testing.TB, file, url string) (*report.Migration, []report.Difference, error) {
	t.Helper()
	o := flujotest.Options(t, file, url)
	var differences []report.Difference
	o.OnDifference = func(d report.Difference) { differences = append(differences, d) }
	result, err := migrate.Run(context.Background(), o)
	if err != nil && clierr.KindOf(err) != clierr.Mismatch {
		t.Fatalf("got kind %d, want a mismatch: %v", clierr.KindOf(err), err)
	}
	return result, differences, err
}

// TestTamperedRows tests rows that are missing, duplicated or swapped, JSON that differs in its last digit, and
// changes that are not differences.
func TestTamperedRows(t *testing.T) {
	t.Parallel()
	file := flujotest.FullFile(t)
	for _, tc := range []struct {
		name, damage string
		want         []string // "table key column kind"
	}{
		{"missing", "DELETE FROM steps WHERE id = 1", []string{"steps 1  missing"}},
		{"one of each table missing", "DELETE FROM evaluations WHERE id = 2; DELETE FROM system_state " +
			"WHERE key = 'kr'; DELETE FROM traces WHERE run_id = 'q'",
			[]string{"traces q  missing", "evaluations 2  missing", "system_state kr  missing"}},
		{"duplicated", "INSERT INTO spans SELECT 99, run_id, span_id, parent_span_id, name, start_time, end_time, " +
			"status, attributes, created_at FROM spans WHERE id = 1",
			[]string{"spans 99  extra"}},
		{"duplicated with its key", "ALTER TABLE system_state DROP CONSTRAINT system_state_pkey; " +
			"INSERT INTO system_state SELECT * FROM system_state WHERE key = 'kr'",
			[]string{"system_state kr  extra"}},
		{"one duplicated, one missing", "ALTER TABLE steps DROP CONSTRAINT steps_pkey; " +
			"DELETE FROM steps WHERE id = 1; INSERT INTO steps SELECT * FROM steps",
			[]string{"steps 1  missing", "steps 2  extra"}},
		{"another key", "UPDATE evaluations SET id = 77 WHERE id = 1",
			[]string{"evaluations 1  missing", "evaluations 77  extra"}},
		{"cells swapped between two rows",
			"UPDATE runs a SET error_message = b.error_message FROM runs b WHERE a.run_id <> b.run_id",
			[]string{"runs r error_message differs", "runs q error_message differs"}},
		{"cells swapped in a row",
			"UPDATE steps SET token_counts = execution_time_ms, execution_time_ms = token_counts WHERE id = 1",
			[]string{"steps 1 token_counts differs", "steps 1 execution_time_ms differs"}},
		{"JSON with another last digit",
			`UPDATE steps SET output = '{"n": 123456789012345678901234567890.12345678901234567891}' WHERE id = 1`,
			[]string{"steps 1 output differs"}},
		{"JSON with another scale",
			`UPDATE workflow_state SET pipeline_context = '{"a": {"b": [1.1, 2]}, "c": null}' WHERE run_id = 'r'`,
			[]string{"workflow_state r pipeline_context differs"}},
		{"NULL for a value", "UPDATE spans SET attributes = NULL WHERE id = 2", []string{"spans 2 attributes differs"}},
		{"empty text for NULL",
			"UPDATE runs SET error_message = '' WHERE run_id = 'r'; UPDATE steps SET output = NULL WHERE id = 2",
			[]string{"runs r error_message differs", "steps 2 output differs"}},
		{"another trace", `UPDATE traces SET trace_data = '{"span_id": "b"}' WHERE run_id = 'r'`,
			[]string{"traces r trace_data differs"}},
		{"JSON's order and white space",
			`UPDATE workflow_state SET pipeline_context = '{"c":null,  "a":{"b":[1.10,2]}}'`, nil},
		{"updated to the same values",
			"UPDATE steps SET status = status; UPDATE runs SET created_at = created_at", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			flujotest.Tamperer(t, url)(tc.damage)
			result, differences, err := migrateTampered(t, file, url)
			var got []string
			for _, d := range differences {
				got = append(got, fmt.Sprintf("%s %s %s %s", d.Table, d.Key, d.Column, d.Kind))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got differences %q, want %q: %v", got, tc.want, err)
			}
			if (err == nil) != (tc.want == nil) || result.Committed != (tc.want == nil) {
				t.Errorf("got committed %v and error %v", result.Committed, err)
			}
		})
	}
}

// TestTamperedVerifyCounts tests that --verify counts finds missing rows but not changed cells, and that the report
// has the mode.
func TestTamperedVerifyCounts(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	tamper := flujotest.Tamperer(t, url)
	o := flujotest.Options(t, flujotest.FullFile(t), url)
	o.Verify = report.VerifyCounts
	tamper("DELETE FROM steps WHERE id = 1")
	flujotest.WantError(t, o, clierr.Mismatch, "steps has 1 instead of 2")
	tamper("UPDATE steps SET status = 'other'")
	if result := flujotest.Migrate(t, o); !result.Committed || result.Verify != "counts" {
		t.Errorf("got committed %v and verified by %s, want true and counts", result.Committed, result.Verify)
	}
}

// TestManyDifferences tests that the report has the first differences of each table, and that all are passed to
// OnDifference.
func TestManyDifferences(t *testing.T) {
	t.Parallel()
	file := flujotest.Changed(t, `INSERT INTO steps (run_id, step_name, step_index, status, output, created_at)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
		SELECT (SELECT run_id FROM runs LIMIT 1), 's', i, 'completed', '{}', '2026-01-05T09:00:01+00:00' FROM n`)
	url := pgtest.Database(t)
	flujotest.Tamperer(t, url)("UPDATE steps SET step_index = step_index + 1; DELETE FROM spans")
	result, differences, err := migrateTampered(t, file, url)
	if len(differences) != 3213+261 || result.Differing != 3213+261 || err == nil {
		t.Errorf("got %d differences, %d differing rows and error %v, want %d of each", len(differences),
			result.Differing, err, 3213+261)
	}
	if len(result.Differences) != 2*report.FirstDifferences {
		t.Errorf("got %d differences in the report, want %d", len(result.Differences), 2*report.FirstDifferences)
	}
}

// TestTamperedDerived tests that derived rows are verified.
func TestTamperedDerived(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Tamperer(t, url)("UPDATE traces SET created_at = created_at + interval '1 microsecond' " +
		"WHERE run_id = (SELECT min(run_id) FROM traces)")
	_, differences, err := migrateTampered(t, flujotest.Fixture, url)
	if err == nil || len(differences) != 1 || differences[0].Table != "traces" ||
		differences[0].Column != "created_at" {
		t.Errorf("got differences %+v and error %v, want one of traces.created_at", differences, err)
	}
}

// TestTamperedOriginals tests that flujo_port_originals is verified, by content and by counts.
func TestTamperedOriginals(t *testing.T) {
	t.Parallel()
	for _, verify := range []string{report.VerifyContent, report.VerifyCounts} {
		url := pgtest.Database(t)
		damage := map[string]string{
			report.VerifyContent: "UPDATE flujo_port_originals SET original = 'x' WHERE column_name = 'output'",
			report.VerifyCounts:  "DELETE FROM flujo_port_originals WHERE column_name = 'output'",
		}[verify]
		flujotest.Tamperer(t, url)(damage)
		o := flujotest.Options(t, flujotest.RepairedFile(t), url)
		o.Quarantine, o.Verify = true, verify
		flujotest.WantError(t, o, clierr.Mismatch, "flujo_port_originals")
	}
}
