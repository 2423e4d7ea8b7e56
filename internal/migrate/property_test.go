package migrate_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/mapping"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// The number of files that TestProperty generates, and the minimum number of rows in them.
var (
	propertyFiles = pgtest.Count(5, 30)
	propertyLeast = int64(pgtest.Count(10_000, 100_000))
)

// TestProperty tests random files in Flujo's file formats. migrate either refuses with the list of all rejected rows,
// or stores every cell as docs/values.md defines, or its original value. With --quarantine it never refuses. The
// expected results are computed in property_contract_test.go.
//
// FLUJO_PORT_TEST_SEED sets the seed.
func TestProperty(t *testing.T) {
	t.Parallel()
	seed := flujotest.Seed(t)
	var rows, refused atomic.Int64
	t.Run("files", func(t *testing.T) {
		for n := range propertyFiles {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				random := flujotest.Random(seed, n)
				path, description := writePropertyFile(t, random, n)
				t.Cleanup(func() {
					if t.Failed() {
						t.Logf("FLUJO_PORT_TEST_SEED=%d, file %d: %s", seed, n, description)
					}
				})
				read, wasRefused := checkProperty(t, path, random.IntN(3), random.IntN(2) == 0, random.IntN(3) == 0)
				rows.Add(read)
				if wasRefused {
					refused.Add(1)
				}
			})
		}
	})
	if rows.Load() < propertyLeast {
		t.Errorf("got %d rows, want at least %d; FLUJO_PORT_TEST_SEED=%d", rows.Load(), propertyLeast, seed)
	}
	if n := refused.Load(); n == 0 || n == int64(propertyFiles) {
		t.Errorf("got %d refused files of %d, want some; FLUJO_PORT_TEST_SEED=%d", n, propertyFiles, seed)
	}
}

// checkProperty migrates a file, with Quarantine if it is refused without, and compares the database with the file. It
// returns the number of rows and whether the migration was refused.
func checkProperty(t *testing.T, path string, zone int, dryRun, exact bool) (rows int64, refused bool) {
	t.Helper()
	before := propertyDigest(t, path)
	url := pgtest.Database(t)
	conn := flujotest.Connect(t, url)
	o := flujotest.Options(t, path, url)
	o.NaiveZone = []*time.Location{nil, time.UTC, time.FixedZone("test", 5*3600+1800)}[zone]
	o.ExactFloats = exact
	in := o.NaiveZone
	if in == nil {
		in = time.UTC
	}
	k := newPropertyCheck(t, path, in, exact, conn)
	for _, table := range k.tables {
		rows += int64(len(table.rows))
	}

	o.DryRun = dryRun
	result, found, err := propertyMigrate(t, o)
	refused = errors.Is(err, errPropertyRefused)
	if err != nil && !refused {
		t.Fatal(err)
	}
	k.checkRejected(found)
	if refused != (k.rejectedRows() > 0) {
		t.Fatalf("got refused %v with %d rejected rows", refused, k.rejectedRows())
	}
	if refused {
		k.checkRefusal(result, found)
	}
	if refused || dryRun {
		if left := flujotest.Leftovers(t, conn); left != "" {
			t.Errorf("the migration left %s", left)
		}
		o.DryRun, o.Quarantine = false, refused
		if result, found, err = propertyMigrate(t, o); err != nil {
			t.Fatal(err)
		}
		k.checkRejected(found)
	}
	if !result.Committed {
		t.Error("the report says that the migration was not committed")
	}
	if notes := strings.Join(result.Notes, "; "); strings.Contains(notes, "row by row") {
		t.Errorf("the digests differ although the rows are equal: %s", notes)
	}
	later, differences, err := flujotest.VerifyIn(t, path, o.Postgres, o.NaiveZone)
	if err != nil || later.Verdict != report.Equal || len(differences) > 0 ||
		strings.Contains(strings.Join(later.Notes, "; "), "row by row") {
		t.Errorf("got %d differences and error %v from verify, want equal", len(differences), err)
	}
	roundTrip(t, path, o, k.rejectedRows() > 0)
	k.checkDatabase(conn, result, found)
	k.checkReported(result, found)
	if after := propertyDigest(t, path); after != before {
		t.Errorf("got the folder\n%s\nwant as before\n%s", after, before)
	}
	return rows, refused
}

// errPropertyRefused is the error of a refusal because of the data in the file.
var errPropertyRefused = errors.New("refused")

// propertyMigrate runs a migration and returns its report and findings.
func propertyMigrate(
	t testing.TB,
	o migrate.Options,
) (result *report.Migration, found []mapping.Finding, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	o.OnFinding = func(f mapping.Finding) error { found = append(found, f); return nil }
	result, err = migrate.Run(ctx, o)
	if f, ok := errors.AsType[*clierr.Error](err); ok && f.Kind == clierr.Refused && result != nil && result.Refused {
		err = errPropertyRefused
	}
	return result, found, err
}

// checkRefusal tests the report of a refused migration.
func (k *propertyCheck) checkRefusal(result *report.Migration, found []mapping.Finding) {
	k.Helper()
	if result.Committed {
		k.problem("the report of the refused migration says that it was committed")
	}
	k.checkReported(result, found)
}

// checkReported tests that the report has the numbers of findings by table, column and reason.
func (k *propertyCheck) checkReported(result *report.Migration, found []mapping.Finding) {
	k.Helper()
	type line struct {
		table, column, reason string
		rejected              bool
	}
	counts := map[line]int64{}
	for _, f := range found {
		counts[line{f.Table, f.Column, f.Reason.String(), f.Rejected}]++
	}
	for _, c := range result.Changes {
		l := line{c.Table, c.Column, c.Reason, c.Rejected}
		if counts[l] != c.Count {
			k.problem("%v: got %d in the report, want %d", l, c.Count, counts[l])
		}
		if len(c.Keys) == 0 || len(c.Keys) > 10 {
			k.problem("%v: got %d first keys, want 1 to 10", l, len(c.Keys))
		}
		delete(counts, l)
	}
	for l, n := range counts {
		k.problem("%v: got none in the report, want %d", l, n)
	}
}

// propertyDigest returns the names, digests and modification times of the files in the folder of path.
func propertyDigest(t testing.TB, path string) (digest string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(filepath.Dir(path), e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%s %x %v\n", e.Name(), sha256.Sum256(content), info.ModTime()))
	}
	slices.Sort(lines)
	return fmt.Sprint(lines)
}

// roundTrip restores a migrated file. With the file as base, every cell is the file's. Without a base, migrating and
// restoring the restored file yields the same file; this does not hold with rejected rows.
func roundTrip(t *testing.T, path string, o migrate.Options, rejected bool) {
	t.Helper()
	based, _ := flujotest.RestoreIn(t, o.Postgres, path, o.NaiveZone)
	flujotest.WantSameDump(t, flujotest.Dump(t, based), flujotest.Dump(t, path))
	if rejected {
		return
	}
	first, _ := flujotest.RestoreIn(t, o.Postgres, "", o.NaiveZone)
	o.SQLite, o.Postgres, o.Quarantine, o.DryRun = first, pgtest.Database(t), true, false
	o.Cutover = flujotest.Cutover(t, o.Postgres)
	flujotest.Migrate(t, o)
	second, _ := flujotest.RestoreIn(t, o.Postgres, "", o.NaiveZone)
	flujotest.WantSameDump(t, flujotest.Dump(t, second), flujotest.Dump(t, first))
}
