package migrate_test

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/sqltext"
	"flujo-port/internal/verify"
)

// severalOptions returns the options that migrate files to url.
func severalOptions(t testing.TB, url string, paths ...string) migrate.Options {
	t.Helper()
	o := flujotest.Options(t, paths[0], url)
	o.More = paths[1:]
	return o
}

// oneRun writes a file with a run and a key, and with steps that are to be rejected.
func oneRun(t testing.TB, run string, rejected ...flujotest.Cells) string {
	t.Helper()
	f := flujotest.NewFile(t, flujotest.Format06)
	f.Insert("runs", flujotest.Cells{"run_id": run})
	f.Insert("steps", flujotest.Cells{"run_id": run})
	f.Insert("system_state", flujotest.Cells{"key": run})
	for _, row := range rejected {
		f.Insert("steps", row)
	}
	return f.Close()
}

// copyWhileOpen copies a file, and the file next to it with the suffix, while statements on it are not finished.
func copyWhileOpen(t testing.TB, path, suffix string, statements ...string) string {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	copied := filepath.Join(t.TempDir(), "flujo_state.db")
	for _, s := range []string{"", suffix} {
		content, err := os.ReadFile(path + s)
		if err == nil {
			err = os.WriteFile(copied+s, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return copied
}

// badFiles holds functions that write a file that cannot be migrated.
var badFiles = map[string]func(t testing.TB) string{
	"damaged": func(t testing.TB) string {
		file := flujotest.Changed(t, `INSERT INTO steps (run_id, step_name, step_index, status, output, created_at)
			WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
			SELECT 'r', 's', i, 'completed', '{"pad":"' || hex(randomblob(600)) || '"}',
				'2026-01-05T09:00:01+00:00' FROM n`, "PRAGMA wal_checkpoint(TRUNCATE)")
		flujotest.OverwriteLeafPages(t, file)
		return file
	},
	"cut off": func(t testing.TB) string {
		file := flujotest.Copy(t, flujotest.Fixture)
		if err := os.Truncate(file, 3*4096); err != nil {
			t.Fatal(err)
		}
		return file
	},
	"not SQLite": func(t testing.TB) string {
		file := filepath.Join(t.TempDir(), "flujo_state.db")
		if err := os.WriteFile(file, []byte(strings.Repeat("no database\n", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	},
	"empty": func(t testing.TB) string {
		file := filepath.Join(t.TempDir(), "flujo_state.db")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	},
	"hot journal": func(t testing.TB) string {
		return copyWhileOpen(t, flujotest.Changed(t, "PRAGMA journal_mode = DELETE"), "-journal",
			"PRAGMA cache_size = 1", "BEGIN", "UPDATE steps SET status = 'half'", "UPDATE spans SET status = 'half'")
	},
	"-wal of another file": func(t testing.TB) string {
		file, other := oneRun(t, "other"), withWAL(t)
		flujotest.Change(t, file, "PRAGMA journal_mode = WAL")
		wal, err := os.ReadFile(other + "-wal")
		if err == nil {
			err = os.WriteFile(file+"-wal", wal, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return file
	},
	"another program's": func(t testing.TB) string {
		return flujotest.NewFile(t, map[string]string{"notes": "id S, text T"}).Close()
	},
	"a newer Flujo's": func(t testing.TB) string { // whose steps have no run_id any more
		return flujotest.Changed(t, "DROP INDEX IF EXISTS idx_steps_run_id", "ALTER TABLE steps RENAME run_id TO run",
			"PRAGMA user_version = 9")
	},
	"a newer SQLite's": func(t testing.TB) string {
		file := flujotest.Copy(t, flujotest.Fixture)
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		content[47] = 9 // the schema format number
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	},
	"missing": func(t testing.TB) string { return filepath.Join(t.TempDir(), "flujo_state.db") },
	"a folder": func(t testing.TB) string {
		return t.TempDir()
	},
	"a row that must be rejected": func(t testing.TB) string {
		return oneRun(t, "rejected", flujotest.Cells{"run_id": "rejected", "step_name": nil})
	},
}

// TestSeveralBadFile tests that one file that cannot be migrated, in any place, prevents the migration of all: the
// error is that of this file alone, names it, and nothing is written.
func TestSeveralBadFile(t *testing.T) {
	t.Parallel()
	for name, write := range badFiles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, bad := pgtest.Database(t), write(t)
			_, alone := migrate.Run(context.Background(), severalOptions(t, url, bad))
			if alone == nil {
				t.Fatal("got no error for the file alone")
			}
			before := flujotest.Catalog(t, url)
			places := []int{1 + len(name)%2}
			if pgtest.Slow {
				places = []int{0, 1, 2}
			}
			for _, place := range places {
				paths := slices.Insert([]string{oneRun(t, "a"), oneRun(t, "b")}, place, bad)
				_, err := migrate.Run(context.Background(), severalOptions(t, url, paths...))
				if err == nil || clierr.KindOf(err) != clierr.KindOf(alone) || !strings.Contains(err.Error(), bad) {
					t.Errorf("place %d: got error %v, want that of the file alone, %v", place, err, alone)
				}
				for _, good := range slices.Delete(slices.Clone(paths), place, place+1) {
					if err != nil && strings.Contains(err.Error(), good) {
						t.Errorf("place %d: the error names another file: %v", place, err)
					}
				}
			}
			flujotest.WantCatalog(t, url, before)
		})
	}
}

// TestSeveralChangedFile tests that a write to one of the files during the migration refuses all, and names it.
func TestSeveralChangedFile(t *testing.T) {
	t.Parallel()
	for place := range 3 {
		t.Run(fmt.Sprint(place), func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			paths := []string{oneRun(t, "a"), oneRun(t, "b"), oneRun(t, "c")}
			flujotest.Change(t, paths[place], "PRAGMA journal_mode = WAL") // so that readers do not hold up a writer
			o := severalOptions(t, url, paths...)
			written := false
			o.OnProgress = func(p progress.Event) {
				if p.Phase == progress.Merge && !written {
					written = true
					flujotest.Change(t, paths[place],
						"INSERT INTO system_state VALUES ('later', '1', '2026-01-05T09:00:00+00:00')")
				}
			}
			flujotest.WantError(t, o, clierr.Refused, paths[place], "changed while it was read")
			if got := flujotest.Leftovers(t, flujotest.Connect(t, url)); got != "" || !written {
				t.Errorf("got leftovers %s, want none", got)
			}
		})
	}
}

// TestSeveralSameFile tests that a file that is named twice, under one name or two, or that is a copy of another, is
// migrated once, and that the report says so.
func TestSeveralSameFile(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]func(t testing.TB, path string) string{
		"named twice": func(_ testing.TB, path string) string { return path },
		"copy":        flujotest.Copy,
		"symbolic link": func(t testing.TB, path string) string {
			link := filepath.Join(t.TempDir(), "link.db")
			if err := os.Symlink(path, link); err != nil {
				t.Fatal(err)
			}
			return link
		},
		"hard link": func(t testing.TB, path string) string {
			link := filepath.Join(t.TempDir(), "link.db")
			if err := os.Link(path, link); err != nil {
				t.Fatal(err)
			}
			return link
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, path := pgtest.Database(t), flujotest.Copy(t, flujotest.Fixture)
			again := other(t, path)
			result := flujotest.Migrate(t, severalOptions(t, url, path, oneRun(t, "a"), again, again))
			for _, i := range []int{1, 2} {
				if f := result.Further[i]; f.SameAs != path || f.Receipt != 1 || f.Merge != nil ||
					f.Source.SHA256 != result.Source.SHA256 {
					t.Errorf("got %+v, want the same as %s", f, path)
				}
			}
			if !strings.Contains(strings.Join(result.Notes, "\n"), "was not migrated again") {
				t.Errorf("got notes %q, want one about the same file", result.Notes)
			}
			conn := flujotest.Connect(t, url)
			const receipts = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM flujo.flujo_port_receipts"
			if got := flujotest.One(t, conn, receipts); got != "1 2" {
				t.Errorf("got receipts %s, want 1 2", got)
			}
			if got := flujotest.One(t, conn, "SELECT count(*) FROM flujo.runs"); got != "61" {
				t.Errorf("got %s runs, want 61", got)
			}
			verified, err := verify.Run(context.Background(), verify.Options{SQLite: path, More: []string{again},
				Postgres: url, Schema: flujotest.Schema})
			if err != nil || len(verified.Files) != 1 {
				t.Errorf("got %+v and error %v, want the file once", verified, err)
			}
		})
	}
}

// TestSeveralReplace tests that --replace archives the rows once, and that all files replace them.
func TestSeveralReplace(t *testing.T) {
	t.Parallel()
	url, old := pgtest.Database(t), oneRun(t, "old")
	flujotest.Migrate(t, severalOptions(t, url, old))
	o := severalOptions(t, url, oneRun(t, "a"), oneRun(t, "b"), oneRun(t, "c"))
	flujotest.WantError(t, o, clierr.Refused, "already holds rows")
	o.Replace = true
	result := flujotest.Migrate(t, o)
	conn := flujotest.Connect(t, url)
	const runs = "SELECT string_agg(run_id, ' ' ORDER BY run_id) FROM %s.runs"
	if got := flujotest.One(t, conn, fmt.Sprintf(runs, "flujo")); got != "a b c" {
		t.Errorf("got runs %s, want a b c", got)
	}
	if got := flujotest.One(t, conn, fmt.Sprintf(runs, sqltext.Ident(result.Replaced.ArchiveSchema))); got != "old" {
		t.Errorf("got archived runs %s, want old", got)
	}
	verified, err := verify.Run(context.Background(), verify.Options{SQLite: o.SQLite, More: o.More, Postgres: url,
		Schema: flujotest.Schema})
	if err != nil || verified.Written.Since != 0 || len(verified.Written.Others) > 0 || verified.Written.Files != 9 {
		t.Errorf("got %+v and error %v, want 9 rows of the files", verified, err)
	}
	_, err = verify.Run(context.Background(), verify.Options{SQLite: old, Postgres: url, Schema: flujotest.Schema})
	if clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), result.Replaced.ArchiveSchema) {
		t.Errorf("got error %v, want a refusal that names the archive schema", err)
	}
}

// TestSeveralQuarantine tests that rejected rows of several files with the same ids are stored with the receipts of
// their files, and that only --quarantine permits them.
func TestSeveralQuarantine(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	rejected := flujotest.Cells{"run_id": "a", "id": int64(7), "step_name": nil}
	paths := []string{oneRun(t, "a", rejected), oneRun(t, "b"), oneRun(t, "a2", rejected)}
	o := severalOptions(t, url, paths...)
	flujotest.WantError(t, o, clierr.Refused, paths[0])
	o.Quarantine = true
	result := flujotest.Migrate(t, o)
	conn := flujotest.Connect(t, url)
	if got := flujotest.One(t, conn, `SELECT string_agg(DISTINCT format('%s:%s:%s', receipt, row_key, reason), ' ')
		FROM flujo.flujo_port_originals WHERE column_name <> ''`); got != "1:7:missing-value 3:7:missing-value" {
		t.Errorf("got originals %s, want those of receipts 1 and 3", got)
	}
	var rejections int64
	for _, part := range append([]report.FileResult{result.FileResult}, result.Further[0].FileResult,
		result.Further[1].FileResult) {
		for _, table := range part.Tables {
			rejections += table.Rejected
		}
	}
	if rejections != 2 {
		t.Errorf("got %d rejected rows in the report, want 2", rejections)
	}
	for _, path := range paths {
		if verified, _, err := flujotest.Verify(t, path, url); err != nil || path != paths[1] &&
			!verified.Files[0].Originals.Match {
			t.Errorf("got %+v and error %v, want the originals of the file", verified, err)
		}
	}
}

// TestSeveralLaterTables tests files of which only a later one has rows of some tables, or has allocated ids beyond
// int4: what each migrated is known afterwards.
func TestSeveralLaterTables(t *testing.T) {
	t.Parallel()
	for name, statement := range map[string]string{
		"later tables":  "DELETE FROM sqlite_sequence WHERE name = 'none'",
		"allocated ids": "UPDATE sqlite_sequence SET seq = 3000000000 WHERE name = 'steps'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := flujotest.NewFile(t, flujotest.Format06)
			first.Exec("DROP TABLE spans")
			first.Exec("DROP TABLE evaluations")
			first.Exec("DROP TABLE system_state")
			first.Insert("runs", flujotest.Cells{"run_id": "first"})
			first.Insert("steps", flujotest.Cells{"run_id": "first"})
			second := flujotest.Copy(t, flujotest.Fixture)
			flujotest.Change(t, second, statement)
			url := pgtest.Database(t)
			o := severalOptions(t, url, first.Close(), second, oneRun(t, "third"))
			flujotest.Migrate(t, o)
			verified, err := verify.Run(context.Background(), verify.Options{SQLite: o.SQLite, More: o.More,
				Postgres: url, Schema: flujotest.Schema})
			if err != nil || verified.Written.Since != 0 || len(verified.Written.Others) > 0 {
				t.Fatalf("got %+v and error %v, want only rows of the files", verified, err)
			}
			for _, f := range verified.Files {
				if f.Verdict != report.Equal && f.Verdict != report.Merged {
					t.Errorf("%s: got verdict %s", f.Source.Path, f.Verdict)
				}
			}
		})
	}
}

// TestSeveralLocks tests that the number of locks that the server holds for a migration does not grow with the number
// of files, whether they share runs, have converted values, or make columns bigint, so that it can take any number.
func TestSeveralLocks(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]flujotest.Cells{
		"alone":     {"status": "ok"},
		"converted": {"status": "x\x00y"},
		"shared":    {"run_id": "shared"},
		"bigint":    {"run_id": "shared", "token_counts": int64(1 << 40)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			locks := func(files int) (n string) {
				t.Helper()
				url := pgtest.Database(t)
				conn := flujotest.Connect(t, url)
				var paths []string
				for i := range files {
					f := flujotest.NewFile(t, flujotest.Format06)
					run := fmt.Sprint("run ", i)
					f.Insert("runs", flujotest.Cells{"run_id": run})
					if row["run_id"] == "shared" {
						f.Insert("runs", flujotest.Cells{"run_id": "shared", "error_message": run})
					}
					step := flujotest.Cells{"run_id": run}
					if i > 0 {
						maps.Copy(step, row)
					}
					f.Insert("steps", step)
					paths = append(paths, f.Close())
				}
				o := severalOptions(t, url, paths...)
				o.OnProgress = func(p progress.Event) {
					if p.Phase == progress.Commit && n == "" {
						n = flujotest.One(t, conn, "SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid() "+
							"AND locktype = 'relation' AND database = (SELECT oid FROM pg_database "+
							"WHERE datname = current_database())")
					}
				}
				flujotest.Migrate(t, o)
				return n
			}
			if few, many := locks(3), locks(6); few != many || few == "" {
				t.Errorf("got %s locks with 3 files and %s with 6, want as many", few, many)
			}
		})
	}
}
