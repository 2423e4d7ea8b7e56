// Package flujotest holds what the tests of several packages share: state files,
// readings of a database that do not use the code under test, and operations
// that must succeed. It is for development only: the program never imports it.
package flujotest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/initialize"
	"flujo-port/internal/migrate"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/restore"
	"flujo-port/internal/stateuri"
	"flujo-port/internal/verify"

	_ "modernc.org/sqlite"
)

const (
	// Fixture is a file that Flujo 0.6 wrote. The path is relative to the folder of a package in internal.
	Fixture = "../../testdata/flujo_state.db"
	// Schema is the schema of the options in this package.
	Schema = "flujo"
)

// Options returns the options that migrate file to url, without pgvector, since the server of the tests may not
// have it.
func Options(t testing.TB, file, url string) migrate.Options {
	t.Helper()
	return migrate.Options{
		SQLite: file, Postgres: url, Schema: Schema, Cutover: Cutover(t, url), WithoutPGVector: true,
	}
}

// Cutover returns the address that Flujo uses after the cutover to url.
func Cutover(t testing.TB, url string) stateuri.Address {
	t.Helper()
	return CutoverFor(t, url, Schema)
}

// CutoverFor is Cutover with a schema.
func CutoverFor(t testing.TB, url, schema string) stateuri.Address {
	t.Helper()
	config, err := postgres.Config(url)
	if err != nil {
		t.Fatal(err)
	}
	known := stateuri.Known{Host: config.Host, Port: config.Port, User: config.User, Database: config.Database}
	address, _, err := stateuri.Cutover(url, known, schema)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// Migrate runs a migration that must succeed.
func Migrate(t testing.TB, o migrate.Options) *report.Migration {
	t.Helper()
	result, err := migrate.Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// WantError runs a migration that must fail, and tests the kind and the words of its error.
func WantError(t testing.TB, o migrate.Options, kind clierr.Kind, words ...string) {
	t.Helper()
	_, err := migrate.Run(context.Background(), o)
	if err == nil {
		t.Fatal("got no error")
	}
	if got := clierr.KindOf(err); got != kind {
		t.Errorf("got kind %d, want %d: %v", got, kind, err)
	}
	for _, w := range words {
		if !strings.Contains(ErrorText(err), w) {
			t.Errorf("the error does not say %q: %s", w, ErrorText(err))
		}
	}
}

// ErrorText returns the text of an error, followed by the topic of its advice.
func ErrorText(err error) string {
	text := err.Error()
	if e, ok := errors.AsType[*clierr.Error](err); ok && e.Advice.Topic != clierr.NoAdvice {
		text += strings.TrimSuffix(fmt.Sprintf("; advice %s %s", e.Advice.Topic, e.Advice.Arg), " ")
	}
	return text
}

// Initialize creates Flujo's empty tables. It grants their use, without owning them, to the role grantTo,
// unless that is empty.
func Initialize(t testing.TB, url, grantTo string) {
	t.Helper()
	o := initialize.Options{Postgres: url, Schema: Schema, WithoutPGVector: true, GrantTo: grantTo}
	if _, err := initialize.Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
}

// InitializeFor creates Flujo's empty tables with the role owner as their owner.
func InitializeFor(t testing.TB, url, owner string) {
	t.Helper()
	o := initialize.Options{Postgres: url, Schema: Schema, WithoutPGVector: true, Owner: owner}
	if _, err := initialize.Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
}

// WantSame tests that two lists are equal, and reports the missing and the unexpected elements.
func WantSame[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%s: missing %.400v", what, fmt.Sprintf("%+v", w))
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("%s: unexpected %.400v", what, fmt.Sprintf("%+v", g))
		}
	}
	if !t.Failed() {
		t.Errorf("%s: got %d elements, want %d, or the order differs", what, len(got), len(want))
	}
}

// PGVectorOptions returns the options that migrate file to url with pgvector.
func PGVectorOptions(t testing.TB, file, url string) migrate.Options {
	t.Helper()
	o := Options(t, file, url)
	o.WithoutPGVector = false
	return o
}

// InitializePGVector creates Flujo's empty tables, memories included. It grants their use to the role grantTo, unless
// that is empty.
func InitializePGVector(t testing.TB, url, grantTo string) {
	t.Helper()
	o := initialize.Options{Postgres: url, Schema: Schema, GrantTo: grantTo}
	if _, err := initialize.Run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
}

// Restore restores a database to a new file and returns its path.
func Restore(t testing.TB, url, base string) (string, *report.Restoration) {
	t.Helper()
	return RestoreIn(t, url, base, nil)
}

// RestoreIn is Restore with a zone for naive timestamps.
func RestoreIn(t testing.TB, url, base string, zone *time.Location) (string, *report.Restoration) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "restored.db")
	result, err := restore.Run(context.Background(),
		restore.Options{SQLite: path, Base: base, Postgres: url, Schema: Schema, NaiveZone: zone})
	if err != nil {
		t.Fatal(err)
	}
	if !result.Done || result.File.Path != path {
		t.Errorf("got done %v and path %s, want %s", result.Done, result.File.Path, path)
	}
	WantAloneInFolder(t, path)
	return path, result
}

// WantAloneInFolder tests that a file is the only one in its folder.
func WantAloneInFolder(t testing.TB, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			t.Errorf("the restore left %s next to the file", e.Name())
		}
	}
}

// Verify compares a file with a database and returns the report and the differences.
func Verify(t testing.TB, file, url string) (*report.Verification, []report.Difference, error) {
	t.Helper()
	return VerifyIn(t, file, url, nil)
}

// VerifyIn is Verify with a zone for naive timestamps.
func VerifyIn(t testing.TB, file, url string, zone *time.Location) (*report.Verification, []report.Difference, error) {
	t.Helper()
	var differences []report.Difference
	result, err := verify.Run(context.Background(), verify.Options{
		SQLite: file, Postgres: url, Schema: Schema, NaiveZone: zone,
		OnDifference: func(d report.Difference) { differences = append(differences, d) },
	})
	return result, differences, err
}

// WantVerdict runs Verify and tests its verdict and the kind of its error; 0 is no error.
func WantVerdict(
	t testing.TB,
	file, url, verdict string,
	kind clierr.Kind,
) (*report.Verification, []report.Difference) {
	t.Helper()
	result, differences, err := Verify(t, file, url)
	if kind == 0 && err != nil || kind != 0 && clierr.KindOf(err) != kind || result == nil {
		t.Fatalf("got error %v, want kind %d", err, kind)
	}
	if result.Verdict != verdict {
		t.Errorf("got verdict %q, want %q: %+v", result.Verdict, verdict, differences)
	}
	return result, differences
}

// Comparison returns the report's row of a table.
func Comparison(t testing.TB, r *report.Verification, table string) report.Comparison {
	t.Helper()
	at := slices.IndexFunc(r.Tables, func(c report.Comparison) bool { return c.Name == table })
	if at < 0 {
		t.Fatalf("table %s is not in the report", table)
	}
	return r.Tables[at]
}

// Command returns the output of a program.
func Command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return string(out)
}
