package restore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/restore"
)

// fromReceipt restores the file of a receipt and returns its path.
func fromReceipt(t testing.TB, url, base string, id int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "restored.db")
	result, err := restore.Run(context.Background(), restore.Options{
		SQLite: path, Base: base, Postgres: url, Schema: flujotest.Schema, FromReceipt: id,
	})
	if err != nil {
		t.Fatal(err)
	}
	if !result.Done || result.Receipt.ID != id {
		t.Errorf("got done %v of receipt %d, want %d", result.Done, result.Receipt.ID, id)
	}
	flujotest.WantAloneInFolder(t, path)
	return path
}

// wantBytes tests that two files have the same bytes.
func wantBytes(t testing.TB, path, want string) {
	t.Helper()
	a, errA := os.ReadFile(path)
	b, errB := os.ReadFile(want)
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Errorf("%s does not have the bytes of %s (%v, %v)", path, want, errA, errB)
	}
}

// TestFromReceiptRandom migrates random files, which share runs, keys and ids, together, and restores each by its
// receipt. The rows are those that a migration of the file alone stores; with the file as the base, every byte is the
// file's.
func TestFromReceiptRandom(t *testing.T) {
	t.Parallel()
	seed := flujotest.Seed(t)
	for n := range pgtest.Count(2, 15) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			files := []string{randomFile(t, random), randomFile(t, random), randomFile(t, random)}
			if random.IntN(2) == 0 {
				files = append(files, flujotest.RepairedFile(t), flujotest.Fixture)
			}
			url := pgtest.Database(t)
			o := flujotest.Options(t, files[0], url)
			o.More, o.Quarantine = files[1:], true
			flujotest.Migrate(t, o)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("FLUJO_PORT_TEST_SEED=%d, case %d", seed, n)
				}
			})
			for i, file := range files {
				alone := pgtest.Database(t)
				o := flujotest.Options(t, file, alone)
				o.Quarantine = true
				flujotest.Migrate(t, o)
				wantSameState(t, fromReceipt(t, url, "", int64(i+1)), alone, false)
				wantBytes(t, fromReceipt(t, url, file, int64(i+1)), file)
			}
		})
	}
}

// TestFromReceiptRejected tests that rejected rows of two files with the same rowid and key go back to their own files.
func TestFromReceiptRejected(t *testing.T) {
	t.Parallel()
	var files []string
	for _, name := range []string{"a", "b"} {
		f := flujotest.NewFile(t, flujotest.Format06)
		f.Insert("runs", flujotest.Cells{"run_id": name})
		f.Insert("system_state", flujotest.Cells{"key": "k", "value": `"` + name + `"`})
		f.Insert("system_state", flujotest.Cells{"key": []byte("k"), "value": `"rejected ` + name + `"`})
		files = append(files, f.Close())
	}
	url := pgtest.Database(t)
	o := flujotest.Options(t, files[0], url)
	o.More, o.Quarantine = files[1:], true
	flujotest.Migrate(t, o)
	for i, want := range []string{"a", "b"} {
		path := fromReceipt(t, url, "", int64(i+1))
		got := queryFile(t, path, "SELECT typeof(key) || value FROM system_state ORDER BY typeof(key) DESC")
		if strings.Join(got, " ") != fmt.Sprintf(`text"%[1]s" blob"rejected %[1]s"`, want) {
			t.Errorf("receipt %d: got system_state %q", i+1, got)
		}
	}
}

// TestFromReceiptAfterWrites tests that a file of which Flujo changed a row is refused without the base, and restored
// with it; and that the other file is not affected.
func TestFromReceiptAfterWrites(t *testing.T) {
	t.Parallel()
	other := flujotest.Changed(
		t,
		"PRAGMA foreign_keys = OFF",
		"UPDATE runs SET run_id = 'b-' || run_id",
		"UPDATE steps SET run_id = 'b-' || run_id",
		"UPDATE spans SET run_id = 'b-' || run_id",
		"UPDATE evaluations SET run_id = 'b-' || run_id",
		"UPDATE workflow_state SET run_id = 'b-' || run_id",
	)
	url := pgtest.Database(t)
	o := flujotest.Options(t, flujotest.Fixture, url)
	o.More = []string{other}
	flujotest.Migrate(t, o)
	conn := flujotest.Connect(t, url)
	flujotest.Exec(t, conn, "UPDATE flujo.steps SET status = 'later' WHERE id = 4",
		"INSERT INTO flujo.system_state (key, value) VALUES ('new', '1')")
	refuse := func(id int64, base string, kind clierr.Kind, words string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "restored.db")
		_, err := restore.Run(context.Background(), restore.Options{
			SQLite: path, Base: base, Postgres: url, Schema: flujotest.Schema, FromReceipt: id,
		})
		if clierr.KindOf(err) != kind || err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("receipt %d, base %q: got error %v, want kind %d with %q", id, base, err, kind, words)
		}
		wantNoTemporaryFile(t, filepath.Dir(path))
	}
	refuse(1, "", clierr.Refused, "steps has 212 of 213 rows")
	refuse(1, other, clierr.Refused, "is not the file of receipt 1")
	refuse(3, "", clierr.Usage, "there is no receipt 3")
	wantBytes(t, fromReceipt(t, url, flujotest.Fixture, 1), flujotest.Fixture)
	alone := pgtest.Database(t)
	flujotest.Migrate(t, flujotest.Options(t, other, alone))
	wantSameState(t, fromReceipt(t, url, "", 2), alone, false)
	replace := flujotest.Options(t, other, url)
	replace.Replace = true
	flujotest.Migrate(t, replace)
	refuse(1, "", clierr.Refused, "were replaced by a later migration")
	wantSameState(t, fromReceipt(t, url, "", 3), alone, false)
}

// TestBaseOfSeveral tests that restore finds the receipt of its base among those of several files.
func TestBaseOfSeveral(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := flujotest.Options(t, flujotest.Changed(t, "UPDATE runs SET run_id = 'x' WHERE rowid = 1"), url)
	o.More = []string{flujotest.Fixture, flujotest.Changed(t, "DELETE FROM system_state")}
	flujotest.Migrate(t, o)
	for _, base := range append([]string{o.SQLite}, o.More...) {
		path, result := flujotest.Restore(t, url, base)
		wantSameState(t, path, url, true)
		if result.Receipt == nil || !result.Receipt.SameBytes {
			t.Errorf("base %s: got receipt %+v, want that of the base", base, result.Receipt)
		}
	}
}
