package verify_test

import (
	"context"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/verify"
)

// TestVerifySeveralSourceMismatch tests that a file without a receipt is refused among several, and that the report
// says neither that the schema has no receipt nor that the check of the file's integrity was skipped.
func TestVerifySeveralSourceMismatch(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, url))
	stranger := flujotest.Changed(t, "DELETE FROM system_state")
	result, err := verify.Run(context.Background(), verify.Options{
		SQLite: flujotest.Fixture, More: []string{stranger}, Postgres: url, Schema: flujotest.Schema,
	})
	if clierr.KindOf(err) != clierr.Refused || result == nil || result.Verdict != report.SourceMismatch {
		t.Fatalf("got %+v and error %v, want a refusal with a report", result, err)
	}
	text := strings.Join(flujotest.ReportLines(t, result.Document()), "\n")
	if strings.Contains(text, "none in this schema") || strings.Count(text, "integrity_check ok") != 2 ||
		len(result.Files) != 2 {
		t.Errorf("got %d files and the text:\n%s", len(result.Files), text)
	}
}

// TestVerifySeveralWriters tests that rows are counted as those of a file by any of its receipts, and that nothing is
// said of the writers in a copy of the database, where their transaction ids mean nothing.
func TestVerifySeveralWriters(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	a, b := fileWith(t, map[string]int{"x": 1, "a": 1}), fileWith(t, map[string]int{"b": 1})
	flujotest.Migrate(t, flujotest.Options(t, a, url))
	o := flujotest.Options(t, a, url)
	o.More, o.Merge = []string{b}, true
	flujotest.Migrate(t, o)
	flujotest.ExecAt(t, url, "INSERT INTO flujo.system_state VALUES ('of Flujo', '1', now())")
	run := func(path string, more ...string) *report.Verification {
		t.Helper()
		result, err := verify.Run(context.Background(), verify.Options{
			SQLite: path, More: more, Postgres: url, Schema: flujotest.Schema})
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	if w := run(a, b).Written; w == nil || w.Files != 5 || w.Since != 1 || len(w.Others) > 0 {
		t.Errorf("got %+v for both files, want 5 rows of them and 1 of Flujo", w)
	}
	if w := run(b).Written; w == nil || w.Files != 1 || w.Since != 1 || len(w.Others) != 1 || w.Others[0].Rows != 4 {
		t.Errorf("got %+v for one file, want 1 row of it, 4 of the other and 1 of Flujo", w)
	}
	flujotest.ExecAt(t, url,
		"UPDATE flujo.flujo_port_receipts SET options = jsonb_set(options, '{origin,database}', '1')")
	for _, result := range []*report.Verification{run(a, b), run(b)} {
		text := strings.Join(flujotest.ReportLines(t, result.Document()), "\n")
		if result.Written != nil || strings.Contains(text, "ritten by Flujo") ||
			!strings.Contains(strings.Join(result.Notes, "\n"), "it is unknown who wrote") {
			t.Errorf("got %+v in a copy of the database, want nothing:\n%s", result.Written, text)
		}
	}
}

// TestVerifyFirstWithoutRows tests that an empty file remains one of several, although the next one was merged into
// tables that were still empty.
func TestVerifyFirstWithoutRows(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	var files []string
	for i, values := range []map[string]int{{}, {}, {"a": 1}, {"b": 1}} {
		path := fileWith(t, values)
		if i == 1 {
			flujotest.Change(t, path, "PRAGMA user_version = 7")
		}
		o := flujotest.Options(t, path, url)
		o.Merge = i > 0
		flujotest.Migrate(t, o)
		files = append(files, path)
		result, err := verify.Run(context.Background(), verify.Options{
			SQLite: files[0], More: files[1:], Postgres: url, Schema: flujotest.Schema})
		if err != nil || result.Verdict != report.Equal || i > 0 && len(result.Files) != i+1 {
			t.Fatalf("after file %d: got %+v and error %v, want equal", i, result, err)
		}
	}
	replace := flujotest.Options(t, files[2], url)
	replace.Replace = true
	flujotest.Migrate(t, replace)
	flujotest.WantVerdict(t, files[2], url, report.Equal, 0)
}
