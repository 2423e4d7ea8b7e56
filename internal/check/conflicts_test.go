package check_test

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/check"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"

	"github.com/jackc/pgx/v5"
)

// The times of the rows of these tests, from early to late.
var times = []string{
	"2026-02-01T10:00:00+00:00", "2026-02-01T11:00:00+00:00", "2026-02-01T12:00:00+00:00", "2026-02-01T13:00:00+00:00",
}

// fileOf writes a state file with the rows that fill inserts. It was last written at the given time.
func fileOf(t testing.TB, written string, fill func(f *flujotest.File)) string {
	t.Helper()
	f := flujotest.NewFile(t, flujotest.Format06)
	fill(f)
	path := f.Close()
	at, err := time.Parse(time.RFC3339, written)
	if err == nil {
		err = os.Chtimes(path, at, at)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// severalOptions returns the options that check files, and also url unless it is empty.
func severalOptions(t testing.TB, url string, files ...string) check.Options {
	t.Helper()
	o := checkOptions(t, files[0], url)
	o.More = files[1:]
	return o
}

// inFile returns the report of one of several files.
func inFile(t testing.TB, result *report.Check, path string) *report.CheckedFile {
	t.Helper()
	for _, f := range result.Files {
		if f.Path == path {
			return f
		}
	}
	t.Fatalf("no file %s in %+v", path, result.Files)
	return nil
}

// wantInFile tests the status and the words of a line about one of several files.
func wantInFile(t testing.TB, result *report.Check, path, name string, state report.Status, words ...string) {
	t.Helper()
	wantChecked(t, &report.Check{Results: inFile(t, result, path).Results}, name, state, words...)
}

// conflictsOf returns the conflicts of a kind.
func conflictsOf(t testing.TB, result *report.Check, kind string) report.Conflicts {
	t.Helper()
	for _, u := range result.Conflicts {
		if u.Kind == kind {
			return u
		}
	}
	t.Fatalf("no conflicts of %s in %+v", kind, result.Conflicts)
	return report.Conflicts{}
}

// run inserts a run with a step, both of the same time, whose status is the run's content.
func run(key, status, at string) func(f *flujotest.File) {
	return func(f *flujotest.File) {
		f.Insert("runs", flujotest.Cells{"run_id": key, "status": status, "created_at": times[0], "updated_at": at})
		f.Insert("steps", flujotest.Cells{"run_id": key, "created_at": times[0]})
	}
}

// all returns a function that inserts what each of the given ones does.
func all(some ...func(f *flujotest.File)) func(f *flujotest.File) {
	return func(f *flujotest.File) {
		for _, one := range some {
			one(f)
		}
	}
}

// insert returns a function that inserts a row.
func insert(table string, row flujotest.Cells) func(f *flujotest.File) {
	return func(f *flujotest.File) { f.Insert(table, row) }
}

// TestConflict tests whose version of one unit would win. The files have the names a, b and c.
func TestConflict(t *testing.T) {
	t.Parallel()
	state := func(value string, at any) func(f *flujotest.File) {
		return insert("system_state", flujotest.Cells{"key": "k", "value": value, "updated_at": at})
	}
	for _, tc := range []struct {
		name  string
		kind  string
		files []func(f *flujotest.File)
		want  string // the winner, the superseded files, and "tied"; or "equal" or "none"
	}{
		{"the second is newer", mapping.Runs, []func(*flujotest.File){
			run("r", "paused", times[0]), run("r", "completed", times[1])}, "b a"},
		{"the first is newer", mapping.Runs, []func(*flujotest.File){
			run("r", "paused", times[1]), run("r", "completed", times[0])}, "a b"},
		{"a tie", mapping.Runs, []func(*flujotest.File){
			run("r", "paused", times[1]), run("r", "completed", times[1])}, "a b tied"},
		{"the latest of three", mapping.Runs, []func(*flujotest.File){
			run("r", "paused", times[1]), run("r", "failed", times[0]), run("r", "completed", times[2])}, "c a,b"},
		{"the winner is in two files", mapping.Runs, []func(*flujotest.File){
			run("r", "paused", times[0]), run("r", "failed", times[1]), run("r", "failed", times[1])}, "b a"},
		{"the loser is in two files", mapping.Runs, []func(*flujotest.File){
			run("r", "paused", times[0]), run("r", "failed", times[1]), run("r", "paused", times[0])}, "b a,c"},
		{"a tie that a third file ends", mapping.Runs, []func(*flujotest.File){
			run("r", "paused", times[0]), run("r", "failed", times[0]), run("r", "completed", times[1])}, "c a,b"},
		{"only the last two have it", mapping.Runs, []func(*flujotest.File){
			run("q", "paused", times[0]), run("r", "failed", times[0]), run("r", "completed", times[1])}, "c b"},
		{"none has the other's", mapping.Runs, []func(*flujotest.File){
			run("q", "paused", times[0]), run("r", "failed", times[0])}, "none"},
		{"a step is newer", mapping.Runs, []func(*flujotest.File){
			run("r", "paused", times[1]),
			all(run("r", "paused", times[1]),
				insert("steps", flujotest.Cells{"run_id": "r", "created_at": times[2]}))}, "b a"},
		{"only the rows of workflow_state", mapping.Runs, []func(*flujotest.File){
			insert("workflow_state", flujotest.Cells{"run_id": "w", "created_at": times[0], "updated_at": times[0]}),
			insert("workflow_state", flujotest.Cells{"run_id": "w", "created_at": times[0], "updated_at": times[1]})},
			"b a"},
		{"other ids", mapping.Runs, []func(*flujotest.File){
			all(run("q", "paused", times[0]), run("r", "paused", times[1])), run("r", "paused", times[1])}, "equal"},
		{"JSON null and NULL", mapping.Runs, []func(*flujotest.File){
			all(run("r", "paused", times[1]), insert("steps", flujotest.Cells{"run_id": "r", "output": "null"})),
			all(run("r", "paused", times[1]), insert("steps", flujotest.Cells{"run_id": "r"}))}, "equal"},
		{"JSON in another order", "system_state", []func(*flujotest.File){
			state(`{"a": 1, "b": 2}`, times[0]), state(`{"b":2,"a":1}`, times[0])}, "equal"},
		{"a newer key", "system_state", []func(*flujotest.File){state("1", times[0]), state("2", times[1])}, "b a"},
		// A time that is missing is inferred from the modification time, the last time, and does not count.
		{"an inferred time", "system_state", []func(*flujotest.File){state("1", times[0]), state("2", nil)}, "a b"},
		{"the modification time", "system_state", []func(*flujotest.File){
			state("1", times[0]), state("2", times[3])}, "a b"},
		{"two inferred times", "system_state", []func(*flujotest.File){state("1", nil), state("2", nil)}, "a b tied"},
		{"the key of a run", "system_state", []func(*flujotest.File){
			run("k", "paused", times[0]), state("1", times[0])}, "none"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var files []string
			names := map[string]string{}
			for i, fill := range tc.files {
				// Another table, so that files with the same rows do not have the same content.
				files = append(files, fileOf(t, times[3], all(fill, func(f *flujotest.File) {
					f.Exec(fmt.Sprintf("CREATE TABLE of_file_%d (a)", i))
				})))
				names[files[i]] = string(rune('a' + i))
			}
			result := checked(t, severalOptions(t, "", files...))
			u := conflictsOf(t, result, tc.kind)
			got := "none"
			switch {
			case u.Different == 1 && u.Units == 1 && u.Equal == 0 && len(u.First) == 1:
				var superseded []string
				for _, path := range u.First[0].Superseded {
					superseded = append(superseded, names[path])
				}
				got = names[u.First[0].From] + " " + strings.Join(superseded, ",")
				if u.First[0].Tied {
					got += " tied"
				}
				wantChecked(t, result, tc.kind, report.Warning, "1 in several files: 0 equal, 1 different",
					"flujo_port_originals")
			case u.Units == 1 && u.Equal == 1 && u.Different == 0 && len(u.First) == 0:
				got = "equal"
				wantChecked(t, result, tc.kind, report.OK, "1 in several files, all equal")
			case u.Units == 0 && len(u.First) == 0:
				wantChecked(t, result, tc.kind, report.OK, "none is in several files")
			default:
				got = fmt.Sprintf("%+v", u)
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// TestConflictsAsMigrated compares what check says of random files with what their migration did: whose rows it kept as
// superseded, and whose version it stored.
func TestConflictsAsMigrated(t *testing.T) {
	t.Parallel()
	for n := range 3 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			random := flujotest.Random(flujotest.Seed(t), n)
			var files []string
			for i := range 3 {
				// Half past, so that a time that is inferred for one file is none that another has.
				written := strings.Replace(times[random.IntN(len(times))], ":00:", ":30:", 1)
				files = append(files, fileOf(t, written, func(f *flujotest.File) { fillRandom(f, random, i) }))
			}
			url := pgtest.Database(t)
			result := checked(t, severalOptions(t, url, files...))
			wantChecked(t, result, "dry run", report.OK)
			o := flujotest.Options(t, files[0], url)
			o.More = files[1:]
			migrated := flujotest.Migrate(t, o)
			fileBy := map[string]int{fmt.Sprint(migrated.Receipt): 0}
			for i, further := range migrated.Further {
				fileBy[fmt.Sprint(further.Receipt)] = i + 1
			}
			conn := flujotest.Connect(t, url)
			for _, kind := range []string{"runs", "system_state"} {
				column := map[string]string{"runs": "run_id", "system_state": "key"}[kind]
				has := map[string][]int{} // the files that have a key, in their order
				for i, file := range files {
					for _, key := range keysOf(t, file, kind, column) {
						has[key] = append(has[key], i)
					}
				}
				superseded := map[string][]int{}
				for _, row := range threeColumns(t, conn, `SELECT DISTINCT receipt::text,
						convert_from(original, 'UTF8')::jsonb ->> $1, '' FROM flujo.flujo_port_originals
					WHERE reason = 'superseded' AND (table_name = 'system_state') = ($1 = 'key')`, column) {
					superseded[row[1]] = append(superseded[row[1]], fileBy[row[0]])
				}
				// A version that was there already when its file was migrated is not kept again.
				for _, row := range threeColumns(t, conn, `SELECT receipt::text, row_key, convert_from(original, 'UTF8')
					FROM flujo.flujo_port_originals WHERE reason = 'equal' AND table_name = $1`, kind) {
					if slices.Contains(superseded[row[1]], fileBy[row[2]]) {
						superseded[row[1]] = append(superseded[row[1]], fileBy[row[0]])
					}
				}
				wantConflicts(t, conflictsOf(t, result, kind), files, has, superseded)
			}
		})
	}
}

// threeColumns returns the rows of a query with three columns of text.
func threeColumns(t testing.TB, conn *pgx.Conn, query string, arg any) [][3]string {
	t.Helper()
	rows, err := conn.Query(context.Background(), query, arg)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (three [3]string, err error) {
		return three, row.Scan(&three[0], &three[1], &three[2])
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// wantConflicts tests the conflicts of one kind, given the files that have each key, and those of them whose version
// was superseded.
func wantConflicts(t *testing.T, got report.Conflicts, files []string, has, superseded map[string][]int) {
	t.Helper()
	want := report.Conflicts{Kind: got.Kind}
	var different []report.Conflict
	for key, in := range has {
		if len(in) < 2 {
			continue
		}
		want.Units++
		lost := slices.Sorted(slices.Values(superseded[key]))
		if len(lost) == 0 {
			want.Equal++
			continue
		}
		one := report.Conflict{Key: key}
		for _, i := range in {
			switch {
			case slices.Contains(lost, i):
				one.Superseded = append(one.Superseded, files[i])
			case one.From == "":
				one.From = files[i]
			}
		}
		different = append(different, one)
	}
	want.Different = int64(len(different))
	if got.Units != want.Units || got.Equal != want.Equal || got.Different != want.Different {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if want.Equal == 0 || want.Different <= 10 {
		t.Errorf("these files test too little: %+v", want)
	}
	slices.SortFunc(different, func(a, b report.Conflict) int { return cmp.Compare(a.Key, b.Key) })
	for i := range got.First {
		got.First[i].Tied = false // the migration's originals do not say so
	}
	flujotest.WantSame(t, got.Kind, texts(got.First), texts(different[:min(10, len(different))]))
}

// texts returns a text of each conflict.
func texts(conflicts []report.Conflict) (all []string) {
	for _, one := range conflicts {
		all = append(all, fmt.Sprintf("%+v", one))
	}
	return all
}

// fillRandom inserts random rows, so that several files have some of the units, some of them with the same content.
func fillRandom(f *flujotest.File, random *rand.Rand, file int) {
	pick := func(from ...any) any { return from[random.IntN(len(from))] }
	for _, i := range random.Perm(40) {
		if random.IntN(4) == 0 {
			continue
		}
		key := fmt.Sprintf("run %02d", i)
		if i < 4 { // equal in all files
			run(key, "completed", times[i])(f)
			continue
		}
		run(key, pick("completed", "paused").(string), times[random.IntN(3)])(f)
		for range random.IntN(2) {
			f.Insert("steps", flujotest.Cells{"run_id": key, "output": pick(nil, "null", "1"), "created_at": times[1]})
		}
		if random.IntN(3) == 0 {
			f.Insert("workflow_state", flujotest.Cells{
				"run_id": key, "created_at": times[0], "updated_at": pick(times[0], times[1], nil)})
		}
	}
	for i := range 40 {
		if i < 4 { // equal in all files
			f.Insert("system_state", flujotest.Cells{"key": fmt.Sprintf("key %02d", i), "updated_at": times[i]})
			continue
		}
		if random.IntN(4) > 0 {
			f.Insert("system_state", flujotest.Cells{"key": fmt.Sprintf("key %02d", i), "value": pick("1", "2", "null"),
				"updated_at": pick(times[0], times[1], times[3], nil)})
		}
	}
	f.Insert("system_state", flujotest.Cells{"key": fmt.Sprintf("only of file %d", file)})
}

// keysOf returns the keys of a table in a state file.
func keysOf(t testing.TB, file, table, column string) []string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro&immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	return flujotest.QueryColumn(t, db, "SELECT "+column+" FROM "+table)
}

// TestManyConflicts tests more units than are compared at a time, and that the first keys are those in their order.
func TestManyConflicts(t *testing.T) {
	t.Parallel()
	const shared, equal, atOnce = 12_000, 100, 10_000
	fill := func(value string, first, last int) func(f *flujotest.File) {
		return func(f *flujotest.File) {
			f.Exec(`INSERT INTO system_state WITH RECURSIVE n(i) AS (SELECT ? UNION ALL SELECT i + 1 FROM n WHERE i < ?)
				SELECT printf('key %06d', i), CASE WHEN i <= ? THEN '0' ELSE ? END, '2026-01-05T09:00:00+00:00' FROM n`,
				first, last, equal, value)
		}
	}
	a, b := fileOf(
		t,
		times[0],
		fill("1", 1, shared+10),
	), fileOf(
		t,
		times[0],
		all(fill("2", 1, shared), fill("2", shared+11, shared+20)),
	)
	o := severalOptions(t, "", a, b)
	compared := 0
	o.OnProgress = func(p progress.Event) {
		if p.Phase == progress.Compare {
			compared++
		}
	}
	result, err := check.RunInParts(context.Background(), o, atOnce)
	if err != nil {
		t.Fatal(err)
	}
	u := conflictsOf(t, result, "system_state")
	if u.Units != shared || u.Equal != equal || u.Different != shared-equal || compared != 2 {
		t.Errorf("compared %d times: %d units, %d equal, %d different", compared, u.Units, u.Equal, u.Different)
	}
	var keys, want []string
	for i, one := range u.First {
		keys, want = append(keys, one.Key), append(want, fmt.Sprintf("key %06d", equal+1+i))
	}
	if len(want) != 10 || !slices.Equal(keys, want) {
		t.Errorf("got the keys %v, want %v", keys, want)
	}
	wantChecked(t, result, "system_state", report.Warning, "12,000 in several files: 100 equal, 11,900 different")
}

// TestMemoriesInConflict tests memories of which one is different.
func TestMemoriesInConflict(t *testing.T) {
	t.Parallel()
	a, memories := flujotest.MemoriesFile(t)
	b := flujotest.Copy(t, a)
	flujotest.Change(t, b, "UPDATE memories SET payload = '{\"other\": 1}' WHERE id = ?", memories[0].ID)
	u := conflictsOf(t, checked(t, severalOptions(t, "", a, b)), mapping.Memories)
	if u.Different != 1 || u.Units != int64(len(memories)) || u.Equal != u.Units-1 || u.First[0].Key != memories[0].ID {
		t.Errorf("of %d memories, got %+v", len(memories), u)
	}
}
