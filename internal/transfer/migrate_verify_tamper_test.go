package transfer_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/transfer"
)

// tamperer makes the server do damage inside of a migration's transaction,
// after its rows are there and before they are verified: an event trigger on
// the last sequence that is set. No part of the program knows of it.
func tamperer(t testing.TB, url string) (do func(damage string)) {
	t.Helper()
	conn := connect(t, url)
	set := func(damage string) {
		run(t, conn,
			fmt.Sprintf(
				`CREATE OR REPLACE FUNCTION public.tamper() RETURNS event_trigger LANGUAGE plpgsql AS $tamper$ BEGIN
			IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity = 'flujo.evaluations_id_seq')
				AND NOT EXISTS (SELECT FROM pg_settings WHERE name = 'tamper.done' AND setting = 'yes')
					AND current_setting('tamper.done', true) IS DISTINCT FROM 'yes' THEN
				PERFORM set_config('tamper.done', 'yes', true);
				SET LOCAL search_path = flujo, public;
				%s;
				SET LOCAL search_path = pg_catalog, pg_temp;
			END IF;
		END $tamper$`,
				damage,
			))
	}
	set("NULL")
	run(t, conn,
		"CREATE EVENT TRIGGER tamper ON ddl_command_end WHEN TAG IN ('ALTER SEQUENCE') EXECUTE FUNCTION "+
			"public.tamper()")
	return set
}

// tamperFile makes a file with two rows in every table.
func tamperFile(t testing.TB) string {
	t.Helper()
	f := newFile(t, format06)
	for i, key := range []string{"r", "q"} {
		f.insert("runs", cells{
			"run_id":            key,
			"execution_time_ms": int64(10 + i),
			"memory_usage_mb":   1.5,
			"total_steps":       int64(2),
			"error_message":     "none" + key,
		})
		f.insert("workflow_state", cells{
			"run_id":             key,
			"pipeline_context":   `{"a": {"b": [1.10, 2]}, "c": null}`,
			"last_step_output":   `"x"`,
			"step_history":       "[1]",
			"total_steps":        int64(2),
			"error_message":      "e",
			"execution_time_ms":  int64(3),
			"memory_usage_mb":    2.5,
			"metadata":           `{"m": true}`,
			"is_background_task": int64(i),
			"parent_run_id":      "p",
			"task_id":            "t",
			"background_error":   "b",
		})
		f.insert("steps", cells{
			"run_id":            key,
			"output":            `{"n": 123456789012345678901234567890.12345678901234567890}`,
			"raw_response":      `{"z": 1}`,
			"cost_usd":          0.25,
			"token_counts":      int64(7),
			"execution_time_ms": int64(8),
		})
		f.insert("spans", cells{
			"run_id":         key,
			"span_id":        "s" + key,
			"parent_span_id": "top",
			"end_time":       1767603601.25,
			"attributes":     `{"k": "v"}`,
		})
		f.insert("traces", cells{"run_id": key, "trace_data": `{"span_id": "a"}`})
		f.insert("evaluations", cells{"run_id": key, "step_name": "s", "feedback": "fine", "metadata": `{"judge": 1}`})
		f.insert("system_state", cells{"key": "k" + key, "value": `{"v": 1}`})
	}
	return f.close()
}

// TestTamperedColumns: a cell that is not what the file says, in any column of
// any table, is named before anything is committed. Each migration has one such
// cell in every table: the first column of each, then the second, and so on.
func TestTamperedColumns(t *testing.T) {
	t.Parallel()
	file := tamperFile(t)
	url := pgtest.Database(t)
	tamper := tamperer(t, url)
	conn := connect(t, url)
	changes := map[string]string{
		"T": "%s || 'x'", "I": "%s + 1", "R": "%s * 1.5", "D": "%s + 0.0000002384185791015625", "B": "NOT %s",
		"J": `jsonb_build_object('other', %s)`, "Z": "%s + interval '1 microsecond'",
	}
	columns := map[string][]string{} // by table, without the key
	rounds, tried := 0, 0
	for table, list := range flujoTables {
		if table == "flujo_schema_versions" {
			continue // holds no state
		}
		for column := range strings.SplitSeq(list, ", ") {
			if name, _, _ := strings.Cut(column, " "); name != flujoKeys[table] {
				columns[table] = append(columns[table], column)
			}
		}
		rounds = max(rounds, len(columns[table]))
		t.Run(table+"."+flujoKeys[table],
			func(t *testing.T) { tamperedKey(t, file, url, tamper, table, flujoKeys[table]) })
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
				victim := map[string]string{"id": "2", "run_id": "'q'", "key": "'kq'"}[flujoKeys[table]]
				change := fmt.Sprintf(changes[kind[:1]], name)
				if name == "run_id" {
					change = "'r'" // swapped to another run, which the foreign key lets pass
				}
				damage = append(damage,
					fmt.Sprintf("UPDATE %s SET %s = %s WHERE %s = %s", table, name, change, flujoKeys[table], victim))
				want[table] = report.Difference{
					Table:  table,
					Key:    strings.Trim(victim, "'"),
					Column: name,
					Kind:   report.CellDiffer,
				}
			}
			tamper(strings.Join(damage, "; "))
			result, differences, err := tampered(t, file, url)
			if err == nil || len(differences) != len(want) || result.Differing != int64(len(want)) || result.Committed {
				t.Fatalf("%d differences %v, %d differing rows, committed %v: %v", len(differences), differences,
					result.Differing, result.Committed, err)
			}
			for _, d := range differences {
				w := want[d.Table]
				w.InFile, w.InPostgres = d.InFile, d.InPostgres // what they are, is checked below
				if d != w || d.InFile == d.InPostgres {
					t.Errorf("difference %+v, want %+v", d, w)
				}
				delete(want, d.Table)
			}
			first := differences[0]
			for _, word := range []string{first.Table, first.Key, first.Column, first.InFile, first.InPostgres} {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the error does not say %q: %v", word, err)
				}
			}
			if got := one(t, conn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'"); got != "0" {
				t.Error("the schema was committed")
			}
		})
	}
	if tried != 58 {
		t.Errorf("%d columns were tried", tried)
	}
}

// tamperedKey changes a key: a row is missing then, and another one too many.
func tamperedKey(t *testing.T, file, url string, tamper func(string), table, key string) {
	victim := map[string]string{"id": "2", "run_id": "'q'", "key": "'kq'"}[key]
	other := map[string]string{"id": "77", "run_id": "'other'", "key": "'other'"}[key]
	// Children keep the key that their run had: that is checked by nobody then.
	tamper(fmt.Sprintf("SET LOCAL session_replication_role = replica; UPDATE %s SET %s = %s WHERE %[2]s = %[4]s", table,
		key, other, victim))
	result, differences, err := tampered(t, file, url)
	if err == nil || result.Committed || len(differences) != 2 {
		t.Fatalf("%d differences %v: %v", len(differences), differences, err)
	}
	missing, extra := differences[0], differences[1]
	if missing.Table != table || missing.Key != strings.Trim(victim, "'") || missing.Kind != report.RowMissing ||
		extra.Table != table || extra.Key != strings.Trim(other, "'") || extra.Kind != report.RowExtra {
		t.Errorf("differences %+v", differences)
	}
}

// tampered migrates and gives the report and what was found to be different.
func tampered(t testing.TB, file, url string) (*report.Migration, []report.Difference, error) {
	t.Helper()
	o := options(t, file, url)
	var differences []report.Difference
	o.OnDifference = func(d report.Difference) { differences = append(differences, d) }
	result, err := transfer.Migrate(context.Background(), o)
	if err != nil && clierr.KindOf(err) != clierr.Mismatch {
		t.Fatalf("kind %d: %v", clierr.KindOf(err), err)
	}
	return result, differences, err
}

// TestTamperedRows: rows that are missing, doubled, swapped; JSON that differs
// in its last digit; and what is no difference.
func TestTamperedRows(t *testing.T) {
	t.Parallel()
	file := tamperFile(t)
	for _, tc := range []struct {
		name, damage string
		want         []string // as table key column kind
	}{
		{"missing", "DELETE FROM steps WHERE id = 1", []string{"steps 1  missing"}},
		{"one of each table missing", "DELETE FROM evaluations WHERE id = 2; DELETE FROM system_state " +
			"WHERE key = 'kr'; DELETE FROM traces WHERE run_id = 'q'",
			[]string{"traces q  missing", "evaluations 2  missing", "system_state kr  missing"}},
		{"doubled", "INSERT INTO spans SELECT 99, run_id, span_id, parent_span_id, name, start_time, end_time, " +
			"status, attributes, created_at FROM spans WHERE id = 1",
			[]string{"spans 99  extra"}},
		{"doubled with its key", "ALTER TABLE system_state DROP CONSTRAINT system_state_pkey; " +
			"INSERT INTO system_state SELECT * FROM system_state WHERE key = 'kr'",
			[]string{"system_state kr  extra"}},
		{"doubled for another that is missing", "ALTER TABLE steps DROP CONSTRAINT steps_pkey; DELETE FROM steps " +
			"WHERE id = 1; INSERT INTO steps SELECT * FROM steps",
			[]string{"steps 1  missing", "steps 2  extra"}},
		{"another key", "UPDATE evaluations SET id = 77 WHERE id = 1",
			[]string{"evaluations 1  missing", "evaluations 77  extra"}},
		{"cells swapped between two rows",
			"UPDATE runs a SET error_message = b.error_message FROM runs b WHERE a.run_id <> b.run_id",
			[]string{"runs r error_message differs", "runs q error_message differs"}},
		{"cells swapped in a row",
			"UPDATE steps SET token_counts = execution_time_ms, execution_time_ms = token_counts WHERE id = 1",
			[]string{"steps 1 token_counts differs", "steps 1 execution_time_ms differs"}},
		{"JSON off in the last digit",
			`UPDATE steps SET output = '{"n": 123456789012345678901234567890.12345678901234567891}' WHERE id = 1`,
			[]string{"steps 1 output differs"}},
		{"JSON with another scale",
			`UPDATE workflow_state SET pipeline_context = '{"a": {"b": [1.1, 2]}, "c": null}' WHERE run_id = 'r'`,
			[]string{"workflow_state r pipeline_context differs"}},
		{"NULL for a value", "UPDATE spans SET attributes = NULL WHERE id = 2", []string{"spans 2 attributes differs"}},
		{"empty text for NULL",
			"UPDATE runs SET error_message = '' WHERE run_id = 'r'; UPDATE steps SET output = NULL WHERE id = 2",
			[]string{"runs r error_message differs", "steps 2 output differs"}},
		{"a derived or kept trace", `UPDATE traces SET trace_data = '{"span_id": "b"}' WHERE run_id = 'r'`,
			[]string{"traces r trace_data differs"}},
		{"JSON's order and white space",
			`UPDATE workflow_state SET pipeline_context = '{"c":null,  "a":{"b":[1.10,2]}}'`, nil},
		{"the same once more", "UPDATE steps SET status = status; UPDATE runs SET created_at = created_at", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			tamperer(t, url)(tc.damage)
			result, differences, err := tampered(t, file, url)
			var got []string
			for _, d := range differences {
				got = append(got, fmt.Sprintf("%s %s %s %s", d.Table, d.Key, d.Column, d.Kind))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("found %q, want %q: %v", got, tc.want, err)
			}
			if (err == nil) != (tc.want == nil) || result.Committed != (tc.want == nil) {
				t.Errorf("committed %v: %v", result.Committed, err)
			}
		})
	}
}

// TestTamperedButCounted: --verify counts sees rows that are missing, not what
// is in them, and the report says so.
func TestTamperedButCounted(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	tamper := tamperer(t, url)
	o := options(t, tamperFile(t), url)
	o.Verify = transfer.VerifyCounts
	tamper("DELETE FROM steps WHERE id = 1")
	wantError(t, o, clierr.Mismatch, "steps has 1, not 2")
	tamper("UPDATE steps SET status = 'other'")
	if result := migrate(t, o); !result.Committed || result.Verify != "counts" {
		t.Errorf("committed %v, verified by %s", result.Committed, result.Verify)
	}
}

// TestManyDifferences: whatever their number, the report has the first of each
// table, and all are told.
func TestManyDifferences(t *testing.T) {
	t.Parallel()
	file := changed(t, `INSERT INTO steps (run_id, step_name, step_index, status, output, created_at)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
		SELECT (SELECT run_id FROM runs LIMIT 1), 's', i, 'completed', '{}', '2026-01-05T09:00:01+00:00' FROM n`)
	url := pgtest.Database(t)
	tamperer(t, url)("UPDATE steps SET step_index = step_index + 1; DELETE FROM spans")
	result, differences, err := tampered(t, file, url)
	if len(differences) != 3213+261 || result.Differing != 3213+261 || err == nil {
		t.Errorf("%d differences, %d rows: %v", len(differences), result.Differing, err)
	}
	if len(result.Differences) != 2*report.FirstDifferences {
		t.Errorf("the report has %d", len(result.Differences))
	}
}

// TestTamperedDerived: what is derived is verified like what is copied.
func TestTamperedDerived(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	tamperer(t, url)(
		"UPDATE traces SET created_at = created_at + interval '1 microsecond' WHERE run_id = (SELECT min(run_id) " +
			"FROM traces)",
	)
	_, differences, err := tampered(t, fixture, url)
	if err == nil || len(differences) != 1 || differences[0].Table != "traces" ||
		differences[0].Column != "created_at" {
		t.Errorf("differences %+v: %v", differences, err)
	}
}

// TestTamperedOriginals: the originals are part of what is verified.
func TestTamperedOriginals(t *testing.T) {
	t.Parallel()
	for _, verify := range []string{transfer.VerifyContent, transfer.VerifyCounts} {
		url := pgtest.Database(t)
		damage := map[string]string{transfer.VerifyContent: "UPDATE flujo_port_originals SET original = 'x' " +
			"WHERE column_name = 'output'",
			transfer.VerifyCounts: "DELETE FROM flujo_port_originals WHERE column_name = 'output'"}[verify]
		tamperer(t, url)(damage)
		o := options(t, repairedFile(t), url)
		o.Quarantine, o.Verify = true, verify
		wantError(t, o, clierr.Mismatch, "flujo_port_originals")
	}
}
