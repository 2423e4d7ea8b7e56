package receipt

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/sqltext"
)

// full returns a receipt in which every field has a value.
func full() *Receipt {
	return &Receipt{
		ID: 1, Version: "1.0.0",
		File: File{
			Path: "/data/fluj\u00f6 'state'.db", Bytes: 1 << 40, SHA256: "aa", WALBytes: 4152, WALSHA256: "bb",
			Modified: time.Date(2026, 1, 5, 9, 0, 1, 669094000, time.UTC),
		},
		FileFormat: "Flujo 0.6",
		Verify:     "content",
		Options: Options{
			NaiveTimezone: "Europe/Berlin", JSONDepth: 6409, Quarantine: true, WrittenAt: -820918801669094,
			ArchiveSchema: "flujo_archive_20260105T090001Z", Merged: true,
		},
		Tables: []Table{
			{
				Name: "runs", RowsRead: 3, Rejected: 1, Derived: 2, Rows: 4, Digest: "-12,34",
				Writers: []int64{731, 4294967295},
				Merged: &Merged{FileRows: 2, FileDigest: "5,6", Writers: []int64{732},
					Rewritten: []int64{733}, IDs: []IDRange{{InFile: 1, Stored: 17, Rows: 3}}},
			},
			{Name: "steps", Writers: []int64{}},
		},
		Findings: report.Findings{
			Tables: []report.Table{{Name: "runs", RowsRead: 3, Match: true}},
			Derived: []report.Derived{
				{Table: "traces", Rows: 1, From: "spans", Count: 2, Why: "Flujo's \"traces\""},
			},
			Changes: []report.Change{{
				Table: "steps", Column: "output", Reason: "nul-removed", Explanation: "NUL characters are removed",
				Count: 2, Keys: []string{},
			}},
			Widened:         []string{"steps.id"},
			NaiveTimestamps: []report.NaiveColumn{{Column: "runs.created_at", Count: 1, Zone: "UTC"}},
			Rounded:         []report.Rounded{{Column: "steps.cost_usd", Count: 1, Largest: 5.96e-08}},
			Ignored:         []string{"notes"},
			Notes:           []string{"a note"},
		},
	}
}

// TestDateStyle tests that a receipt is read in a transaction with the connection's Settings, whatever the database's
// style of dates is.
func TestDateStyle(t *testing.T) {
	t.Parallel()
	owner, url := database(t)
	run(t, owner, fmt.Sprintf("ALTER DATABASE %s SET datestyle = 'German'", sqltext.Ident(owner.Server.Database)))
	conn := open(t, url)
	if style := one(t, conn, "current_setting('datestyle')"); style != "German, DMY" {
		t.Fatalf("the style of dates is %s", style)
	}
	run(t, conn, "BEGIN; "+conn.Settings())
	mustWrite(t, conn, full())
	got, err := last(context.Background(), conn)
	if err != nil || !got.File.Modified.Equal(full().File.Modified) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// last returns the last of the current receipts.
func last(ctx context.Context, conn *postgres.Conn) (*Receipt, error) {
	receipts, err := Current(ctx, conn)
	return receipts.Last(), err
}

func mustWrite(t *testing.T, conn *postgres.Conn, r *Receipt) {
	t.Helper()
	if err := Write(context.Background(), conn, r); err != nil {
		t.Fatal(err)
	}
}

func TestWriteLast(t *testing.T) {
	t.Parallel()
	conn, _ := database(t)
	run(t, conn, "SET TimeZone = 'Asia/Tokyo'; BEGIN")
	mustWrite(t, conn, full())
	began := one(t, conn, "SELECT (extract(epoch FROM now()) * 1000000)::bigint")
	run(t, conn, "COMMIT")
	got, err := last(context.Background(), conn)
	if err != nil {
		t.Fatal(err)
	}
	want := full()
	if want.Options.Origin, err = conn.Origin(context.Background()); err != nil || want.Options.Origin.Database == 0 {
		t.Fatalf("got origin %+v, %v", want.Options.Origin, err)
	}
	if want.MigratedAt = got.MigratedAt; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got.MigratedAt.Location() != time.UTC || got.MigratedAt.UnixMicro() == 0 ||
		began != one(
			t,
			conn,
			"SELECT (extract(epoch FROM migrated_at) * 1000000)::bigint FROM flujo.flujo_port_receipts",
		) {
		t.Errorf("migrated at %s, want the start of the transaction in UTC", got.MigratedAt)
	}
	if id := one(t, conn, "SELECT id FROM flujo.flujo_port_receipts"); id != "1" {
		t.Errorf("the first receipt has the id %s", id)
	}
}

// TestLastOfTwo tests that the receipt with the highest id is the last, even if its time is earlier.
func TestLastOfTwo(t *testing.T) {
	t.Parallel()
	conn, _ := database(t)
	for i, version := range []string{"first", "second"} {
		r := full()
		r.ID, r.Version = int64(i+1), version
		if next, err := NextID(context.Background(), conn); err != nil || next != r.ID {
			t.Errorf("the next id is %d (%v), want %d", next, err, r.ID)
		}
		mustWrite(t, conn, r)
	}
	run(t, conn, "UPDATE flujo.flujo_port_receipts SET migrated_at = '2001-01-01' WHERE id = 2")
	got, err := last(context.Background(), conn)
	if err != nil || got.Version != "second" {
		t.Errorf("got %+v, %v", got, err)
	}
	if ids := one(t, conn, "SELECT array_agg(id ORDER BY id) FROM flujo.flujo_port_receipts"); ids != "{1,2}" {
		t.Errorf("the receipts have the ids %s", ids)
	}
}

func TestLastWithoutReceipt(t *testing.T) {
	t.Parallel()
	conn, url := database(t)
	wantNone := func(what string, conn *postgres.Conn) {
		t.Helper()
		if r, err := last(context.Background(), conn); r != nil || err != nil {
			t.Errorf("%s: got %+v, %v", what, r, err)
		}
	}
	wantNone("no table", conn)
	mustWrite(t, conn, full())
	run(t, conn, "DELETE FROM flujo.flujo_port_receipts")
	wantNone("no row", conn)

	other, err := postgres.Open(context.Background(), url, "other")
	if err != nil {
		t.Fatal(err)
	}
	defer other.End(context.Background())
	wantNone("no schema", other)
}

// TestWriteInTransaction tests that a rollback leaves neither a receipt nor the table.
func TestWriteInTransaction(t *testing.T) {
	t.Parallel()
	conn, _ := database(t)
	run(t, conn, "BEGIN")
	mustWrite(t, conn, full())
	run(t, conn, "ROLLBACK")
	if left := one(t, conn, "SELECT count(*) FROM pg_class WHERE relname LIKE 'flujo_port%'"); left != "0" {
		t.Errorf("%s relations are left", left)
	}
}

// TestWriteInvalidPath tests that a path that is not UTF-8, which PostgreSQL cannot store, does not end a migration.
func TestWriteInvalidPath(t *testing.T) {
	t.Parallel()
	conn, _ := database(t)
	r := full()
	r.File.Path = "/data/\xff.db"
	mustWrite(t, conn, r)
	got, err := last(context.Background(), conn)
	if err != nil || got.File.Path != "/data/\uFFFD.db" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestLastUnreadable tests receipts that somebody changed.
func TestLastUnreadable(t *testing.T) {
	t.Parallel()
	conn, _ := database(t)
	for _, column := range []string{"options", "tables", "findings"} {
		mustWrite(t, conn, full())
		run(t, conn, "UPDATE flujo.flujo_port_receipts SET "+column+" = '7'")
		if _, err := last(context.Background(), conn); err == nil ||
			!strings.Contains(err.Error(), `"flujo"."flujo_port_receipts"`) {
			t.Errorf("%s: got error %v", column, err)
		}
		run(t, conn, "DROP TABLE flujo.flujo_port_receipts")
	}
}

func TestWithoutPrivileges(t *testing.T) {
	t.Parallel()
	owner, url := database(t)
	role := pgtest.Role(t, url, "")
	conn := open(t, role)
	run(t, owner, "GRANT USAGE ON SCHEMA flujo TO PUBLIC")
	wantRefused := func(what string, err error) {
		t.Helper()
		if err == nil || clierr.KindOf(err) != clierr.Refused || !strings.Contains(err.Error(), what) {
			t.Errorf("got error %v, want a Refused that says %q", err, what)
		}
	}
	wantRefused(`create table "flujo_port_receipts"`, Write(context.Background(), conn, full()))
	mustWrite(t, owner, full())
	wantRefused("write the receipt", Write(context.Background(), conn, full()))
	_, err := last(context.Background(), conn)
	wantRefused("read the receipts", err)

	run(t, owner, "GRANT SELECT, INSERT ON flujo.flujo_port_receipts TO PUBLIC")
	second := full()
	second.ID = 2
	mustWrite(t, conn, second)
	if n := one(t, owner, "SELECT count(*) FROM flujo.flujo_port_receipts"); n != "2" {
		t.Errorf("%s receipts, want 2", n)
	}
}

// TestCancelled tests that both functions return the error of a cancelled context.
func TestCancelled(t *testing.T) {
	t.Parallel()
	conn, _ := database(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Write(ctx, conn, full()); clierr.KindOf(err) != clierr.Interrupted {
		t.Errorf("Write: got error %v", err)
	}
	if _, err := last(ctx, conn); clierr.KindOf(err) != clierr.Interrupted {
		t.Errorf("Current: got error %v", err)
	}
}
