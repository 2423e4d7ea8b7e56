package check_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"testing"

	"flujo-port/internal/check"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
)

// sumOf returns the SHA-256 of a file, as sha256sum prints it.
func sumOf(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(content))
}

// TestCheckSHA256 tests that the report identifies the file that was checked and its -wal, with a server and without.
func TestCheckSHA256(t *testing.T) {
	t.Parallel()
	withWAL := flujotest.Copy(t, flujotest.Fixture)
	flujotest.KeepOpen(t, withWAL, "DELETE FROM evaluations", func() {
		for _, end := range []string{"", "-wal"} { // a copy that no process has open
			text, err := os.ReadFile(withWAL + end)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(withWAL+".copy"+end, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	for name, tc := range map[string]struct {
		file, wal string
		o         check.Options
	}{
		"without a server": {flujotest.Fixture, "", checkOptions(t, flujotest.Fixture, "")},
		"with a server":    {flujotest.Fixture, "", checkOptions(t, flujotest.Fixture, pgtest.Database(t))},
		"-wal": {withWAL + ".copy", sumOf(t, withWAL+".copy-wal"),
			checkOptions(t, withWAL+".copy", "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, skip := range []bool{false, true} {
				tc.o.SkipIntegrity = skip
				s := checked(t, tc.o).Source
				if s.SHA256 != sumOf(t, tc.file) || s.WALSHA256 != tc.wal || (s.Integrity == "") != skip ||
					s.IntegrityFailed {
					t.Errorf("skip integrity %t: got %+v", skip, s)
				}
			}
		})
	}
}

// TestCheckSHA256OfEach tests that the report identifies each of several files, of those that are not read too.
func TestCheckSHA256OfEach(t *testing.T) {
	t.Parallel()
	files := []string{
		flujotest.Copy(t, flujotest.Fixture), flujotest.Copy(t, flujotest.Fixture),
		flujotest.Changed(t, "DELETE FROM evaluations"),
	}
	result := checked(t, severalOptions(t, "", files...))
	for i, f := range result.Files {
		if f.Source.SHA256 != sumOf(t, files[i]) || f.Source.Integrity == "" {
			t.Errorf("%s: got %+v", files[i], f.Source)
		}
		wantInFile(t, result, files[i], "concurrent writes", report.OK)
	}
	if result.Files[1].SameAs != files[0] {
		t.Errorf("got %+v, want the same content", result.Files[1])
	}
}

// TestCheckSHA256OfDamaged tests that a damaged file is identified, and not said to have passed the check.
func TestCheckSHA256OfDamaged(t *testing.T) {
	t.Parallel()
	damaged := flujotest.Changed(t, `INSERT INTO system_state
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
		SELECT 'k' || i, '"' || hex(randomblob(600)) || '"', '2026-01-05T09:00:01+00:00' FROM n`,
		"PRAGMA wal_checkpoint(TRUNCATE)")
	flujotest.OverwriteLeafPages(t, damaged)
	result, err := check.Run(context.Background(), checkOptions(t, damaged, ""))
	if err == nil || result == nil {
		t.Fatalf("got %v, want a report and an error", err)
	}
	if s := result.Source; s.SHA256 != sumOf(t, damaged) || s.Integrity != "" || !s.IntegrityFailed {
		t.Errorf("got %+v", s)
	}
}

// TestCheckSHA256OfWritten tests that a file has no SHA-256 if it was written to while it was checked, in any phase.
func TestCheckSHA256OfWritten(t *testing.T) {
	t.Parallel()
	appendTo := func(path string) error { // every commit in WAL mode writes to the -wal
		return os.WriteFile(path+"-wal", []byte("a frame"), 0o600)
	}
	for name, tc := range map[string]struct {
		write func(path string) error
		at    func(progress.Event) bool
		file  int // which is written
	}{
		"while rows are read": {appendTo,
			func(p progress.Event) bool { return p.Phase == progress.Read && p.Table == "steps" }, 0},
		"after the rows": {appendTo, func(p progress.Event) bool { return p.Phase == progress.Integrity }, 0},
		"before conflicts are looked for": {appendTo,
			func(p progress.Event) bool { return p.Phase == progress.Compare }, 0},
		"replaced": {func(path string) error { return os.Rename(path+".other", path) },
			func(p progress.Event) bool { return p.Phase == progress.Compare }, 0},
		"the copy that is not read": {appendTo, func(p progress.Event) bool { return p.Phase == progress.Read }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := flujotest.Copy(t, flujotest.Fixture)
			files := []string{first, flujotest.Copy(t, first), flujotest.Changed(t, "DELETE FROM evaluations")}
			if err := os.Rename(flujotest.Copy(t, first), files[tc.file]+".other"); err != nil {
				t.Fatal(err)
			}
			o := severalOptions(t, "", files...)
			o.OnProgress = func(p progress.Event) {
				if !tc.at(p) {
					return
				}
				if err := tc.write(files[tc.file]); err != nil && !os.IsNotExist(err) {
					t.Error(err)
				}
			}
			result := checked(t, o)
			for i, f := range result.Files {
				if written := i == tc.file; (f.Source.SHA256 == "") != written {
					t.Errorf("%s, written %t: got %+v", f.Path, written, f.Source)
				}
			}
			wantInFile(t, result, files[tc.file], "concurrent writes", report.Warning, "SHA-256 is not known")
		})
	}
}
