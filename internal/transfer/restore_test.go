package transfer_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/transfer"
)

// restore brings a database back into a new file, and gives its path.
func restore(t testing.TB, url, base string) (string, *report.Restoration) {
	t.Helper()
	return restoreIn(t, url, base, nil)
}

func restoreIn(t testing.TB, url, base string, zone *time.Location) (string, *report.Restoration) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "restored.db")
	result, err := transfer.Restore(
		context.Background(),
		transfer.RestoreOptions{SQLite: path, Base: base, Postgres: url, Schema: schema, NaiveZone: zone},
	)
	if err != nil {
		t.Fatal(err)
	}
	if !result.Done || result.File.Path != path {
		t.Errorf("done %v, at %s", result.Done, result.File.Path)
	}
	aloneInFolder(t, path)
	return path, result
}

// aloneInFolder sees that nothing lies next to a file.
func aloneInFolder(t testing.TB, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			t.Errorf("%s was left next to the file", e.Name())
		}
	}
}

// dump reads every cell of Flujo's tables in a file, with its storage class, a
// line each row, and the ids that AUTOINCREMENT remembers.
func dump(t testing.TB, path string) map[string][]string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := map[string][]string{}
	for _, table := range append(slices.Collect(maps.Keys(flujoTables)), "memories", "sqlite_sequence") {
		columns := names(t, db, "SELECT name FROM pragma_table_info(?) ORDER BY name", table)
		if len(columns) == 0 {
			continue
		}
		var parts []string
		for _, c := range columns {
			parts = append(
				parts,
				fmt.Sprintf(
					"'%s=' || typeof(+%s) || ' ' || quote(+%[2]s)",
					strings.ReplaceAll(c, "'", "''"),
					quoted(strings.ReplaceAll(c, `"`, `""`)),
				),
			)
		}
		all[table] = names(
			t,
			db,
			fmt.Sprintf("SELECT %s FROM %s ORDER BY 1", strings.Join(parts, " || ' ' || "), table),
		)
	}
	return all
}

// names runs a query of one column.
func names(t testing.TB, db *sql.DB, query string, args ...any) (all []string) {
	t.Helper()
	rows, err := db.Query(query, args...)
	if err != nil {
		t.Fatalf("%.200s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// sameDump compares two files cell by cell; what only one has is a difference.
func sameDump(t testing.TB, got, want map[string][]string) {
	t.Helper()
	for table := range want {
		if len(want[table]) == 0 && len(got[table]) == 0 {
			continue
		}
		if slices.Equal(got[table], want[table]) {
			continue
		}
		t.Errorf("%s differs: %d rows, want %d", table, len(got[table]), len(want[table]))
		for i, row := range want[table] {
			if i >= len(got[table]) || got[table][i] != row {
				other := "nothing"
				if i < len(got[table]) {
					other = got[table][i]
				}
				t.Errorf("the first is\n%.1500s\nwant\n%.1500s", other, row)
				break
			}
		}
	}
	for table := range got {
		if len(got[table]) > 0 && len(want[table]) == 0 {
			t.Errorf("%s has %d rows more", table, len(got[table]))
		}
	}
}

// roundTripped are the files that Flujo wrote, but for the one with memories,
// which needs pgvector, and some that were made.
func roundTripped(t testing.TB) map[string]string {
	t.Helper()
	return map[string]string{
		"0.6.11": fixture, "0.4.35": "../../testdata/flujo_0.4.35.db", "0.4.35 opened": "../../testdata/flujo_0.4.35_opened_by_0.6.11.db",
		"repaired": repairedFile(t), "every column": tamperFile(t), "seven columns": sevenColumns(t),
	}
}

// sevenColumns is a file whose runs have their first seven columns only.
func sevenColumns(t testing.TB) string {
	t.Helper()
	f := newFile(
		t,
		map[string]string{
			"runs": "run_id K, pipeline_id T, pipeline_name T, pipeline_version T, status T, created_at T, updated_at T",
		},
	)
	f.insert("runs", cells{"run_id": "r"})
	return f.close()
}

// TestRestoreWithBaseIsTheOldFile: migrate, then restore with the base, then
// nothing in between: every cell is what it was, in every file format.
func TestRestoreWithBaseIsTheOldFile(t *testing.T) {
	t.Parallel()
	for name, file := range roundTripped(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			o := options(t, file, url)
			o.Quarantine = true
			migrate(t, o)
			path, result := restore(t, url, file)
			sameDump(t, dump(t, path), dump(t, file))
			if !result.Receipt.SameBytes {
				t.Errorf("receipt %+v", result.Receipt)
			}
			for _, row := range result.Tables {
				if !row.Match || row.Written != 0 || row.Removed != 0 {
					t.Errorf("%+v", row)
				}
			}
		})
	}
}

// TestRestoreIsAFixedPoint: what a restored file gives when it is migrated and
// restored again is the same file, clean or repaired; and what PostgreSQL holds
// is the same too.
func TestRestoreIsAFixedPoint(t *testing.T) {
	t.Parallel()
	for name, file := range roundTripped(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := pgtest.Database(t), pgtest.Database(t)
			o := options(t, file, first)
			o.Quarantine = true
			migrate(t, o)
			path, _ := restore(t, first, "")
			o = options(t, path, second)
			o.Quarantine = true
			migrate(t, o)
			again, _ := restore(t, second, "")
			sameDump(t, dump(t, again), dump(t, path))
			for _, table := range slices.Sorted(maps.Keys(flujoTables)) {
				if table == "flujo_schema_versions" {
					continue
				}
				query := fmt.Sprintf(
					"SELECT coalesce(string_agg(r::text, E'\\n' ORDER BY r::text), '') FROM flujo.%s r",
					table,
				)
				if a, b := one(t, connect(t, first), query), one(t, connect(t, second), query); a != b {
					t.Errorf("%s is not the same in PostgreSQL", table)
				}
			}
		})
	}
}

// TestRestoreWritesAsFlujoDoes: the form of every kind of value, and of the
// file.
func TestRestoreWritesAsFlujoDoes(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	path, result := restore(t, url, "")
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for query, want := range map[string]string{
		"SELECT output FROM steps WHERE id = 1": `{"query":"(\"MED13\"[Gene]) AND \"autism spectrum disorder\"[tiab]","terms":["MED13","autism spectrum disorder"],` +
			`"nested":{"note":"line1\nline2\t\"quoted\" \\ backslash","depth":0,"flags":[true,false,null]},"confidence":0.8211}`,
		"SELECT count(*) FROM steps WHERE output = 'null' AND typeof(output) = 'text'":        "32",
		"SELECT count(*) FROM steps WHERE output IS NULL":                                     "0",
		"SELECT created_at FROM steps WHERE id = 1":                                           "2026-01-05T09:00:01.669094+00:00",
		"SELECT created_at FROM spans WHERE id = 1":                                           "2026-11-23T02:18:25+00:00",
		"SELECT group_concat(DISTINCT typeof(is_background_task)) FROM workflow_state":        "integer",
		"SELECT quote(cost_usd) FROM steps WHERE id = 2":                                      "0.0008088655",
		"SELECT group_concat(name || seq) FROM (SELECT * FROM sqlite_sequence ORDER BY name)": "evaluations15,spans261,steps213",
		"PRAGMA user_version":                                                     "1",
		"PRAGMA integrity_check":                                                  "ok",
		"SELECT count(*) FROM pragma_foreign_key_check":                           "0",
		"SELECT count(*) FROM traces":                                             "0",
		"SELECT count(*) FROM sqlite_master WHERE name = 'memories'":              "0",
		"SELECT group_concat(name) FROM pragma_table_info('runs') WHERE cid > 10": "end_time,total_cost,final_context_blob",
		`SELECT count(*) FROM pragma_foreign_key_list('steps') WHERE "table" = 'runs' AND on_delete = 'CASCADE'`: "1",
	} {
		var got string
		if err := db.QueryRow(query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %s (%v), want %s", query, got, err, want)
		}
	}
	theirs, err := sql.Open("sqlite", "file:"+fixture+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	for _, query := range []string{
		"SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY name",
		`SELECT m.name || '.' || c.name || ' ' || c.type || ' ' || c."notnull" || ' ' || coalesce(c.dflt_value, '') || ' ' || c.pk FROM sqlite_master m, pragma_table_info(m.name) c
			WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' ORDER BY 1`,
		`SELECT m.name || ' ' || i.name || ' ' || c.name FROM sqlite_master m, pragma_index_list(m.name) i, pragma_index_info(i.name) c WHERE m.type = 'table' ORDER BY 1`,
		`SELECT m.name || ' ' || f."from" || ' ' || f."table" || ' ' || f."to" || ' ' || f.on_delete FROM sqlite_master m, pragma_foreign_key_list(m.name) f ORDER BY 1`,
	} {
		if got, want := names(t, db, query), names(t, theirs, query); !slices.Equal(got, want) {
			t.Errorf("the file is in the format\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	header, err := os.ReadFile(path)
	if err != nil || header[18] != 2 || header[19] != 2 {
		t.Errorf("not in WAL mode: %v (%v)", header[18:20], err)
	}
	if sum := strings.Fields(command(t, "sha256sum", path))[0]; sum != result.File.SHA256 {
		t.Errorf("SHA-256 %s, want %s", result.File.SHA256, sum)
	}
}

// aDay is what Flujo does in a day on PostgreSQL: runs that begin, go on, end
// and are deleted, state that is kept.
func aDay(run1, run2 string) []string {
	return []string{
		"SET search_path = flujo, public",
		"INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, created_at, updated_at) VALUES ('new', 'p', 'n', '1', 'running', now(), now())",
		`INSERT INTO workflow_state (run_id, pipeline_id, pipeline_name, pipeline_version, current_step_index, pipeline_context, last_step_output, status, created_at, updated_at, is_background_task)
			VALUES ('new', 'p', 'n', '1', 1, '{"z": 1.50, "a": [1e2, "x\u00e9"]}', 'null', 'running', now(), now(), true)`,
		`INSERT INTO steps (run_id, step_name, step_index, status, output, cost_usd, created_at) VALUES ('new', 's', 0, 'completed', NULL, 0.1, now()), ('new', 't', 1, 'completed', '"text"', 2.5e-7, now())`,
		`INSERT INTO spans (run_id, span_id, name, start_time, status, attributes, created_at) VALUES ('new', 'r', 'root', 1767603600.123456789, 'ok', '{}', now())`,
		`INSERT INTO traces (run_id, trace_data, created_at) VALUES ('new', '{"span_id": "r", "own": true}', now())`,
		"INSERT INTO evaluations (run_id, score, feedback) VALUES ('new', 0.3, 'good')",
		fmt.Sprintf(
			"UPDATE runs SET status = 'completed', updated_at = now(), memory_usage_mb = 1.1 WHERE run_id = '%s'",
			run1,
		),
		fmt.Sprintf(
			`UPDATE workflow_state SET pipeline_context = '{"now": true}', updated_at = now() WHERE run_id = '%s'`,
			run1,
		),
		fmt.Sprintf(
			"UPDATE steps SET output = 'null' WHERE id = (SELECT min(id) FROM steps WHERE run_id = '%s')",
			run1,
		),
		fmt.Sprintf("DELETE FROM runs WHERE run_id = '%s'", run2),
		fmt.Sprintf("DELETE FROM workflow_state WHERE run_id = '%s'", run2),
		"INSERT INTO system_state (key, value, updated_at) VALUES ('tracker:3', '{\"k\": 4}', now()) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value, updated_at = EXCLUDED.updated_at",
		"INSERT INTO evaluations (run_id, score) VALUES ('new', 0.1)", "DELETE FROM evaluations WHERE id = 17", // an id that is not allocated again
	}
}

// TestRestoreAfterADay: with and without base, everything that PostgreSQL holds
// is in the file, and with the base what did not change is as it was.
func TestRestoreAfterADay(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", "file:"+fixture+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	runs := names(t, db, "SELECT run_id FROM runs ORDER BY run_id")
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	conn := connect(t, url)
	run(t, conn, aDay(runs[0], runs[1])...)
	before := dump(t, fixture)
	for name, base := range map[string]string{"without base": "", "with base": fixture} {
		t.Run(name, func(t *testing.T) {
			path, result := restore(t, url, base)
			got := dump(t, path)
			// Migrated again, it is what PostgreSQL holds, but for JSON's null and NULL,
			// which are one to Flujo.
			second := pgtest.Database(t)
			migrate(t, options(t, path, second))
			run(t, connect(t, second), "UPDATE flujo.workflow_state SET last_step_output = 'null' WHERE run_id = 'new'")
			run(
				t,
				connect(t, second),
				"UPDATE flujo.steps SET output = 'null' WHERE id = (SELECT min(id) FROM flujo.steps WHERE run_id = '"+runs[0]+"')",
			)
			for _, table := range slices.Sorted(maps.Keys(flujoTables)) {
				query := fmt.Sprintf(
					"SELECT coalesce(string_agg(r::text, E'\\n' ORDER BY r::text), '') FROM flujo.%s r",
					table,
				)
				if a, b := one(t, conn, query), one(t, connect(t, second), query); table != "flujo_schema_versions" &&
					a != b {
					t.Errorf("%s is not the same:\n%.2000s\n%.2000s", table, a, b)
				}
			}
			if seq := strings.Join(got["sqlite_sequence"], "; "); !strings.Contains(
				seq,
				"'evaluations' seq=integer 17",
			) ||
				!strings.Contains(seq, "'steps' seq=integer 215") {
				t.Errorf("sequences %s", seq)
			}
			originals := 0
			for _, row := range got["workflow_state"] {
				if slices.Contains(before["workflow_state"], row) {
					originals++
				}
			}
			if base != "" && originals != 58 {
				t.Errorf("%d rows of workflow_state are as they were, want 58", originals)
			}
			for _, row := range result.Tables {
				if row.Name == "traces" && (row.Written != 1 || row.Derived != 59) {
					t.Errorf("%+v", row)
				}
				if base != "" && row.Name == "workflow_state" &&
					(row.FromBase != 58 || row.Written != 2 || row.Removed != 1) {
					t.Errorf("%+v", row)
				}
			}
		})
	}
}

// TestRestoreRefuses: bad input, before anything is written.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	filled := pgtest.Database(t)
	migrate(t, options(t, fixture, filled))
	for _, tc := range []struct {
		name  string
		o     func(t *testing.T, o *transfer.RestoreOptions)
		kind  clierr.Kind
		words []string
	}{
		{"a target that exists", func(t *testing.T, o *transfer.RestoreOptions) { touch(t, o.SQLite) }, clierr.Refused, []string{"already exists", "restore does not overwrite files"}},
		{"a -wal where the target is to be", func(t *testing.T, o *transfer.RestoreOptions) { touch(t, o.SQLite+"-wal") }, clierr.Refused, []string{"-wal\" already exists"}},
		{"a link that leads nowhere", func(t *testing.T, o *transfer.RestoreOptions) {
			if err := os.Symlink("nowhere", o.SQLite); err != nil {
				t.Fatal(err)
			}
		}, clierr.Refused, []string{"already exists"}},
		{"a folder that is not there", func(t *testing.T, o *transfer.RestoreOptions) { o.SQLite += "/nowhere/new.db" }, clierr.Usage, []string{"folder"}},
		{"no schema", func(t *testing.T, o *transfer.RestoreOptions) { o.Schema = "elsewhere" }, clierr.Refused, []string{"none of Flujo's tables"}},
		{"another schema", func(t *testing.T, o *transfer.RestoreOptions) {
			o.Postgres = pgtest.Database(t)
			run(t, connect(t, o.Postgres), "CREATE SCHEMA flujo", "CREATE TABLE flujo.runs (run_id int)")
		}, clierr.Refused, []string{"differ from Flujo"}},
		{"a column that it does not know", func(t *testing.T, o *transfer.RestoreOptions) {
			o.Postgres = pgtest.Database(t)
			initialise(t, o.Postgres)
			run(t, connect(t, o.Postgres), "ALTER TABLE flujo.steps ADD COLUMN later text")
		}, clierr.Refused, []string{"steps.later", "would be lost"}},
		{"NaN that may not be NULL", func(t *testing.T, o *transfer.RestoreOptions) {
			o.Postgres = pgtest.Database(t)
			migrate(t, options(t, fixture, o.Postgres))
			run(t, connect(t, o.Postgres), "UPDATE flujo.evaluations SET score = 'NaN' WHERE id = 3")
		}, clierr.Refused, []string{`evaluations "3", column score: NaN`}},
		{"a time that Python does not read", func(t *testing.T, o *transfer.RestoreOptions) {
			o.Postgres = pgtest.Database(t)
			migrate(t, options(t, fixture, o.Postgres))
			run(t, connect(t, o.Postgres), "UPDATE flujo.steps SET created_at = 'infinity' WHERE id = 3")
		}, clierr.Refused, []string{`steps "3", column created_at`, "years 1 to 9999"}},
		{"a base that is another file", func(t *testing.T, o *transfer.RestoreOptions) {
			o.Base = changed(t, "DELETE FROM evaluations WHERE id = 3")
		}, clierr.Refused, []string{"not the file that was migrated", "evaluations", "--merge"}},
		{"a base without a receipt", func(t *testing.T, o *transfer.RestoreOptions) {
			o.Postgres, o.Base = pgtest.Database(t), fixture
			initialise(t, o.Postgres)
		}, clierr.Refused, []string{"no receipt", "without --base"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := transfer.RestoreOptions{SQLite: filepath.Join(t.TempDir(), "new.db"), Postgres: filled, Schema: schema}
			tc.o(t, &o)
			_, err := transfer.Restore(context.Background(), o)
			if clierr.KindOf(err) != tc.kind || err == nil {
				t.Fatalf("error %v", err)
			}
			for _, w := range tc.words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the error does not say %q: %v", w, err)
				}
			}
			nothingHalfMade(t, filepath.Dir(o.SQLite))
		})
	}
}

func touch(t testing.TB, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func nothingHalfMade(t testing.TB, folder string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(folder, ".*flujo-port*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestRestoreDryRun: a dry run does all of it and leaves nothing.
func TestRestoreDryRun(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	path := filepath.Join(t.TempDir(), "new.db")
	result, err := transfer.Restore(
		context.Background(),
		transfer.RestoreOptions{SQLite: path, Postgres: url, Schema: schema, DryRun: true},
	)
	if err != nil || result.Done || !result.DryRun || result.File.SHA256 == "" {
		t.Fatalf("%+v: %v", result, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
	nothingHalfMade(t, filepath.Dir(path))
}

// TestRestoreRemovesALeftover: what a killed run left is recognised, whatever is
// in it, and a run that is under way is not disturbed.
func TestRestoreRemovesALeftover(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	path := filepath.Join(t.TempDir(), "restored.db")
	for _, end := range []string{"", "-wal", "-journal"} {
		touch(t, filepath.Join(filepath.Dir(path), ".restored.db.flujo-port-restore"+end))
	}
	o := transfer.RestoreOptions{SQLite: path, Postgres: url, Schema: schema}
	o.OnProgress = func(p transfer.Progress) {
		if p.Phase == transfer.PhaseVerify {
			other := o
			other.OnProgress = nil
			if _, err := transfer.Restore(context.Background(), other); clierr.KindOf(err) != clierr.Failed ||
				!strings.Contains(err.Error(), "being restored by another run") {
				t.Errorf("next to it: %v", err)
			}
		}
	}
	if _, err := transfer.Restore(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	aloneInFolder(t, path)
}

// TestRestoreInterrupted: Ctrl-C in any phase leaves nothing.
func TestRestoreInterrupted(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	for _, phase := range []string{transfer.PhaseConnect, transfer.PhaseRead, transfer.PhaseIndexes, transfer.PhaseVerify} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			path := filepath.Join(t.TempDir(), "new.db")
			_, err := transfer.Restore(
				ctx,
				transfer.RestoreOptions{
					SQLite:   path,
					Postgres: url,
					Schema:   schema,
					OnProgress: func(p transfer.Progress) {
						if p.Phase == phase {
							cancel()
						}
					},
				},
			)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) > 0 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

// TestRestoreDiskFull: a full disk is said, and leaves nothing.
func TestRestoreDiskFull(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs to mount a file system")
	}
	folder := t.TempDir()
	if out, err := mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", folder); err != nil {
		t.Skipf("no file system can be mounted here: %s", out)
	}
	t.Cleanup(func() { unmount(folder) })
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	for _, base := range []string{"", fixture} {
		_, err := transfer.Restore(
			context.Background(),
			transfer.RestoreOptions{SQLite: filepath.Join(folder, "new.db"), Base: base, Postgres: url, Schema: schema},
		)
		if clierr.KindOf(err) != clierr.Failed ||
			!strings.Contains(err.Error(), "full") && !strings.Contains(err.Error(), "no space left") {
			t.Errorf("error %v", err)
		}
		if entries, _ := os.ReadDir(folder); len(entries) > 0 {
			t.Errorf("left behind: %v", entries)
		}
	}
}

// TestRestoreKeepsWhatIsNotFlujos: with a base, other tables and columns stay.
func TestRestoreKeepsWhatIsNotFlujos(t *testing.T) {
	t.Parallel()
	file := changed(
		t,
		"CREATE TABLE other (a, b)",
		"INSERT INTO other VALUES (1, x'00ff')",
		"UPDATE runs SET final_context_blob = '{}'",
	)
	url := pgtest.Database(t)
	migrate(t, options(t, file, url))
	run(t, connect(t, url), "UPDATE flujo.steps SET status = 'later' WHERE id = 3")
	path, _ := restore(t, url, file)
	want := dump(t, file)
	for i, row := range want["steps"] {
		if strings.Contains(row, "id=integer 3 ") {
			want["steps"][i] = strings.Replace(row, "status=text 'completed'", "status=text 'later'", 1)
		}
	}
	slices.Sort(want["steps"])
	sameDump(t, dump(t, path), want)
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if got := names(t, db, "SELECT a || quote(b) FROM other"); !slices.Equal(got, []string{"1X'00FF'"}) {
		t.Errorf("other is %q", got)
	}
}

// TestRestoreOriginals: cells that arrived changed go back to their bytes where
// the row was not written since.
func TestRestoreOriginals(t *testing.T) {
	t.Parallel()
	file := repairedFile(t)
	url := pgtest.Database(t)
	o := options(t, file, url)
	o.Quarantine = true
	migrate(t, o)
	run(t, connect(t, url), "UPDATE flujo.steps SET status = 'later' WHERE id = 2")
	path, result := restore(t, url, "")
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for query, want := range map[string]string{
		"SELECT quote(output) || quote(created_at) FROM steps WHERE id = 1":            "'no JSON'''",
		"SELECT output FROM steps WHERE id = 2":                                        `{"a":"NaN","b":"xy"}`, // written since
		"SELECT token_counts FROM steps WHERE id = 2":                                  "5000000000",
		"SELECT quote(output) || created_at FROM steps WHERE id = 3":                   "X'FF7B7D'2025-09-01T08:00:00.783607+00:00",
		"SELECT count(*) FROM system_state WHERE key IS NULL":                          "1",
		"SELECT count(*) FROM system_state WHERE key = x'61' AND typeof(key) = 'blob'": "1",
	} {
		var got string
		if err := db.QueryRow(query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q (%v), want %q", query, got, err, want)
		}
	}
	rejected := int64(0)
	for _, row := range result.Tables {
		rejected += row.Rejected
	}
	if rejected != 2 {
		t.Errorf("%d rejected rows came back, want 2", rejected)
	}
}

// TestRestoreSaysWhatIsAbsent: a table that PostgreSQL does not have, and a base
// with other bytes, are said.
func TestRestoreSaysWhatIsAbsent(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	migrate(t, options(t, fixture, url))
	_, result := restore(t, url, changed(t, "UPDATE sqlite_sequence SET seq = seq", "VACUUM"))
	if notes := strings.Join(result.Notes, "; "); !strings.Contains(notes, "the base has other bytes") ||
		len(result.Warnings) != 0 {
		t.Errorf("notes %s, warnings %q", notes, result.Warnings)
	}
	run(t, connect(t, url), "DROP TABLE flujo.evaluations")
	for base, words := range map[string]string{"": "the new file has none", fixture: "what the base has of it is in the new file"} {
		_, result := restore(t, url, base)
		if warnings := strings.Join(result.Warnings, "; "); !strings.Contains(warnings, "no table evaluations") ||
			!strings.Contains(warnings, words) {
			t.Errorf("warnings %s", warnings)
		}
	}
}
