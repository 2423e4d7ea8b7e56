package restore_test

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

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
	"flujo-port/internal/restore"
)

// roundTripFiles returns the paths of files that Flujo wrote, except for the one with memories, which needs pgvector,
// and of files that the tests write.
func roundTripFiles(t testing.TB) map[string]string {
	t.Helper()
	return map[string]string{
		"0.6.11":        flujotest.Fixture,
		"0.4.35":        "../../testdata/flujo_0.4.35.db",
		"0.4.35 opened": "../../testdata/flujo_0.4.35_opened_by_0.6.11.db",
		"repaired": flujotest.RepairedFile(
			t,
		),
		"every column":  flujotest.FullFile(t),
		"seven columns": sevenColumns(t),
	}
}

// sevenColumns writes a file whose runs have only their first seven columns, and returns its path.
func sevenColumns(t testing.TB) string {
	t.Helper()
	f := flujotest.NewFile(t, map[string]string{
		"runs": "run_id K, pipeline_id T, pipeline_name T, pipeline_version T, status T, created_at T, " +
			"updated_at T",
	})
	f.Insert("runs", flujotest.Cells{"run_id": "r"})
	return f.Close()
}

// TestRestoreWithBase tests that migrating a file and restoring it with the file as base yields the same cells, in
// every file format.
func TestRestoreWithBase(t *testing.T) {
	t.Parallel()
	for name, file := range roundTripFiles(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			o := flujotest.Options(t, file, url)
			o.Quarantine = true
			flujotest.Migrate(t, o)
			path, result := flujotest.Restore(t, url, file)
			flujotest.WantSameDump(t, flujotest.Dump(t, path), flujotest.Dump(t, file))
			if !result.Receipt.SameBytes {
				t.Errorf("got receipt %+v, want the same bytes", result.Receipt)
			}
			for _, row := range result.Tables {
				if !row.Match || row.Written != 0 || row.Removed != 0 || row.FileDigest == "" ||
					row.FileDigest != row.Digest {
					t.Errorf("got %+v, want a match, no change and equal digests", row)
				}
			}
		})
	}
}

// TestRestoreRounded tests that restore says which values a new file has as the migration rounded them. With the base
// it has those of the file, and with --exact-floats none was rounded.
func TestRestoreRounded(t *testing.T) {
	t.Parallel()
	for _, exact := range []bool{false, true} {
		url := pgtest.Database(t)
		o := flujotest.Options(t, flujotest.Fixture, url)
		o.ExactFloats = exact
		flujotest.Migrate(t, o)
		for _, options := range []restore.Options{
			{}, {FromReceipt: 1}, {Base: flujotest.Fixture}, {Base: flujotest.Fixture, Merge: true},
		} {
			options.SQLite, options.Postgres = filepath.Join(t.TempDir(), "new.db"), url
			options.Schema = flujotest.Schema
			result, err := restore.Run(context.Background(), options)
			if err != nil {
				t.Fatal(err)
			}
			costs := "SELECT id || ' ' || printf('%.17g', cost_usd) AS c FROM steps ORDER BY id"
			same := slices.Equal(queryFile(t, options.SQLite, costs), queryFile(t, flujotest.Fixture, costs))
			notes := strings.Join(result.Notes, "\n")
			noted := strings.Contains(notes, "rounded to real as PostgreSQL has them: runs.memory_usage_mb (56), "+
				"steps.cost_usd (121), workflow_state.memory_usage_mb (60); with")
			mentioned := strings.Contains(notes, "rounded")
			if want := !exact && options.Base == ""; noted != want || mentioned != want || same == want {
				t.Errorf("exact %t, %+v: same costs %t, notes %q", exact, options, same, result.Notes)
			}
		}
	}
}

// TestRestoreFixedPoint tests that migrating and restoring a restored file yields the same file and the same rows in
// PostgreSQL.
func TestRestoreFixedPoint(t *testing.T) {
	t.Parallel()
	for name, file := range roundTripFiles(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := pgtest.Database(t), pgtest.Database(t)
			o := flujotest.Options(t, file, first)
			o.Quarantine = true
			flujotest.Migrate(t, o)
			path, _ := flujotest.Restore(t, first, "")
			o = flujotest.Options(t, path, second)
			o.Quarantine = true
			flujotest.Migrate(t, o)
			again, _ := flujotest.Restore(t, second, "")
			flujotest.WantSameDump(t, flujotest.Dump(t, again), flujotest.Dump(t, path))
			for _, table := range slices.Sorted(maps.Keys(flujotest.Tables)) {
				if table == "flujo_schema_versions" {
					continue
				}
				query := fmt.Sprintf("SELECT coalesce(string_agg(r::text, E'\\n' ORDER BY r::text), '') "+
					"FROM flujo.%s r", table)
				if a, b := flujotest.One(
					t,
					flujotest.Connect(t, first),
					query,
				), flujotest.One(
					t,
					flujotest.Connect(t, second),
					query,
				); a != b {
					t.Errorf("%s differs in PostgreSQL after the second migration", table)
				}
			}
		})
	}
}

// TestRestoreFormat tests that a restored file has the format of a file that Flujo writes, and each kind of value its
// form.
func TestRestoreFormat(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	path, result := flujotest.Restore(t, url, "")
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const output = `{"query":"(\"MED13\"[Gene]) AND \"autism spectrum disorder\"[tiab]",` +
		`"terms":["MED13","autism spectrum disorder"],` +
		`"nested":{"note":"line1\nline2\t\"quoted\" \\ backslash","depth":0,"flags":[true,false,null]},` +
		`"confidence":0.8211}`
	for _, c := range []struct{ query, want string }{
		{"SELECT output FROM steps WHERE id = 1", output},
		{"SELECT count(*) FROM steps WHERE output = 'null' AND typeof(output) = 'text'", "32"},
		{"SELECT count(*) FROM steps WHERE output IS NULL", "0"},
		{"SELECT created_at FROM steps WHERE id = 1", "2026-01-05T09:00:01.669094+00:00"},
		{"SELECT created_at FROM spans WHERE id = 1", "2026-11-23T02:18:25+00:00"},
		{"SELECT group_concat(DISTINCT typeof(is_background_task)) FROM workflow_state", "integer"},
		{"SELECT quote(cost_usd) FROM steps WHERE id = 2", "0.0008088655"},
		{"SELECT group_concat(name || seq) FROM (SELECT * FROM sqlite_sequence ORDER BY name)",
			"evaluations15,spans261,steps213"},
		{"PRAGMA user_version", "1"},
		{"PRAGMA integrity_check", "ok"},
		{"SELECT count(*) FROM pragma_foreign_key_check", "0"},
		{"SELECT count(*) FROM traces", "0"},
		{"SELECT count(*) FROM sqlite_master WHERE name = 'memories'", "0"},
		{"SELECT group_concat(name) FROM pragma_table_info('runs') WHERE cid > 10",
			"end_time,total_cost,final_context_blob"},
		{`SELECT count(*) FROM pragma_foreign_key_list('steps') WHERE "table" = 'runs' AND on_delete = 'CASCADE'`, "1"},
	} {
		var got string
		if err := db.QueryRow(c.query).Scan(&got); err != nil || got != c.want {
			t.Errorf("%s: got %s (%v), want %s", c.query, got, err, c.want)
		}
	}
	theirs, err := sql.Open("sqlite", "file:"+flujotest.Fixture+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	for _, query := range []string{
		"SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY name",
		`SELECT m.name || '.' || c.name || ' ' || c.type || ' ' || c."notnull" || ' ' || coalesce(c.dflt_value, '')
			|| ' ' || c.pk FROM sqlite_master m, pragma_table_info(m.name) c
			WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' ORDER BY 1`,
		`SELECT m.name || ' ' || i.name || ' ' || c.name FROM sqlite_master m, pragma_index_list(m.name) i, ` +
			`pragma_index_info(i.name) c WHERE m.type = 'table' ORDER BY 1`,
		`SELECT m.name || ' ' || f."from" || ' ' || f."table" || ' ' || f."to" || ' ' || f.on_delete ` +
			`FROM sqlite_master m, pragma_foreign_key_list(m.name) f ORDER BY 1`,
	} {
		if got, want := flujotest.QueryColumn(
			t,
			db,
			query,
		), flujotest.QueryColumn(
			t,
			theirs,
			query,
		); !slices.Equal(
			got,
			want,
		) {
			t.Errorf("got format\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	header, err := os.ReadFile(path)
	if err != nil || header[18] != 2 || header[19] != 2 {
		t.Errorf("got header bytes %v (%v), want WAL mode", header[18:20], err)
	}
	if sum := strings.Fields(flujotest.Command(t, "sha256sum", path))[0]; sum != result.File.SHA256 {
		t.Errorf("got SHA-256 %s, want %s", result.File.SHA256, sum)
	}
}

// TestRestoreAfterWrites tests that a restored file has all rows of PostgreSQL after writes to it and, with a base,
// that unchanged rows have the cells of the base.
func TestRestoreAfterWrites(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", "file:"+flujotest.Fixture+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	runs := flujotest.QueryColumn(t, db, "SELECT run_id FROM runs ORDER BY run_id")
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	conn := flujotest.Connect(t, url)
	flujotest.Exec(t, conn, flujotest.Writes(runs[0], runs[1])...)
	before := flujotest.Dump(t, flujotest.Fixture)
	for name, base := range map[string]string{"without base": "", "with base": flujotest.Fixture} {
		t.Run(name, func(t *testing.T) {
			path, result := flujotest.Restore(t, url, base)
			got := flujotest.Dump(t, path)
			// Migrating the file again yields the same rows, except for JSON null and NULL, which Flujo does not
			// distinguish.
			second := pgtest.Database(t)
			flujotest.Migrate(t, flujotest.Options(t, path, second))
			flujotest.Exec(
				t,
				flujotest.Connect(t, second),
				"UPDATE flujo.workflow_state SET last_step_output = 'null' WHERE run_id = 'new'",
			)
			flujotest.Exec(t, flujotest.Connect(t, second),
				"UPDATE flujo.steps SET output = 'null' WHERE id = (SELECT min(id) FROM flujo.steps WHERE run_id = '"+
					runs[0]+"')")
			for _, table := range slices.Sorted(maps.Keys(flujotest.Tables)) {
				query := fmt.Sprintf("SELECT coalesce(string_agg(r::text, E'\\n' ORDER BY r::text), '') "+
					"FROM flujo.%s r", table)
				a, b := flujotest.One(t, conn, query), flujotest.One(t, flujotest.Connect(t, second), query)
				if table != "flujo_schema_versions" && a != b {
					t.Errorf("%s: got\n%.2000s\nwant\n%.2000s", table, b, a)
				}
			}
			seq := strings.Join(got["sqlite_sequence"], "; ")
			if !strings.Contains(seq, "'evaluations' seq=integer 17") ||
				!strings.Contains(seq, "'steps' seq=integer 215") {
				t.Errorf("got sqlite_sequence %s, want evaluations 17 and steps 215", seq)
			}
			originals := 0
			for _, row := range got["workflow_state"] {
				if slices.Contains(before["workflow_state"], row) {
					originals++
				}
			}
			if base != "" && originals != 58 {
				t.Errorf("got %d unchanged rows of workflow_state, want 58", originals)
			}
			for _, row := range result.Tables {
				if row.Name == "traces" && (row.Written != 1 || row.Derived != 59) {
					t.Errorf("got %+v, want 1 written and 59 derived", row)
				}
				if base != "" && row.Name == "workflow_state" &&
					(row.FromBase != 58 || row.Written != 2 || row.Removed != 1) {
					t.Errorf("got %+v, want 58 from the base, 2 written and 1 removed", row)
				}
			}
		})
	}
}

// TestRestoreRefuses tests that restore refuses invalid options and data, and leaves no temporary file.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	filled := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, filled))
	for _, tc := range []struct {
		name  string
		o     func(t *testing.T, o *restore.Options)
		kind  clierr.Kind
		words []string
	}{
		{"a target that exists", func(t *testing.T, o *restore.Options) { touch(t, o.SQLite) }, clierr.Refused,
			[]string{"already exists", "restore does not overwrite files"}},
		{"a -wal of the target", func(t *testing.T, o *restore.Options) { touch(t, o.SQLite+"-wal") },
			clierr.Refused, []string{"-wal\" already exists"}},
		{"a dangling link", func(t *testing.T, o *restore.Options) {
			if err := os.Symlink("nowhere", o.SQLite); err != nil {
				t.Fatal(err)
			}
		}, clierr.Refused, []string{"already exists"}},
		{"a missing folder", func(t *testing.T, o *restore.Options) { o.SQLite += "/nowhere/new.db" },
			clierr.Usage, []string{"folder"}},
		{"no schema", func(t *testing.T, o *restore.Options) { o.Schema = "elsewhere" }, clierr.Refused,
			[]string{"none of Flujo's tables"}},
		{"another schema", func(t *testing.T, o *restore.Options) {
			o.Postgres = pgtest.Database(t)
			flujotest.ExecAt(t, o.Postgres, "CREATE SCHEMA flujo", "CREATE TABLE flujo.runs (run_id int)")
		}, clierr.Refused, []string{"differ from Flujo"}},
		{"an unknown column", func(t *testing.T, o *restore.Options) {
			o.Postgres = pgtest.Database(t)
			flujotest.Initialize(t, o.Postgres, "")
			flujotest.ExecAt(t, o.Postgres, "ALTER TABLE flujo.steps ADD COLUMN later text")
		}, clierr.Refused, []string{"steps.later", "would be lost"}},
		{"NaN in a column that is NOT NULL", func(t *testing.T, o *restore.Options) {
			o.Postgres = pgtest.Database(t)
			flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, o.Postgres))
			flujotest.ExecAt(t, o.Postgres, "UPDATE flujo.evaluations SET score = 'NaN' WHERE id = 3")
		}, clierr.Refused, []string{`evaluations "3", column score: NaN`}},
		{"a timestamp that Python cannot parse", func(t *testing.T, o *restore.Options) {
			o.Postgres = pgtest.Database(t)
			flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, o.Postgres))
			flujotest.ExecAt(t, o.Postgres, "UPDATE flujo.steps SET created_at = 'infinity' WHERE id = 3")
		}, clierr.Refused, []string{`steps "3", column created_at`, "years 1 to 9999"}},
		{"a base that is another file", func(t *testing.T, o *restore.Options) {
			o.Base = flujotest.Changed(t, "DELETE FROM evaluations WHERE id = 3")
		}, clierr.Refused, []string{"not the file that was migrated", "evaluations", "advice not-migrated-base"}},
		{"a base with a value that is converted to that of the file", func(t *testing.T, o *restore.Options) {
			o.Base = flujotest.Changed(t, "UPDATE runs SET status = status || char(0) WHERE rowid = 1")
		}, clierr.Refused, []string{"not the file that was migrated", "with loss, or", "advice not-migrated-base"}},
		{"a base without a receipt", func(t *testing.T, o *restore.Options) {
			o.Postgres, o.Base = pgtest.Database(t), flujotest.Fixture
			flujotest.Initialize(t, o.Postgres, "")
		}, clierr.Refused, []string{"no receipt", "advice no-base"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			o := restore.Options{
				SQLite:   filepath.Join(t.TempDir(), "new.db"),
				Postgres: filled,
				Schema:   flujotest.Schema,
			}
			tc.o(t, &o)
			_, err := restore.Run(context.Background(), o)
			if clierr.KindOf(err) != tc.kind || err == nil {
				t.Fatalf("got error %v, want kind %d", err, tc.kind)
			}
			for _, w := range tc.words {
				if !strings.Contains(flujotest.ErrorText(err), w) {
					t.Errorf("the error does not say %q: %s", w, flujotest.ErrorText(err))
				}
			}
			wantNoTemporaryFile(t, filepath.Dir(o.SQLite))
		})
	}
}

// touch creates a file that is not a state file.
func touch(t testing.TB, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// wantNoTemporaryFile tests that a folder has no temporary file of restore.
func wantNoTemporaryFile(t testing.TB, folder string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(folder, ".*flujo-port*"))
	if err != nil || len(left) > 0 {
		t.Errorf("got temporary files %v (%v), want none", left, err)
	}
}

// TestRestoreDryRun tests that a dry run reports the file and leaves nothing.
func TestRestoreDryRun(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	path := filepath.Join(t.TempDir(), "new.db")
	result, err := restore.Run(context.Background(),
		restore.Options{SQLite: path, Postgres: url, Schema: flujotest.Schema, DryRun: true})
	if err != nil || result.Done || !result.DryRun || result.File.SHA256 == "" {
		t.Fatalf("got %+v and error %v, want a dry run with a SHA-256", result, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v for the file, want that it does not exist", err)
	}
	wantNoTemporaryFile(t, filepath.Dir(path))
}

// TestRestoreInterrupted tests that an interrupt in any phase leaves nothing behind.
func TestRestoreInterrupted(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	for _, phase := range []progress.Phase{progress.Connect, progress.Read, progress.Indexes,
		progress.Verify} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			path := filepath.Join(t.TempDir(), "new.db")
			_, err := restore.Run(ctx, restore.Options{
				SQLite:   path,
				Postgres: url,
				Schema:   flujotest.Schema,
				OnProgress: func(p progress.Event) {
					if p.Phase == phase {
						cancel()
					}
				},
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got error %v, want an interruption", err)
			}
			if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) > 0 {
				t.Errorf("the restore left %v", entries)
			}
		})
	}
}

// TestRestoreDiskFull tests that a full disk is reported, and that the failed restore leaves nothing behind.
func TestRestoreDiskFull(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs to mount a file system")
	}
	folder := t.TempDir()
	if out, err := mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", folder); err != nil {
		t.Skipf("cannot mount a file system: %s", out)
	}
	t.Cleanup(func() { unmount(folder) })
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	for _, base := range []string{"", flujotest.Fixture} {
		_, err := restore.Run(
			context.Background(),
			restore.Options{
				SQLite:   filepath.Join(folder, "new.db"),
				Base:     base,
				Postgres: url,
				Schema:   flujotest.Schema,
			},
		)
		if clierr.KindOf(err) != clierr.Failed ||
			!strings.Contains(err.Error(), "full") && !strings.Contains(err.Error(), "no space left") {
			t.Errorf("got error %v, want a full disk", err)
		}
		if entries, _ := os.ReadDir(folder); len(entries) > 0 {
			t.Errorf("the restore left %v", entries)
		}
	}
}

// TestRestoreOtherTables tests that restore with a base keeps its other tables and columns.
func TestRestoreOtherTables(t *testing.T) {
	t.Parallel()
	file := flujotest.Changed(t,
		"CREATE TABLE other (a, b)",
		"INSERT INTO other VALUES (1, x'00ff')",
		"UPDATE runs SET final_context_blob = '{}'")
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, file, url))
	flujotest.Exec(t, flujotest.Connect(t, url), "UPDATE flujo.steps SET status = 'later' WHERE id = 3")
	path, _ := flujotest.Restore(t, url, file)
	want := flujotest.Dump(t, file)
	for i, row := range want["steps"] {
		if strings.Contains(row, "id=integer 3 ") {
			want["steps"][i] = strings.Replace(row, "status=text 'completed'", "status=text 'later'", 1)
		}
	}
	slices.Sort(want["steps"])
	flujotest.WantSameDump(t, flujotest.Dump(t, path), want)
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if got := flujotest.QueryColumn(
		t,
		db,
		"SELECT a || quote(b) FROM other",
	); !slices.Equal(
		got,
		[]string{"1X'00FF'"},
	) {
		t.Errorf("got other %q, want 1X'00FF'", got)
	}
}

// TestRestoreOriginals tests that changed cells are restored to their original values if their row was not written in
// PostgreSQL, and that rejected rows are restored.
func TestRestoreOriginals(t *testing.T) {
	t.Parallel()
	file := flujotest.RepairedFile(t)
	url := pgtest.Database(t)
	o := flujotest.Options(t, file, url)
	o.Quarantine = true
	flujotest.Migrate(t, o)
	flujotest.Exec(t, flujotest.Connect(t, url), "UPDATE flujo.steps SET status = 'later' WHERE id = 2")
	path, result := flujotest.Restore(t, url, "")
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, c := range []struct{ query, want string }{
		{"SELECT quote(output) || quote(created_at) FROM steps WHERE id = 1", "'no JSON'''"},
		{"SELECT output FROM steps WHERE id = 2", `{"a":"NaN","b":"xy"}`}, // written in PostgreSQL
		{"SELECT token_counts FROM steps WHERE id = 2", "5000000000"},
		{"SELECT quote(output) || created_at FROM steps WHERE id = 3", "X'FF7B7D'2025-09-01T08:00:00.783607+00:00"},
		{"SELECT count(*) FROM system_state WHERE key IS NULL", "1"},
		{"SELECT count(*) FROM system_state WHERE key = x'61' AND typeof(key) = 'blob'", "1"},
	} {
		var got string
		if err := db.QueryRow(c.query).Scan(&got); err != nil || got != c.want {
			t.Errorf("%s: got %q (%v), want %q", c.query, got, err, c.want)
		}
	}
	rejected := int64(0)
	for _, row := range result.Tables {
		rejected += row.Rejected
	}
	if rejected != 2 {
		t.Errorf("got %d rejected rows restored, want 2", rejected)
	}
}

// TestRestoreWarnings tests the warning about a table that PostgreSQL does not have, and the note on a base with other
// bytes.
func TestRestoreWarnings(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	_, result := flujotest.Restore(t, url, flujotest.Changed(t, "UPDATE sqlite_sequence SET seq = seq", "VACUUM"))
	if notes := strings.Join(result.Notes, "; "); !strings.Contains(notes, "the base's checksum differs") ||
		len(result.Warnings) != 0 {
		t.Errorf("got notes %s and warnings %q, want a note on the base", notes, result.Warnings)
	}
	flujotest.Exec(t, flujotest.Connect(t, url), "DROP TABLE flujo.evaluations")
	for base, words := range map[string]string{
		"":                "the new file has none",
		flujotest.Fixture: "the new file contains the rows of the base",
	} {
		_, result := flujotest.Restore(t, url, base)
		if warnings := strings.Join(result.Warnings, "; "); !strings.Contains(warnings, "no table evaluations") ||
			!strings.Contains(warnings, words) {
			t.Errorf("got warnings %s, want %q", warnings, words)
		}
	}
}

// TestInterruptWhileFileIsNamed tests that an interrupt at the moment in which the file gets its name does not hide
// that it is there.
func TestInterruptWhileFileIsNamed(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	for _, o := range []restore.Options{{}, {Base: flujotest.Fixture}, {Base: flujotest.Fixture, Merge: true}} {
		ctx, cancel := context.WithCancel(context.Background())
		o.SQLite, o.Postgres, o.Schema = filepath.Join(t.TempDir(), "new.db"), url, flujotest.Schema
		o.OnProgress = func(e progress.Event) {
			if e.Phase == progress.Rename {
				cancel()
			}
		}
		result, err := restore.Run(ctx, o)
		if err != nil || !result.Done || ctx.Err() == nil {
			t.Errorf("%+v: got error %v, and the interrupt %v", o, err, ctx.Err())
		}
		if _, err := os.Stat(o.SQLite); err != nil {
			t.Error(err)
		}
		cancel()
	}
}
