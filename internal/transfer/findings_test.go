package transfer_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/transfer"

	"github.com/jackc/pgx/v5"
)

// wantRefused runs a migration that what is in the file refuses, and gives its
// report.
func wantRefused(t testing.TB, o transfer.MigrateOptions, words ...string) *report.Migration {
	t.Helper()
	result, err := transfer.Migrate(context.Background(), o)
	if clierr.KindOf(err) != clierr.Refused || err == nil {
		t.Fatalf("error %v, want a refusal", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the refusal does not say %q: %v", w, err)
		}
	}
	if result == nil {
		t.Fatalf("no report of the refusal: %v", err)
	}
	if !result.Refused || result.Committed || result.Originals != 0 {
		t.Errorf("refused %v, committed %v, %d originals", result.Refused, result.Committed, result.Originals)
	}
	return result
}

func wantStrict(t testing.TB, o transfer.MigrateOptions, words ...string) *report.Migration {
	t.Helper()
	return wantRefused(t, o, append(words, "--strict")...)
}

// many says how many things there are.
func many[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// TestStrict passes a file of which nothing is changed, and refuses one with
// anything of each kind.
func TestStrict(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := options(t, fixture, url)
	o.Strict = true
	result := migrate(t, o)
	if !result.Committed || len(result.Changes) != 0 || result.Originals != 0 {
		t.Errorf("committed %v, changes %v", result.Committed, result.Changes)
	}
	wantOriginalRows(t, connect(t, url), nil)

	// One variant of every kind, each alone in its file and all on one database
	// that stays empty.
	empty := pgtest.Database(t)
	seen := map[string]bool{}
	for _, l := range contract {
		for _, v := range l.variants {
			if v.reason == "" || seen[v.reason] || len(bytesOf(v.cell)) > 1000 {
				continue
			}
			seen[v.reason] = true
			path, _ := writeLine(t, contractLine{variants: []variant{v}})
			o := options(t, path, empty)
			o.Strict = true
			result := wantStrict(t, o, "1 cell ")
			if len(result.Changes) != 1 || result.Changes[0].Reason != v.reason {
				t.Errorf("%s: %+v", v.reason, result.Changes)
			}
		}
	}
	if len(seen) < 14 {
		t.Errorf("only the kinds %v were tried", seen)
	}
	if got := leftovers(t, connect(t, empty)); got != "" {
		t.Errorf("--strict left %s", got)
	}
}

// float4Columns are those that --exact-floats makes double precision.
var float4Columns = map[string][]string{
	"runs":           {"memory_usage_mb"},
	"workflow_state": {"memory_usage_mb"},
	"steps":          {"cost_usd"},
}

// floats writes a file whose float4 columns hold floats that are hard to keep.
func floats(t testing.TB) string {
	t.Helper()
	f := newFile(t, format06)
	f.insert("runs", cells{"run_id": "r", "memory_usage_mb": 0.1})
	random := rand.New(rand.NewPCG(3, 4))
	for i, x := range []float64{0, math.Copysign(0, -1), 1, -1.5, 0.000808865499794749, 1e-60, 5e-324,
		1.1754943508222875e-38, 3.4028234e38, 16777217, 0.1, -0.1} {
		f.insert("steps", cells{"id": int64(i + 1), "cost_usd": x})
	}
	for i := range 300 {
		f.insert("steps",
			cells{"id": int64(100 + i), "cost_usd": math.Ldexp(random.Float64()-0.5, random.IntN(200)-100)})
	}
	return f.close()
}

func TestExactFloats(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"real file": fixture, "hard floats": floats(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exact, rounded := pgtest.Database(t), pgtest.Database(t)
			o := options(t, path, exact)
			o.ExactFloats, o.Strict = true, true
			if result := migrate(t, o); len(result.Rounded) != 0 {
				t.Errorf("rounded %+v", result.Rounded)
			}
			o = options(t, path, rounded)
			o.Strict = true // rounding is what Flujo does, and no change
			result := migrate(t, o)
			conn, other := connect(t, exact), connect(t, rounded)
			wantTypes(t, conn, map[string]string{
				"runs.memory_usage_mb":           "double precision",
				"workflow_state.memory_usage_mb": "double precision",
				"steps.cost_usd":                 "double precision",
			})
			wantTypes(t, other, nil)
			var want []report.Rounded
			for _, table := range []string{"runs", "workflow_state", "steps"} {
				for _, column := range float4Columns[table] {
					r := report.Rounded{Column: table + "." + column}
					for key, x := range fileFloats(t, path, table, column) {
						if got := serverFloat(t, conn, table, column, key); !sameFloat(got, x) {
							t.Errorf("%s of %s is %v, the file has %v", r.Column, key, got, x)
						}
						if got := serverFloat(t, other, table, column, key); !sameFloat(got, float64(float32(x))) {
							t.Errorf("%s of %s is %v as a real, the file has %v", r.Column, key, got, x)
						}
						if change := math.Abs(float64(float32(x)) - x); change != 0 {
							r.Count++
							r.Largest = max(r.Largest, change/math.Abs(x))
						}
					}
					if r.Count > 0 {
						want = append(want, r)
					}
				}
			}
			if len(want) == 0 {
				t.Error("nothing in the file is rounded")
			}
			wantSame(t, "rounded", result.Rounded, want)
			var text bytes.Buffer
			if err := result.Text(&text); err != nil {
				t.Fatal(err)
			}
			for _, r := range want {
				if line := fmt.Sprintf(" values in %s, by at most %.1g of the value (--exact-floats keeps them)",
					r.Column, r.Largest); !strings.Contains(
					text.String(),
					line,
				) {
					t.Errorf("the report does not say %q:\n%s", line, &text)
				}
			}
		})
	}
}

// fileFloats gives the floats of a column by key.
func fileFloats(t *testing.T, path, table, column string) map[string]float64 {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(fmt.Sprintf("SELECT %s, +%s FROM %s WHERE %[2]s IS NOT NULL", keyColumn[table],
		column, table))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[string]float64{}
	for rows.Next() {
		var key string
		var x float64
		if err := rows.Scan(&key, &x); err != nil {
			t.Fatal(err)
		}
		all[key] = x
	}
	return all
}

func serverFloat(t *testing.T, conn *pgx.Conn, table, column, key string) (x float64) {
	t.Helper()
	query := fmt.Sprintf("SELECT %s::double precision FROM flujo.%s WHERE %s::text = $1", column, table,
		keyColumn[table])
	if err := conn.QueryRow(context.Background(), query, key).Scan(&x); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return x
}

// TestManyFindings: every one is told, in the order of the rows, and streamed
// into the JSON report.
func TestManyFindings(t *testing.T) {
	t.Parallel()
	const n = 20_000
	path := changed(t, fmt.Sprintf(`INSERT INTO steps (id, run_id, step_name, step_index, status, output, created_at)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		SELECT 1000 + i, (SELECT run_id FROM runs LIMIT 1), 's', i, 'completed', '{', '2026-01-05T09:00:01+00:00'
			FROM n`, n))
	url := pgtest.Database(t)
	o := options(t, path, url)
	found := collectFindings(&o)
	result := migrate(t, o)
	if len(*found) != n || result.Originals != n {
		t.Fatalf("%d findings, %d originals", len(*found), result.Originals)
	}
	if c := result.Changes; len(c) != 1 || c[0].Count != n ||
		!slices.Equal(c[0].Keys,
			[]string{"1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009", "1010"}) {
		t.Errorf("changes %+v", c)
	}
	if got := one(t, connect(t, url), "SELECT count(*) || ' ' || count(DISTINCT source_rowid) "+
		"FROM flujo.flujo_port_originals WHERE original = '{'"); got != "20000 20000" {
		t.Errorf("originals: %s", got)
	}
	// Each is written when it is given: they are not gathered.
	reader, writer := io.Pipe()
	var given atomic.Int64
	go func() {
		err := report.JSON(writer, result, report.ListOf("findings", func(yield func(report.Finding) error) error {
			for _, f := range *found {
				given.Add(1)
				if err := yield(asReported(f)); err != nil {
					return err
				}
			}
			return nil
		}))
		writer.CloseWithError(err)
	}()
	d := json.NewDecoder(reader)
	for token, err := d.Token(); token != "findings"; token, err = d.Token() {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		var f report.Finding
		if err := d.Decode(&f); err != nil {
			t.Fatalf("finding %d: %v", i, err)
		}
		if want := asReported((*found)[i]); f != want || f.Key != fmt.Sprint(1001+i) {
			t.Fatalf("finding %d is %+v, want %+v", i, f, want)
		}
		if ahead := given.Load() - int64(i); ahead > 1000 {
			t.Fatalf("%d findings were gathered", ahead)
		}
	}
	if d.More() {
		t.Error("there are more findings")
	}
	if rest, err := io.ReadAll(io.MultiReader(d.Buffered(), reader)); err != nil ||
		strings.TrimSpace(string(rest)) != "]\n}" {
		t.Errorf("after the findings come %.80q, %v", rest, err)
	}
	if given.Load() != n {
		t.Errorf("%d were asked for", given.Load())
	}
}

func asReported(f mapping.Finding) report.Finding {
	return report.Finding{
		Table:       f.Table,
		Key:         f.Key,
		RowID:       f.RowID,
		Column:      f.Column,
		Reason:      f.Reason.String(),
		Explanation: f.Reason.Explain(),
		Rejected:    f.Rejected,
	}
}

// TestOriginalsOfAnEarlierRun: an empty table of them is no obstacle, one with
// rows is.
func TestOriginalsOfAnEarlierRun(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	path := changed(t, "UPDATE steps SET output = '{' WHERE id = 7")
	migrate(t, options(t, path, url))
	conn := connect(t, url)
	run(t, conn, "TRUNCATE flujo.runs, flujo.workflow_state, flujo.system_state CASCADE")
	wantError(t, options(t, path, url), clierr.Refused, "flujo_port_originals has 1")
	run(t, conn, "TRUNCATE flujo.flujo_port_originals")
	migrate(t, options(t, path, url))
	if got := originals(t, conn); len(got) != 1 || got[0].key != "7" {
		t.Errorf("originals %+v", got)
	}
}

// TestInterruptWhileOriginalsAreWritten leaves nothing.
func TestInterruptWhileOriginalsAreWritten(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := options(t, changed(t, "UPDATE steps SET output = '{'"), url)
	reported := 0
	o.OnFinding = func(mapping.Finding) {
		if reported++; reported == 100 {
			cancel()
		}
	}
	if result, err := transfer.Migrate(ctx, o); result != nil || clierr.KindOf(err) != clierr.Interrupted {
		t.Errorf("result %v, error %v", result, err)
	}
	if reported != 100 {
		t.Errorf("%d findings were told", reported)
	}
	if got := leftovers(t, connect(t, url)); got != "" {
		t.Errorf("left %s", got)
	}
}
