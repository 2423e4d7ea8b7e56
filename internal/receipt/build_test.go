package receipt

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/source"
)

// stateFile opens a copy of a state file that was last written at a known time.
func stateFile(t *testing.T) (*source.Snapshot, *mapping.Format) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "testdata", "flujo_state.db"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "flujo_state.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, modified, modified); err != nil {
		t.Fatal(err)
	}
	snapshot, format, err := extract.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { snapshot.Close() })
	return snapshot, format
}

var modified = time.Date(2026, 1, 5, 9, 0, 1, 0, time.UTC)

func TestFileOf(t *testing.T) {
	t.Parallel()
	snapshot, _ := stateFile(t)
	got := FileOf(snapshot, "aa", "")
	info, err := os.Stat(got.Path)
	if err != nil {
		t.Fatal(err)
	}
	if got.Path != snapshot.Path() || got.Bytes != info.Size() || got.SHA256 != "aa" || got.WALBytes != 0 ||
		got.WALSHA256 != "" || !got.Modified.Equal(modified) {
		t.Errorf("got %+v", got)
	}
}

func TestSameFile(t *testing.T) {
	t.Parallel()
	r := full()
	for _, tc := range []struct {
		main, wal string
		want      bool
	}{{"aa", "bb", true}, {"aa", "", false}, {"", "bb", false}, {"bb", "aa", false}} {
		if got := r.SameFile(tc.main, tc.wal); got != tc.want {
			t.Errorf("SameFile(%q, %q) is %t", tc.main, tc.wal, got)
		}
	}
}

func TestNote(t *testing.T) {
	t.Parallel()
	r := full()
	r.MigratedAt = modified
	want := report.ReceiptNote{
		MigratedAt: modified, Version: "1.0.0", Path: r.File.Path, SHA256: "aa", Verify: "content", SameBytes: true,
		ID: 1, Merged: true,
	}
	if got := r.Note("aa", "bb"); *got != want {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
	if r.Note("aa", "").SameBytes {
		t.Error("a file without the -wal has the same bytes")
	}
	if got := (*Receipt)(nil).Note("aa", "bb"); got != nil {
		t.Errorf("got %+v without a receipt", got)
	}
}

func TestOptionsOf(t *testing.T) {
	t.Parallel()
	config := extract.Config{
		Options:   mapping.Options{JSONDepth: 100, NaiveZone: time.FixedZone("Elsewhere", 60)},
		WrittenAt: mapping.Time{Micros: -5},
	}
	if got, want := OptionsOf(
		config,
	), (Options{NaiveTimezone: "Elsewhere", JSONDepth: 100, WrittenAt: -5}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := OptionsOf(extract.Config{}); got.NaiveTimezone != "UTC" {
		t.Errorf("got %+v, want UTC", got)
	}
}

func TestTablesOf(t *testing.T) {
	t.Parallel()
	conn, url := database(t)
	run(t, conn, "CREATE TABLE flujo.runs (run_id text); CREATE TABLE flujo.steps (id int)")
	run(t, conn, "INSERT INTO flujo.runs VALUES ('a'), ('b')")
	run(t, conn, "INSERT INTO flujo.runs VALUES ('c')")
	stored, err := postgres.InTransaction(context.Background(), open(t, url), nil, mapping.NewTypes(false), "")
	if err != nil {
		t.Fatal(err)
	}
	found := []report.Table{{Name: "runs", RowsRead: 4, Rejected: 1, Derived: 2}, {Name: "steps"}}
	digests := map[string]rowdigest.Digest{"runs": {Rows: 3, Sum: "1,2"}, "steps": {}}
	got, err := TablesOf(context.Background(), stored, found, digests)
	if err != nil || len(got) != 2 {
		t.Fatalf("got %+v, %v", got, err)
	}
	writers := got[0].Writers
	if len(writers) != 2 || !slices.IsSorted(writers) || len(got[1].Writers) != 0 {
		t.Errorf("the writers are %v and %v, want those of two transactions and none", writers, got[1].Writers)
	}
	if runs := got[0]; runs.Name != "runs" || runs.RowsRead != 4 || runs.Rejected != 1 || runs.Derived != 2 ||
		runs.Rows != 3 || runs.Digest != "1,2" || runs.Merged != nil {
		t.Errorf("got %+v", runs)
	}
	found[0].Name = "traces"
	if _, err := TablesOf(context.Background(), stored, found, digests); err == nil {
		t.Error("a table that does not exist is not an error")
	}
}

func TestMappingOptions(t *testing.T) {
	t.Parallel()
	server := postgres.Server{StackKB: 2048}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	tokyo := time.FixedZone("Tokyo", 9*3600)
	unknown := full()
	unknown.Options.NaiveTimezone = "Mars/Olympus_Mons"
	for _, tc := range []struct {
		name    string
		receipt *Receipt
		zone    *time.Location
		depth   int
		want    string // the name of the zone
	}{
		{"no receipt", nil, nil, server.JSONDepth(), "UTC"},
		{"no receipt, zone", nil, tokyo, server.JSONDepth(), "Tokyo"},
		{"receipt", full(), nil, 6409, berlin.String()},
		{"receipt, zone", full(), tokyo, 6409, "Tokyo"},
		{"unknown zone is replaced", unknown, tokyo, 6409, "Tokyo"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := tc.receipt.MappingOptions(server, tc.zone)
			if err != nil || got.JSONDepth != tc.depth || got.ZoneName() != tc.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	t.Run("unknown zone", func(t *testing.T) {
		t.Parallel()
		_, err := unknown.MappingOptions(server, nil)
		e, ok := err.(*clierr.Error)
		if !ok || e.Kind != clierr.Usage || e.Advice.Topic != clierr.NameZone {
			t.Errorf("got error %#v", err)
		}
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	snapshot, format := stateFile(t)
	types := mapping.NewTypes(true)
	options := mapping.Options{JSONDepth: 7}
	for _, tc := range []struct {
		name    string
		receipt *Receipt
		want    mapping.Time
	}{
		{"no receipt", nil, mapping.TimeOf(modified)},
		{"receipt", full(), mapping.Time{Micros: full().Options.WrittenAt}},
	} {
		got := tc.receipt.Config(snapshot, format, types, options)
		if got.WrittenAt != tc.want {
			t.Errorf("%s: written at %s, want %s", tc.name, got.WrittenAt, tc.want)
		}
		if got.Format != format || got.Types != types || got.Options != options || !got.WithDigests ||
			got.Phase != progress.Read || got.Exclude != "" || got.AllowWrites {
			t.Errorf("%s: got %+v", tc.name, got)
		}
	}
}
