package merge_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
	"flujo-port/internal/verify"

	"github.com/jackc/pgx/v5"
)

// severalCases is the number of sets of files that TestSeveralProperty tests.
var severalCases = pgtest.Count(2, 40)

// TestSeveralProperty tests migrations of random sets of files in one transaction, into empty tables or into tables
// with rows of Flujo's. The tables and the originals are the model's, every row of every file is in one of them, and
// every file verifies. The order of the files matters only for ids, and for units of which different versions share
// the latest time: of these the one of the file that is named first stays. Then rows that Flujo writes, and rows that
// changed in no way that Flujo changes them, are found.
//
// FLUJO_PORT_TEST_SEED sets the seed.
func TestSeveralProperty(t *testing.T) {
	t.Parallel()
	seed := flujotest.Seed(t)
	for n := range severalCases {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			random := flujotest.Random(seed, n)
			files, ofFlujo := randomFiles(random)
			for _, f := range files {
				f.write(t)
			}
			target := side{}
			if ofFlujo {
				target, files = files[0].rows, files[1:]
			}
			s := newSeveral(t, target, files)
			s.apart = random.IntN(3) == 0
			s.migrate(t)
			random.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
			other := newSeveral(t, target, files)
			other.migrate(t)
			s.wantSameBut(t, other)
			s.loseKept(t)
			s.writeAsFlujo(t, random)
			s.tamper(t, random)
			if t.Failed() {
				t.Logf("FLUJO_PORT_TEST_SEED=%d, case %d", seed, n)
			}
		})
	}
}

// randomFiles returns files with much in common. With ofFlujo the first is no file, but rows of Flujo's.
func randomFiles(random *rand.Rand) (files []*stateFile, ofFlujo bool) {
	coin := func(n int) bool { return random.IntN(n) == 0 }
	ofFlujo = coin(3)
	wide, quarantine, incomplete := coin(3), coin(3), coin(2)
	ids := map[*stateFile]map[string]map[int64]bool{}
	for i := range 2 + random.IntN(5) {
		f := &stateFile{
			name: fmt.Sprint("file ", i), rows: side{}, rejected: side{},
			written: fmt.Sprintf("2026-01-%02dT09:00:00+00:00", 2+4*i), // earlier or later than the rows
		}
		files, ids[f] = append(files, f), map[string]map[int64]bool{}
	}
	put := func(f *stateFile, to side, unit side) {
		for _, table := range mergeTables {
			for _, row := range unit[table] {
				row = maps.Clone(row)
				if _, serial := row["id"]; serial {
					id := 1 + random.Int64N(80)
					if wide && coin(20) && !(ofFlujo && f == files[0]) {
						id += 1 << 31
					}
					used := ids[f][table]
					for ; used[id]; id++ {
					}
					if used == nil {
						used = map[int64]bool{}
						ids[f][table] = used
					}
					used[id], row["id"] = true, id
				}
				to[table] = append(to[table], row)
			}
		}
	}
	for i := range 4 + random.IntN(10) {
		var versions []side
		for range 1 + random.IntN(4) {
			v := randomUnit(random, i)
			if wide && !ofFlujo && len(v["steps"]) > 0 && len(v["runs"]) > 0 && coin(4) {
				v["steps"][0]["token_counts"] = int64(5e9)
				v["runs"][0]["total_steps"] = int64(6e9)
			}
			versions = append(versions, v)
		}
		for place, f := range files {
			if coin(3) {
				continue
			}
			version := versions[random.IntN(len(versions))]
			if incomplete && coin(3) && !(ofFlujo && place == 0) {
				version = spoil(random, version)
			}
			put(f, f.rows, version)
			if quarantine && len(version["runs"]) > 0 && coin(3) && !(ofFlujo && place == 0) {
				rejected := side{}
				rejected.add("steps", flujotest.Cells{
					"id": int64(0), "run_id": version["runs"][0]["run_id"], "step_name": nil, "created_at": at(9)})
				rejected.add("system_state", flujotest.Cells{"key": fmt.Sprintf("rejected %d", i), "value": nil})
				put(f, f.rejected, rejected)
			}
		}
	}
	return files, ofFlujo
}

// randomUnit returns a version of unit i.
func randomUnit(random *rand.Rand, i int) side {
	if i%3 != 0 {
		return randomRun(random, fmt.Sprintf("run-%d", i))
	}
	s := side{}
	s.add("system_state", flujotest.Cells{
		"key":        fmt.Sprintf("key %d", i),
		"value":      fmt.Sprint(random.IntN(3)),
		"updated_at": at(random.IntN(3)),
	})
	return s
}

// spoil returns a version of a unit with cells that a migration converts, and without some timestamps.
func spoil(random *rand.Rand, version side) side {
	spoiled := side{}
	for table, rows := range version {
		for _, row := range rows {
			spoiled[table] = append(spoiled[table], maps.Clone(row))
		}
	}
	missing := func() string { return []string{"", "?"}[random.IntN(2)] }
	runs, steps := spoiled["runs"], spoiled["steps"]
	if len(runs) > 0 {
		runs[0]["error_message"] = "x\x00y"
	}
	if len(spoiled) == 1 && len(runs) > 0 {
		runs[0]["updated_at"] = missing()
		if random.IntN(2) == 0 {
			runs[0]["created_at"] = missing()
		}
	}
	if len(spoiled["system_state"]) > 0 {
		spoiled["system_state"][0]["updated_at"] = missing()
	}
	if len(steps) > 0 {
		steps[0]["output"] = []string{"null", "no JSON"}[random.IntN(2)]
		steps[0]["created_at"] = missing()
	}
	if rows := spoiled["evaluations"]; len(rows) > 0 {
		rows[0]["created_at"] = missing()
	}
	return spoiled
}

// several is a migration of several files in a database.
type several struct {
	files    []*stateFile
	url      string
	conn     *pgx.Conn
	model    *severalModel
	apart    bool    // whether each file is migrated by a command of its own, with --merge
	flujo    int     // 1 if the model's first file is no file, but rows of Flujo's; 0 otherwise
	receipts []int64 // of the model's files; 0 for Flujo
	stored   map[string]unitRows
}

// newSeveral creates a database with the rows of target, which may be none.
func newSeveral(t *testing.T, target side, files []*stateFile) *several {
	t.Helper()
	s := &several{files: slices.Clone(files)}
	s.url = target.database(t, nil)
	s.conn = flujotest.Connect(t, s.url)
	createPrinted(t, s.conn)
	var units []map[string]*fileUnit
	if len(target) > 0 {
		s.flujo, s.receipts = 1, []int64{0}
		units = append(units, (&stateFile{rows: target}).units(t, s.conn))
	}
	for i, f := range files {
		units, s.receipts = append(units, f.units(t, s.conn)), append(s.receipts, int64(i+1))
	}
	s.model = newSeveralModel(units)
	return s
}

// options returns the options of the migration.
func (s *several) options(t *testing.T) migrate.Options {
	t.Helper()
	o := flujotest.Options(t, s.files[0].path, s.url)
	for _, f := range s.files[1:] {
		o.More = append(o.More, f.path)
	}
	o.Quarantine, o.Merge = true, s.flujo > 0
	return o
}

// migrate migrates the files and tests the result, which is the same whether they are migrated together or apart.
func (s *several) migrate(t *testing.T) {
	t.Helper()
	var merges []*report.Merge
	if s.apart {
		for i, f := range s.files {
			o := s.options(t)
			o.SQLite, o.More, o.Merge = f.path, nil, i > 0 || s.flujo > 0
			merges = append(merges, flujotest.Migrate(t, o).Merge)
		}
	} else {
		o := s.options(t)
		result := flujotest.Migrate(t, o)
		merges = append(merges, result.Merge)
		for i, further := range result.Further {
			merges = append(merges, further.Merge)
			if further.Receipt != int64(i+2) || further.Source.Path != o.More[i] {
				t.Errorf("got %s and receipt %d, want %s and %d", further.Source.Path, further.Receipt, o.More[i], i+2)
			}
		}
	}
	s.checkMerges(t, merges)
	s.stored = s.model.check(t, s.conn, s.receipts)
	s.wantVerified(t, nil)
	insertAsFlujo(t, s.conn, side{"steps": s.highest("steps"), "spans": s.highest("spans"),
		"evaluations": s.highest("evaluations")})
	flujotest.Exec(t, s.conn, "DELETE FROM flujo.runs WHERE run_id = 'next'")
}

// highest returns a row with the highest id in a table.
func (s *several) highest(table string) []flujotest.Cells {
	last := flujotest.Cells{"id": int64(0)}
	for _, u := range s.stored {
		for _, row := range u[table] {
			last["id"] = max(last["id"].(int64), row.id)
		}
	}
	return []flujotest.Cells{last}
}

// checkMerges compares the counts in the report with the model.
func (s *several) checkMerges(t *testing.T, merges []*report.Merge) {
	t.Helper()
	for i, merge := range merges {
		file := i + s.flujo
		if file == 0 {
			if merge != nil {
				t.Errorf("got %+v for the first file, want no merge", merge)
			}
			continue
		}
		var got report.MergedUnits
		for _, u := range merge.Units {
			got.Equal, got.Added, got.TakenOver = got.Equal+u.Equal, got.Added+u.Added, got.TakenOver+u.TakenOver
			got.Kept += u.Kept - u.Alone
		}
		if want := int64(len(s.model.equal[file])); got.Equal != want {
			t.Errorf("file %d: got %d equal units, want %d", file, got.Equal, want)
		}
		if want := int64(len(s.model.units[file])); got.Equal+got.Added+got.TakenOver+got.Kept != want {
			t.Errorf("file %d: got %+v, want %d units", file, got, want)
		}
	}
}

// verify runs verify with some of the files, and returns the report, the statuses of units by file and unit, and the
// error.
func (s *several) verify(t *testing.T, files ...*stateFile) (*report.Verification, map[string]report.Unit, error) {
	t.Helper()
	o := verify.Options{SQLite: files[0].path, Postgres: s.url, Schema: flujotest.Schema}
	for _, f := range files[1:] {
		o.More = append(o.More, f.path)
	}
	units := map[string]report.Unit{}
	o.OnUnit = func(u report.Unit) { units[u.Path+" "+u.Kind+" "+u.Key] = u }
	result, err := verify.Run(context.Background(), o)
	return result, units, err
}

// status returns what verify is expected to say of a unit of a model's file. written holds what Flujo did to units
// since: report.UnitChanged or report.UnitMissing.
func (s *several) status(file int, key string, written map[string]string) (status string, by int64) {
	status, owner := s.model.status(file, key, s.stored)
	superseded := status == report.UnitSuperseded
	switch {
	case written[key] == report.UnitMissing, written[key] != "" && !superseded:
		return written[key], 0
	case superseded && written[key] == "":
		by = s.receipts[owner]
	}
	return status, by
}

// wantVerified verifies each file, and all of them together.
func (s *several) wantVerified(t *testing.T, written map[string]string) {
	t.Helper()
	for i, f := range s.files {
		result, units, err := s.verify(t, f)
		if err != nil {
			t.Errorf("verify %s: %v", f.name, err)
			continue
		}
		if len(result.Files) == 0 { // a single file is compared row by row
			if len(s.receipts) > 1 {
				t.Errorf("verify %s: got no units", f.name)
			}
			continue
		}
		if got := result.Files[0].Receipt.ID; got != s.receipts[i+s.flujo] {
			t.Errorf("verify %s: got receipt %d, want %d", f.name, got, s.receipts[i+s.flujo])
		}
		drift := s.wantUnits(t, i, units, written)
		if (result.Verdict == report.Drift) != drift || result.Verdict == report.CopyMismatch {
			t.Errorf("verify %s: got verdict %q, and drift is expected: %v", f.name, result.Verdict, drift)
		}
	}
	if len(s.files) < 2 {
		return
	}
	result, _, err := s.verify(t, s.files...)
	if err != nil {
		t.Fatalf("verify all: %v", err)
	}
	if len(result.Files) != len(s.files) || len(result.Written.Others) > 0 {
		t.Errorf("verify all: got %d files and rows of %+v", len(result.Files), result.Written.Others)
	}
	if written != nil {
		return
	}
	var ofFiles, ofFlujo int64
	for key, owner := range s.model.owner {
		if owner < s.flujo {
			ofFlujo += s.stored[key].count()
		} else {
			ofFiles += s.stored[key].count()
		}
	}
	if w := result.Written; w.Files != ofFiles || w.Since != ofFlujo {
		t.Errorf("verify all: got %d rows of the files and %d of Flujo, want %d and %d", w.Files, w.Since, ofFiles,
			ofFlujo)
	}
}

// wantUnits compares what verify said of the units of a file with the model, and returns whether Flujo changed some.
func (s *several) wantUnits(
	t *testing.T, i int, units map[string]report.Unit, written map[string]string,
) (drift bool) {
	t.Helper()
	f, model := s.files[i], s.model.units[i+s.flujo]
	for key := range model {
		got := units[f.path+" "+key]
		status, by := s.status(i+s.flujo, key, written)
		if got.Status != status || got.By != by {
			t.Errorf("verify %s (receipt %d): got %s %q by %d, want %q by %d", f.name, s.receipts[i+s.flujo], key,
				got.Status, got.By, status, by)
		}
		drift = drift || status == report.UnitChanged || status == report.UnitMissing
	}
	if len(units) != len(model) {
		t.Errorf("verify %s: got %d units, want %d", f.name, len(units), len(model))
	}
	return drift
}

// wantSameBut tests that another order of the same files led to the same content, except for tied units.
func (s *several) wantSameBut(t *testing.T, other *several) {
	t.Helper()
	if len(s.stored) != len(other.stored) {
		t.Errorf("got %d units in one order and %d in the other", len(s.stored), len(other.stored))
	}
	for key, tied := range s.model.tied {
		if tied != other.model.tied[key] {
			t.Errorf("%s is tied in one order only", key)
		}
		if !tied && s.stored[key].String() != other.stored[key].String() {
			t.Errorf("%s: got in one order\n%s\nand in the other\n%s", key, s.stored[key], other.stored[key])
		}
	}
}

// keysOf returns the keys of the units of a kind in the tables, in ascending order.
func (s *several) keysOf(kind string) (keys []string) {
	for key := range s.stored {
		if name, ok := strings.CutPrefix(key, kind+" "); ok {
			keys = append(keys, name)
		}
	}
	slices.Sort(keys)
	return keys
}

// writeAsFlujo updates, extends and deletes units as Flujo does, and tests that verify says so.
func (s *several) writeAsFlujo(t *testing.T, random *rand.Rand) {
	t.Helper()
	written := map[string]string{}
	runs := s.keysOf("runs")
	for _, run := range runs[:len(runs)/2] {
		switch written["runs "+run] = report.UnitChanged; random.IntN(3) {
		case 0:
			flujotest.Exec(t, s.conn, fmt.Sprintf(
				"UPDATE flujo.runs SET status = 'other' WHERE run_id = '%s'", run), fmt.Sprintf(
				"UPDATE flujo.workflow_state SET status = 'other' WHERE run_id = '%s'", run))
		case 1:
			flujotest.Exec(t, s.conn, fmt.Sprintf("DELETE FROM flujo.workflow_state WHERE run_id = '%s'", run),
				fmt.Sprintf("DELETE FROM flujo.runs WHERE run_id = '%s'", run))
			written["runs "+run] = report.UnitMissing
		case 2:
			flujotest.Exec(t, s.conn, fmt.Sprintf("UPDATE flujo.workflow_state SET task_id = 'other' "+
				"WHERE run_id = '%s'", run), fmt.Sprintf("INSERT INTO flujo.evaluations (run_id, score) "+
				"SELECT run_id, 7 FROM flujo.runs WHERE run_id = '%s'", run))
		}
	}
	flujotest.Exec(t, s.conn, "INSERT INTO flujo.system_state (key, value) VALUES ('of Flujo', '1')")
	s.wantVerified(t, written)
}

// loseKept deletes what a merge kept of a unit, and puts it back. In between, verify must call that a copy mismatch:
// the unit was superseded, and its rows are nowhere.
func (s *several) loseKept(t *testing.T) {
	t.Helper()
	for i, kept := range s.model.kept {
		for _, key := range slices.Sorted(maps.Keys(kept)) {
			if i < s.flujo {
				continue // it is of no file
			}
			kind, name, _ := strings.Cut(key, " ")
			column := map[string]string{"runs": "run_id", "system_state": "key"}[kind]
			flujotest.Exec(t, s.conn, "CREATE TABLE printed.saved AS SELECT * FROM flujo.flujo_port_originals",
				fmt.Sprintf("DELETE FROM flujo.flujo_port_originals WHERE receipt = %d AND reason = 'superseded' "+
					"AND convert_from(original, 'UTF8')::json->>'%s' = '%s'", s.receipts[i], column, name))
			f := s.files[i-s.flujo]
			result, units, err := s.verify(t, f)
			if clierr.KindOf(err) != clierr.Mismatch || result == nil || result.Verdict != report.CopyMismatch ||
				units[f.path+" "+key].Status != report.UnitMismatched {
				t.Errorf("%s of %s is not kept: got %q and error %v, want a mismatch", key, f.name,
					units[f.path+" "+key].Status, err)
			}
			flujotest.Exec(
				t,
				s.conn,
				"TRUNCATE flujo.flujo_port_originals",
				"INSERT INTO flujo.flujo_port_originals OVERRIDING SYSTEM VALUE SELECT * FROM printed.saved",
				"DROP TABLE printed.saved",
			)
			return
		}
	}
}

// tamper changes a row of a file in a way that Flujo does not: as if the file's migration had written it. verify
// must call that a copy mismatch.
func (s *several) tamper(t *testing.T, random *rand.Rand) {
	t.Helper()
	keys := s.keysOf("system_state")
	if len(keys) == 0 {
		return
	}
	key := keys[random.IntN(len(keys))]
	owner := s.model.owner["system_state "+key]
	if owner < s.flujo {
		return
	}
	flujotest.Exec(t, s.conn, fmt.Sprintf(`UPDATE flujo.system_state SET value = '"other"' WHERE key = '%s'`, key),
		fmt.Sprintf(`UPDATE flujo.flujo_port_receipts SET tables = (SELECT jsonb_agg(
			CASE WHEN t->>'name' <> 'system_state' THEN t
				WHEN t->'merged' IS NULL THEN jsonb_set(t, '{writers}', t->'writers' || w)
				ELSE jsonb_set(t, '{merged,writers}', t->'merged'->'writers' || w) END)
			FROM jsonb_array_elements(tables) t,
				(SELECT to_jsonb(xmin::text::bigint) FROM flujo.system_state WHERE key = '%s') x(w))
		WHERE id = %d`, key, s.receipts[owner]))
	result, units, err := s.verify(t, s.files[owner-s.flujo])
	if clierr.KindOf(err) != clierr.Mismatch || result == nil || result.Verdict != report.CopyMismatch {
		t.Fatalf("got error %v, want a copy mismatch", err)
	}
	if got := units[s.files[owner-s.flujo].path+" system_state "+key]; got.Status != report.UnitMismatched {
		t.Errorf("got %+v, want a mismatch", got)
	}
}

// TestSeveralWiden tests that it stays known which rows are of which file when a later file makes columns bigint, also
// if the files have no run in common, so that rows are not merged, but copied.
func TestSeveralWiden(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		shared, apart := n%2 == 0, n/2 == 0
		t.Run(fmt.Sprintf("runs in common %v, apart %v", shared, apart), func(t *testing.T) {
			t.Parallel()
			var files []*stateFile
			for i, run := range []string{"a", "b", "c"} {
				f := &stateFile{name: run, rows: side{}, rejected: side{}, written: "2026-01-09T09:00:00+00:00"}
				f.rows.addRun(run, run, 3+i, 1)
				if shared {
					f.rows.addRun("shared", run, 3+i, 7)
				}
				f.rows.add("system_state", flujotest.Cells{"key": run})
				files = append(files, f)
			}
			files[1].rows["steps"][0]["token_counts"] = int64(5e9)
			files[1].rows["evaluations"][0]["id"] = int64(6e9)
			files[2].rows["runs"][0]["total_steps"] = int64(7e9)
			files[2].rows["workflow_state"][0]["current_step_index"] = int64(8e9)
			for _, f := range files {
				f.write(t)
			}
			target := side{}
			target.addRun("of Flujo", "h", 3, 1)
			s := newSeveral(t, target, files)
			s.apart = apart
			s.migrate(t)
			s.writeAsFlujo(t, flujotest.Random(1, 0))
		})
	}
}
