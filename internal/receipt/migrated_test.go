package receipt_test

import (
	"fmt"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// TestReceipt compares the receipt with values that the test computes, digests with SQL of its own.
func TestReceipt(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := flujotest.Options(t, flujotest.Fixture, url)
	o.Version = "v1.2.3"
	result := flujotest.Migrate(t, o)
	conn := flujotest.Connect(t, url)
	for _, row := range result.Tables {
		digest := flujotest.One(t, conn, digestSQL(t, row.Name))
		const field = "SELECT t->>$1 FROM flujo.flujo_port_receipts, jsonb_array_elements(tables) t " +
			"WHERE t->>'name' = $2"
		if got := flujotest.One(t, conn, field, "digest", row.Name); got != digest || row.Digest != digest {
			t.Errorf("%s: got digest %s in the receipt and %s in the report, want %s", row.Name, got,
				row.Digest, digest)
		}
		if got := flujotest.One(t, conn, field, "rows", row.Name); got != fmt.Sprint(row.InPostgres) {
			t.Errorf("%s: got %s rows in the receipt, want %d", row.Name, got, row.InPostgres)
		}
	}
	sum := strings.Fields(flujotest.Command(t, "sha256sum", flujotest.Fixture))[0]
	for column, want := range map[string]string{"version": "v1.2.3", "file_sha256": sum, "file_bytes": "434176",
		"wal_bytes": "0", "wal_sha256": "", "file_format": "Flujo 0.6", "verify": "content",
		"options->>'naive_timezone'": "UTC", "file_path": result.Source.Path} {
		if got := flujotest.One(t, conn, "SELECT "+column+" FROM flujo.flujo_port_receipts"); got != want {
			t.Errorf("%s: got %q, want %q", column, got, want)
		}
	}
}

// TestReceiptWriters tests that the writers in the receipt are the xmin of the rows, for tables with one or several
// COPYs, created by the migration or before it.
func TestReceiptWriters(t *testing.T) {
	t.Parallel()
	two := flujotest.Changed(t,
		"INSERT INTO traces SELECT run_id, '{}', '2026-01-05T09:00:00' FROM runs LIMIT 1", // the others are derived
		"INSERT INTO steps (run_id, step_name, step_index, status, created_at) "+
			"VALUES ('of no run', 's', 0, 'completed', '2026-01-05T09:00:00')")
	wide := flujotest.Changed(t, "UPDATE steps SET token_counts = 3000000000 WHERE id = 213") // copied again as bigint
	for name, tc := range map[string]struct {
		file  string
		exist bool   // whether the tables exist before the migration
		many  string // tables with two writers
	}{
		"one COPY for each table":  {flujotest.Fixture, false, ""},
		"two COPYs for two tables": {two, false, "runs, traces"},
		"a table copied again":     {wide, false, ""},
		"existing tables":          {two, true, "runs, traces"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			if tc.exist {
				flujotest.Initialize(t, url, "")
			}
			result := flujotest.Migrate(t, flujotest.Options(t, tc.file, url))
			conn := flujotest.Connect(t, url)
			var many []string
			for _, row := range result.Tables {
				xmins := flujotest.One(t, conn,
					"SELECT coalesce(jsonb_agg(DISTINCT xmin::text::bigint), 'null') FROM flujo."+row.Name)
				got := flujotest.One(t, conn, "SELECT t->'writers' FROM flujo.flujo_port_receipts, "+
					"jsonb_array_elements(tables) t WHERE t->>'name' = $1", row.Name)
				if got != xmins && !(got == "[]" && xmins == "null") {
					t.Errorf("%s: got writers %s in the receipt, want %s", row.Name, got, xmins)
				}
				if strings.Contains(xmins, ",") {
					many = append(many, row.Name)
				}
			}
			if got := strings.Join(many, ", "); got != tc.many {
				t.Errorf("got tables with two writers %q, want %q", got, tc.many)
			}
		})
	}
}

// digestSQL returns the SQL of a table's digest.
func digestSQL(t testing.TB, table string) string {
	t.Helper()
	var columns []string
	for column := range strings.SplitSeq(flujotest.Tables[table], ", ") {
		name, kind, _ := strings.Cut(column, " ")
		switch kind[0] {
		case 'I':
			name += "::bigint"
		case 'R':
			name += "::double precision"
		}
		columns = append(columns, name)
	}
	return fmt.Sprintf(`SELECT coalesce(sum(('x' || substr(h, 1, 16))::bit(64)::bigint), 0) || ',' ||
			coalesce(sum(('x' || substr(h, 17, 16))::bit(64)::bigint), 0)
		FROM (SELECT encode(sha256(record_send(ROW(%s))), 'hex') AS h FROM flujo.%s) rows`,
		strings.Join(columns, ", "), table)
}
