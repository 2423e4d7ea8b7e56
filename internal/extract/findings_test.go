package extract_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/mapping"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"

	"github.com/jackc/pgx/v5"
)

// wantRefused runs a migration that must be refused because of the data in the file, and returns its report.
func wantRefused(t testing.TB, o migrate.Options, words ...string) *report.Migration {
	t.Helper()
	result, err := migrate.Run(context.Background(), o)
	if clierr.KindOf(err) != clierr.Refused || err == nil {
		t.Fatalf("error %v, want a refusal", err)
	}
	for _, w := range words {
		if !strings.Contains(flujotest.ErrorText(err), w) {
			t.Errorf("the refusal does not say %q: %s", w, flujotest.ErrorText(err))
		}
	}
	if result == nil {
		t.Fatalf("got no report, with error %v", err)
	}
	if !result.Refused || result.Committed || result.Originals != 0 {
		t.Errorf("got refused %v, committed %v and %d originals, want refused and nothing else", result.Refused,
			result.Committed, result.Originals)
	}
	return result
}

// wantStrict runs a migration that --strict must refuse, and returns its report.
func wantStrict(t testing.TB, o migrate.Options, words ...string) *report.Migration {
	t.Helper()
	return wantRefused(t, o, append(words, "advice not-strict")...)
}

// plural returns a number with its noun in the singular or the plural.
func plural[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// TestStrict tests that --strict accepts a file without changes, and refuses a file with one change, for each reason.
func TestStrict(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	o := flujotest.Options(t, flujotest.Fixture, url)
	o.Strict = true
	result := flujotest.Migrate(t, o)
	if !result.Committed || len(result.Changes) != 0 || result.Originals != 0 {
		t.Errorf("got committed %v and changes %v, want committed without changes", result.Committed, result.Changes)
	}
	flujotest.WantOriginals(t, flujotest.Connect(t, url), nil)

	// One variant of every reason, each alone in its file. The database stays empty.
	empty := pgtest.Database(t)
	seen := map[string]bool{}
	for _, l := range contract {
		for _, v := range l.variants {
			if v.reason == "" || seen[v.reason] || len(flujotest.OriginalBytes(v.cell)) > 1000 {
				continue
			}
			seen[v.reason] = true
			path, _ := writeLine(t, contractLine{variants: []variant{v}})
			o := flujotest.Options(t, path, empty)
			o.Strict = true
			result := wantStrict(t, o, "1 value ")
			if len(result.Changes) != 1 || result.Changes[0].Reason != v.reason {
				t.Errorf("%s: got changes %+v, want one with this reason", v.reason, result.Changes)
			}
		}
	}
	if len(seen) < 14 {
		t.Errorf("got only the reasons %v, want at least 14", seen)
	}
	if got := flujotest.Leftovers(t, flujotest.Connect(t, empty)); got != "" {
		t.Errorf("--strict left %s", got)
	}
}

// float4Columns holds, by table, the columns that --exact-floats makes double precision.
var float4Columns = map[string][]string{
	"runs":           {"memory_usage_mb"},
	"workflow_state": {"memory_usage_mb"},
	"steps":          {"cost_usd"},
}

// writeFloats writes a file whose float4 columns hold floats that a real rounds, and limits. It returns its path.
func writeFloats(t testing.TB) string {
	t.Helper()
	f := flujotest.NewFile(t, flujotest.Format06)
	f.Insert("runs", flujotest.Cells{"run_id": "r", "memory_usage_mb": 0.1})
	random := rand.New(rand.NewPCG(3, 4))
	limits := []float64{0, math.Copysign(0, -1), 1, -1.5, 0.000808865499794749, 1e-60, 5e-324, 1.1754943508222875e-38,
		3.4028234e38, 16777217, 0.1, -0.1}
	for i, x := range limits {
		f.Insert("steps", flujotest.Cells{"id": int64(i + 1), "cost_usd": x})
	}
	for i := range 300 {
		f.Insert("steps",
			flujotest.Cells{"id": int64(100 + i), "cost_usd": math.Ldexp(random.Float64()-0.5, random.IntN(200)-100)})
	}
	return f.Close()
}

func TestExactFloats(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"real file": flujotest.Fixture, "hard floats": writeFloats(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exact, rounded := pgtest.Database(t), pgtest.Database(t)
			o := flujotest.Options(t, path, exact)
			o.ExactFloats, o.Strict = true, true
			if result := flujotest.Migrate(t, o); len(result.Rounded) != 0 {
				t.Errorf("got rounded %+v, want none", result.Rounded)
			}
			o = flujotest.Options(t, path, rounded)
			o.Strict = true // rounding to real is not a change, since Flujo does the same
			result := flujotest.Migrate(t, o)
			conn, other := flujotest.Connect(t, exact), flujotest.Connect(t, rounded)
			flujotest.WantTypes(t, conn, map[string]string{
				"runs.memory_usage_mb":           "double precision",
				"workflow_state.memory_usage_mb": "double precision",
				"steps.cost_usd":                 "double precision",
			})
			flujotest.WantTypes(t, other, nil)
			var want []report.Rounded
			for _, table := range []string{"runs", "workflow_state", "steps"} {
				for _, column := range float4Columns[table] {
					r := report.Rounded{Column: table + "." + column}
					for key, x := range fileFloats(t, path, table, column) {
						if got := serverFloat(t, conn, table, column, key); !sameFloat(got, x) {
							t.Errorf("%s of %s: got %v, want %v as in the file", r.Column, key, got, x)
						}
						if got := serverFloat(t, other, table, column, key); !sameFloat(got, float64(float32(x))) {
							t.Errorf("%s of %s: got %v, want the real nearest to %v", r.Column, key, got, x)
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
				t.Error("the file has no value that is rounded")
			}
			flujotest.WantSame(t, "rounded", result.Rounded, want)
			text := strings.Join(flujotest.ReportLines(t, result.Document()), "\n")
			for _, r := range want {
				line := fmt.Sprintf(
					"%s: %s rounded to real, the column's type in Flujo, by at most ",
					r.Column,
					plural(r.Count, "value"),
				)
				_, bound, _ := strings.Cut(text, line)
				bound, _, _ = strings.Cut(bound, " ")
				if n, err := strconv.ParseFloat(bound, 64); err != nil || n < r.Largest || n > 2*r.Largest {
					t.Errorf("the report says that %q is the bound of %g (%v):\n%s", bound, r.Largest, err, text)
				}
			}
		})
	}
}

// fileFloats returns the floats of a column of a file, by key.
func fileFloats(t *testing.T, path, table, column string) map[string]float64 {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(fmt.Sprintf("SELECT %s, +%s FROM %s WHERE %[2]s IS NOT NULL", flujotest.Keys[table],
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
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return all
}

// serverFloat returns the float of a column and key in PostgreSQL.
func serverFloat(t *testing.T, conn *pgx.Conn, table, column, key string) (x float64) {
	t.Helper()
	query := fmt.Sprintf("SELECT %s::double precision FROM flujo.%s WHERE %s::text = $1", column, table,
		flujotest.Keys[table])
	if err := conn.QueryRow(context.Background(), query, key).Scan(&x); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return x
}

// TestManyFindings tests that all findings are reported in the order of the rows, and streamed into the JSON report.
func TestManyFindings(t *testing.T) {
	t.Parallel()
	const n = 20_000
	path := flujotest.Changed(
		t,
		fmt.Sprintf(`INSERT INTO steps (id, run_id, step_name, step_index, status, output, created_at)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		SELECT 1000 + i, (SELECT run_id FROM runs LIMIT 1), 's', i, 'completed', '{', '2026-01-05T09:00:01+00:00'
			FROM n`, n),
	)
	url := pgtest.Database(t)
	o := flujotest.Options(t, path, url)
	found := collectFindings(&o)
	result := flujotest.Migrate(t, o)
	if len(*found) != n || result.Originals != n {
		t.Fatalf("got %d findings and %d originals, want %d of each", len(*found), result.Originals, n)
	}
	if c := result.Changes; len(c) != 1 || c[0].Count != n ||
		!slices.Equal(c[0].Keys,
			[]string{"1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009", "1010"}) {
		t.Errorf("got changes %+v, want one with the first ten keys", c)
	}
	if got := flujotest.One(t, flujotest.Connect(t, url), "SELECT count(*) || ' ' || count(DISTINCT source_rowid) "+
		"FROM flujo.flujo_port_originals WHERE original = '{'"); got != "20000 20000" {
		t.Errorf("got originals %s, want 20000 20000", got)
	}
	// The report writes each finding when it is yielded, without collecting them.
	reader, writer := io.Pipe()
	var yielded atomic.Int64
	go func() {
		err := report.JSON(writer, result, report.ListOf("findings", func(yield func(report.Finding) error) error {
			for _, f := range *found {
				yielded.Add(1)
				if err := yield(reportFinding(f)); err != nil {
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
		if want := reportFinding((*found)[i]); !reflect.DeepEqual(f, want) || f.Key != fmt.Sprint(1001+i) {
			t.Fatalf("finding %d: got %+v, want %+v", i, f, want)
		}
		if ahead := yielded.Load() - int64(i); ahead > 1000 {
			t.Fatalf("the report holds %d findings, want at most 1000", ahead)
		}
	}
	if d.More() {
		t.Errorf("got more than %d findings", n)
	}
	if rest, err := io.ReadAll(io.MultiReader(d.Buffered(), reader)); err != nil ||
		strings.TrimSpace(string(rest)) != "]\n}" {
		t.Errorf("got %.80q, %v after the findings, want the end of the JSON", rest, err)
	}
	if yielded.Load() != n {
		t.Errorf("got %d findings yielded, want %d", yielded.Load(), n)
	}
}

// reportFinding returns a finding as the report has it.
func reportFinding(f mapping.Finding) report.Finding {
	return report.Finding{
		Table:       f.Table,
		Key:         f.Key,
		RowID:       f.RowID,
		Column:      f.Column,
		Reason:      f.Reason.String(),
		Explanation: f.Reason.Explain(f.Rejected),
		Rejected:    f.Rejected,
	}
}

// TestExistingOriginals tests that flujo_port_originals with rows refuses a migration, and without rows does not.
func TestExistingOriginals(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	path := flujotest.Changed(t, "UPDATE steps SET output = '{' WHERE id = 7")
	flujotest.Migrate(t, flujotest.Options(t, path, url))
	conn := flujotest.Connect(t, url)
	flujotest.Exec(t, conn, "TRUNCATE flujo.runs, flujo.workflow_state, flujo.system_state CASCADE")
	flujotest.WantError(t, flujotest.Options(t, path, url), clierr.Refused, "flujo_port_originals has 1")
	flujotest.Exec(t, conn, "TRUNCATE flujo.flujo_port_originals")
	flujotest.Migrate(t, flujotest.Options(t, path, url))
	if got := flujotest.Originals(t, conn); len(got) != 1 || got[0].Key != "7" {
		t.Errorf("got originals %+v, want one of the key 7", got)
	}
}

// TestInterruptWhileOriginalsAreWritten tests that an interrupt leaves nothing behind.
func TestInterruptWhileOriginalsAreWritten(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := flujotest.Options(t, flujotest.Changed(t, "UPDATE steps SET output = '{'"), url)
	reported := 0
	o.OnFinding = func(mapping.Finding) error {
		if reported++; reported == 100 {
			cancel()
		}
		return nil
	}
	if result, err := migrate.Run(ctx, o); result != nil || clierr.KindOf(err) != clierr.Interrupted {
		t.Errorf("got result %v and error %v, want an interruption without a result", result, err)
	}
	if reported != 100 {
		t.Errorf("got %d findings reported, want 100", reported)
	}
	if got := flujotest.Leftovers(t, flujotest.Connect(t, url)); got != "" {
		t.Errorf("the migration left %s", got)
	}
}

// TestFindingThatIsNotAccepted tests that an error of OnFinding ends a migration before its commit, whether the
// findings are stored or refused.
func TestFindingThatIsNotAccepted(t *testing.T) {
	t.Parallel()
	full := errors.New("the disk is full")
	for name, change := range map[string]string{
		"converted": "UPDATE steps SET output = '{'", "rejected": "UPDATE steps SET step_index = 'x'",
	} {
		for _, last := range []int{1, 100} {
			url := pgtest.Database(t)
			file := flujotest.Changed(t, change)
			o := flujotest.Options(t, file, url)
			reported := 0
			o.OnFinding = func(mapping.Finding) error {
				if reported++; reported == last {
					return full
				}
				return nil
			}
			if result, err := migrate.Run(context.Background(), o); result != nil || !errors.Is(err, full) {
				t.Errorf("%s: got result %v and error %v, want OnFinding's", name, result, err)
			}
			if reported != last {
				t.Errorf("%s: got %d findings reported, want %d", name, reported, last)
			}
			if got := flujotest.Leftovers(t, flujotest.Connect(t, url)); got != "" {
				t.Errorf("%s: the migration left %s", name, got)
			}
		}
	}
}

// sameFloat reports whether two floats have the same bits.
func sameFloat(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }
