package docs_test

import (
	"crypto/sha256"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
)

// auditQueries holds, for each query of docs/audit.md, one that reads the same rows from the state file.
var auditQueries = map[string]string{
	"runs-by-day": `SELECT substr(created_at, 1, 10) || '|' || status || '|' || count(*) FROM runs
		GROUP BY substr(created_at, 1, 10), status`,
	"failed-runs": `SELECT run_id || '|' || pipeline_name || '|' || pipeline_version || '|' ||
		rtrim(replace(replace(created_at, 'T', ' '), '+00:00', ''), '0') || '|' || error_message
		FROM runs WHERE status = 'failed'`,
	"steps-of-latest-run": `SELECT step_index || '|' || step_name || '|' || status || '|' ||
		coalesce(execution_time_ms, '') || '|' || coalesce(token_counts, '') || '|' || coalesce(output, '')
		FROM steps WHERE run_id = (SELECT run_id FROM runs ORDER BY created_at DESC)`,
	"paused-workflows": `SELECT run_id || '|' || pipeline_name || '|' || current_step_index || '|' || pipeline_context
		FROM workflow_state WHERE status = 'paused'`,
	"costs": `SELECT pipeline_name || '|' || count(DISTINCT run_id) || '|' || sum(token_counts) || '|' ||
		coalesce(sum(cost_usd), '') FROM runs JOIN steps USING (run_id) GROUP BY pipeline_name`,
	"traces": `WITH RECURSIVE roots AS (
			SELECT *, row_number() OVER (PARTITION BY run_id ORDER BY start_time, id) AS n FROM spans s
			WHERE NOT EXISTS (SELECT 1 FROM spans p WHERE p.run_id = s.run_id AND p.span_id = s.parent_span_id)),
		tree(run_id, root, span_id, status) AS (
			SELECT run_id, name, span_id, status FROM roots WHERE n = 1
			UNION ALL SELECT s.run_id, t.root, s.span_id, s.status FROM tree t JOIN spans s
				ON s.run_id = t.run_id AND s.parent_span_id = t.span_id)
		SELECT run_id || '|' || root || '|' || sum(status = 'failed') FROM tree
		GROUP BY run_id, root HAVING sum(status = 'failed') > 0`,
	"evaluations": `SELECT pipeline_name || '|' || count(*) || '|' || min(score) || '|' || avg(score) || '|' ||
		max(score) FROM evaluations JOIN runs USING (run_id) GROUP BY pipeline_name`,
}

// stateTables are Flujo's tables in the order of a receipt.
var stateTables = strings.Fields("runs workflow_state steps spans traces evaluations system_state")

// sameCell reports whether a cell that the server printed is that of the state file. A cost in PostgreSQL differs from
// that of the file by at most 6e-8 of it.
func sameCell(got, want string) bool {
	if got == want {
		return true
	}
	a, errA := strconv.ParseFloat(got, 64)
	b, errB := strconv.ParseFloat(want, 64)
	return errA == nil && errB == nil && strings.ContainsAny(want, ".e") && math.Abs(a-b) <= 6e-8*math.Abs(b)
}

// TestAuditQueries runs each query of docs/audit.md on a migrated state file, and compares the rows with those that
// SQLite reads from the file.
func TestAuditQueries(t *testing.T) {
	t.Parallel()
	p, url := open(t, "audit.md"), pgtest.Database(t)
	file := flujotest.Changed(t,
		"UPDATE steps SET output = 'no JSON' WHERE id = 7",
		"UPDATE steps SET output = CAST(x'22ff22' AS TEXT) WHERE id = 9",
		"UPDATE runs SET error_message = 'a' || char(0) || 'b' WHERE status = 'cancelled'")
	before := time.Now()
	flujotest.Migrate(t, flujotest.Options(t, file, url))

	for name, own := range auditQueries {
		got, want := query(t, url, p.block("sql "+name)), fileQuery(t, file, own)
		slices.Sort(got)
		slices.Sort(want)
		if len(want) == 0 || len(got) != len(want) {
			t.Errorf("%s: got %d rows, want %d:\n%q\n%q", name, len(got), len(want), got, want)
			continue
		}
		for i := range want {
			g, w := strings.Split(got[i], "|"), strings.Split(want[i], "|")
			if last := len(w) - 1; name == "steps-of-latest-run" || name == "paused-workflows" {
				w[last] = query(t, url, "SELECT left('"+strings.ReplaceAll(w[last], "'", "''")+"'::jsonb::text, "+
					map[bool]string{true: "80", false: "10000"}[name == "steps-of-latest-run"]+")")[0]
			}
			if !slices.EqualFunc(g, w, sameCell) {
				t.Errorf("%s: got %q, want %q", name, g, w)
			}
		}
	}

	flujotest.WantSame(t, "originals by reason", query(t, url, p.block("sql originals-by-reason")),
		[]string{"runs|error_message|nul-removed|2", "steps|output|invalid-json|1", "steps|output|invalid-utf8|1"})
	flujotest.WantSame(t, "originals of steps", query(t, url, p.block("sql originals-of-steps")),
		[]string{`7|"no JSON"|invalid-json|text|\x6e6f204a534f4e`, `9|"` + "\ufffd" + `"|invalid-utf8|text|\x22ff22`})

	digests := strings.Split(query(t, url, p.block("sql digest-of-originals"))[0], "|")
	if len(digests) != 5 || digests[1] != "4" || digests[2] == "0,0" || !slices.Equal(digests[1:3], digests[3:]) {
		t.Errorf("got digests %q of the original values, want twice that of 4", digests)
	}
	receipt := strings.Split(query(t, url, p.block("sql receipts"))[0], "|")
	at, err := time.Parse("2006-01-02 15:04:05.999999-07", receipt[1])
	content := read(t, file)
	want := []string{"1", receipt[1], receipt[2], file, strconv.Itoa(len(content)),
		fmt.Sprintf("%x", sha256.Sum256([]byte(content))), "", "Flujo 0.6", "content"}
	if err != nil || at.Before(before.Add(-time.Minute)) || at.After(time.Now().Add(time.Minute)) ||
		!slices.Equal(receipt, want) {
		t.Errorf("got receipt %q (%v), want %q", receipt, err, want)
	}
	var rows []string
	for _, table := range stateTables {
		n, derived := fileQuery(t, file, "SELECT count(*) FROM "+table)[0], "0"
		inPostgres := n
		if table == "traces" {
			derived = fileQuery(t, file, "SELECT count(DISTINCT run_id) FROM spans")[0]
			inPostgres = derived
		}
		rows = append(rows, table+"|"+n+"|0|"+derived+"|"+inPostgres)
	}
	flujotest.WantSame(t, "rows of the receipt", query(t, url, p.block("sql receipt-rows")), rows)

	ofReceipt := query(t, url, `SELECT t ->> 'rows', t ->> 'digest' FROM flujo.flujo_port_receipts,
		jsonb_array_elements(tables) t WHERE t ->> 'name' = 'steps'`)
	flujotest.WantSame(t, "digest of steps", query(t, url, p.block("sql digest-of-steps")), ofReceipt)
	flujotest.ExecAt(t, url, "UPDATE flujo.steps SET step_index = step_index + 1 WHERE id = 1")
	if now := query(t, url, p.block("sql digest-of-steps")); slices.Equal(now, ofReceipt) {
		t.Error("the digest of steps does not depend on a cell")
	}
	p.block("sh compare") // TestDigests
	p.wantUsed()
}

// compareDigests runs the command of docs/audit.md that compares a state file with the receipt.
// Those of its programs that are failing end with an error.
func compareDigests(t *testing.T, file, url string, failing ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := exec.Command("sh", "-uc", open(t, "audit.md").block("sh compare"))
	folder := t.TempDir()
	write(t, filepath.Join(folder, "digests.py"), read(t, "../../docs/digests.py"))
	for name, program := range map[string]string{"psql": pgtest.Client(t, url, "psql"), "python3": python(t)} {
		if slices.Contains(failing, name) {
			program = "false"
		}
		write(t, filepath.Join(folder, name), "#!/bin/sh\nexec "+program+" \"$@\"\n")
	}
	c.Dir = folder
	c.Env = append(c.Environ(), "PATH="+folder+":/usr/bin:/bin", "FILE="+file, "DATABASE_URL="+url)
	return run(t, c)
}

// wantDigests migrates a file and tests that digests.py prints what the query of docs/audit.md reads of the receipt.
func wantDigests(t *testing.T, o migrate.Options, options ...string) {
	t.Helper()
	flujotest.Migrate(t, o)
	_, command, _ := strings.Cut(open(t, "audit.md").block("sh compare"), `--command "`)
	ofReceipt, _, _ := strings.Cut(command, `"`)
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(read(t, o.SQLite))))
	want := query(t, o.Postgres, strings.ReplaceAll(ofReceipt, "$sha256", sum))
	args := append([]string{"../../docs/digests.py", o.SQLite}, options...)
	stdout, stderr, code := run(t, exec.Command(python(t), args...))
	got := strings.Split(strings.ReplaceAll(strings.TrimSpace(stdout), " ", "|"), "\n")
	if code != 0 || len(want) < len(stateTables) || !slices.Equal(got, want) {
		t.Errorf("exit %d: got %q, want %q: %s", code, got, want, stderr)
	}
}

// TestDigests compares the digests of docs/digests.py with the receipts of migrations.
func TestDigests(t *testing.T) {
	t.Parallel()
	t.Run("fixture", func(t *testing.T) {
		t.Parallel()
		wantDigests(t, flujotest.Options(t, absolute(t, flujotest.Fixture), pgtest.Database(t)))
	})
	t.Run("command", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		file := absolute(t, flujotest.Fixture)
		flujotest.Migrate(t, flujotest.Options(t, file, url))
		if stdout, stderr, code := compareDigests(t, file, url); code != 0 || stdout != "the digests are equal\n" {
			t.Errorf("exit %d: %s%s", code, stdout, stderr)
		}
		other := flujotest.Changed(t, "UPDATE evaluations SET score = score * 2 WHERE id = 3")
		stdout, _, code := compareDigests(t, other, url)
		if code != 1 || stdout != "no receipt with rows has the SHA-256 of this file\n" {
			t.Errorf("another file: exit %d: %s", code, stdout)
		}
		for _, failing := range []string{"psql", "python3"} {
			if stdout, _, code := compareDigests(t, file, url, failing); code == 0 || stdout != "" {
				t.Errorf("%s fails: exit %d: %s", failing, code, stdout)
			}
		}
		// A receipt whose digest is not that of the file, and a file that was merged before another one.
		flujotest.ExecAt(t, url, `UPDATE flujo.flujo_port_receipts SET tables = replace(tables::text,
			(SELECT t ->> 'digest' FROM jsonb_array_elements(tables) t WHERE t ->> 'name' = 'evaluations'),
			'1,2')::jsonb`)
		stdout, _, code = compareDigests(t, file, url)
		if code != 1 || strings.Count(stdout, "evaluations 15 ") != 2 || strings.Contains(stdout, "equal") {
			t.Errorf("another digest: exit %d: %s", code, stdout)
		}
	})
	t.Run("merged before another file", func(t *testing.T) {
		t.Parallel()
		url := pgtest.Database(t)
		file, other := absolute(t, flujotest.Fixture), flujotest.Changed(t, "UPDATE system_state SET key = 'b' || key")
		o := flujotest.Options(t, file, url)
		flujotest.Migrate(t, o)
		o.SQLite, o.Merge = other, true
		flujotest.Migrate(t, o)
		for _, one := range []string{file, other} {
			if stdout, stderr, code := compareDigests(t, one, url); code != 0 || stdout != "the digests are equal\n" {
				t.Errorf("%s: exit %d: %s%s", one, code, stdout, stderr)
			}
		}
	})
	t.Run("exact floats", func(t *testing.T) {
		t.Parallel()
		o := flujotest.Options(t, absolute(t, flujotest.Fixture), pgtest.Database(t))
		o.ExactFloats = true
		wantDigests(t, o, "--exact-floats")
	})
	t.Run("naive timestamps", func(t *testing.T) {
		t.Parallel()
		zone, err := time.LoadLocation("Europe/Berlin")
		if err != nil {
			t.Fatal(err)
		}
		file := flujotest.Changed(t,
			"UPDATE runs SET created_at = '2026-07-01T12:00:00.5', updated_at = '2026-10-25T02:30:00'",
			"UPDATE steps SET created_at = '2026-03-29T02:30:00' WHERE id % 2",
			"UPDATE evaluations SET created_at = '2026-11-23 02:18:25'",
			"UPDATE system_state SET updated_at = '2026-11-23'")
		o := flujotest.Options(t, file, pgtest.Database(t))
		o.NaiveZone = zone
		wantDigests(t, o, "--naive-timezone", "Europe/Berlin")
	})
	t.Run("rows in the -wal", func(t *testing.T) {
		t.Parallel()
		file := flujotest.Copy(t, flujotest.Fixture)
		flujotest.KeepOpen(t, file, "UPDATE runs SET status = 'in the wal'", func() {
			before := fileQuery(t, file, "SELECT DISTINCT status FROM runs")
			if slices.Contains(before, "in the wal") {
				t.Fatal("the row is not in the -wal")
			}
			wantDigests(t, flujotest.Options(t, file, pgtest.Database(t)))
		})
	})
	t.Run("merge", func(t *testing.T) {
		t.Parallel()
		o := flujotest.Options(t, absolute(t, flujotest.Fixture), pgtest.Database(t))
		flujotest.Migrate(t, o)
		flujotest.ExecAt(t, o.Postgres, "UPDATE flujo.runs SET status = 'later', updated_at = now()")
		o.Merge = true
		wantDigests(t, o)
	})
	t.Run("odd cells", func(t *testing.T) {
		t.Parallel()
		o := flujotest.Options(t, oddFile(t), pgtest.Database(t))
		o.SkipIntegrity = true
		wantDigests(t, o)
	})
}

// negativeZero is a float that a literal cannot state.
var negativeZero = math.Copysign(0, -1)

// The cells that digests.py converts, by the letter of their column.
var oddCells = map[byte][]any{
	'T': {"", "a\x00b", "é心😀\u2028\x7f", "a\xffb\xe2\x82c", []byte("bytes\xfe\x00"), int64(-7), "\\\"\t", nil},
	'J': {
		nil,
		"null",
		" null\n",
		"",
		" ",
		"x",
		"\ufeff{}",
		"a\x00b",
		`{"a":1`,
		"01",
		"-",
		"tru",
		"[1,]",
		"\"\t\"",
		"{'a':1}",
		"NaN",
		"[NaN,Infinity,-Infinity]",
		"-NaN",
		"nan",
		`{"NaN":NaN}`,
		"1e2",
		"1E+2",
		"-0",
		"-0.0",
		"-0.00e1",
		"1.50",
		"1.50e1",
		"123e-5",
		"1e400",
		"-12345678901234567890123456789.5",
		"5e-324",
		`{"bb":1,"a":2,"ü":3,"aa":4,"":5}`,
		`{"a":1,"b":2,"a":3}`,
		`{"a":1,"a\u0000":2,"a":{"x":[]}}`,
		`{"\u0000a":1,"a":2}`,
		`"\ud83d\ude00\u00e9\/\b\f\n\r\t\u001f\u007f\u2028"`,
		`"\ud800"`,
		`"\udc00x\ud83d\u0000\ude00"`,
		`{"\ud800":1,"\udfff":2}`,
		"\"a\x00b\"",
		"[\x00]",
		"\"a\xff\"",
		"\xff",
		`"\x"`,
		`"\u12"`,
		" [ 1 , { \"a\" : [ ] , \"b\" : { } } , true , false , null ] ",
		"[" + strings.Repeat("[", 290) + strings.Repeat("]", 290) + "]",
		[]byte(
			`{"blob":true}`,
		),
		[]byte{0xff, 0},
		int64(12),
		int64(-1 << 62),
		12.5,
		5.0,
		negativeZero,
		1e22,
		1e-7,
		math.Inf(1),
		math.Inf(-1),
		"\"\\u0000\"",
		"[1] x",
		"{\"a\": 1e5, \"b\": 100000.0}",
		strings.Repeat(" ", 100) + "7",
		"1.",
		".5",
		"+1",
		"0x10",
		"1e",
		"1e+",
		"[1e-7, 0.0000001, 100000000000000000000, 1E22]",
		"\"\\ud83d\\ude00\\ud83d\"",
		"'",
		"\"",
		"\"\\",
		"{\"a\" 1}",
		"[\"\u2029\"]",
	},
	'I': {int64(0), int64(-1), int64(1 << 40), int64(math.MinInt64), 2.5, 3.5, -0.5, 12.0, 1e15, nil},
	'R': {0.1, 1e-50, negativeZero, int64(3), int64(1<<62 + 1), 3.4e38, math.Inf(1), math.Inf(-1), 1e-40, nil},
	'D': {
		0.1,
		1767603600.123456,
		5e-324,
		negativeZero,
		int64(1<<53 + 1),
		1e22,
		1e-7,
		123456789012345680.0,
		math.Inf(1),
		1e300,
		nil,
	},
	'B': {int64(0), int64(1), int64(2), 0.0, 0.5, "", "0", "x", []byte{}, []byte{0}, nil},
	'Z': {
		"2026-01-05T09:00:01.669094+00:00",
		"2026-01-05 09:00:01+02",
		"2026-01-05T09:00:01-0530",
		"2026-01-05T09:00+01:30:15",
		"2026-01-05",
		"2026-01-05T09:00",
		"2026-01-05 09:00",
		"2026-11-23 02:18:25",
		"2026-11-23 02:18:25.5",
		"2026-11-23T02:18:25",
		"2026-01-05T09:00:01.1234567Z",
		"2026-01-05T09:00:01.9999999Z",
		"1969-12-31T23:59:59.000001Z",
		"0001-01-01T00:00:00Z",
		"9999-12-31T23:59:59.999999Z",
		int64(0),
		int64(-1),
		1767603600.25,
		0.0000005,
		0.0000015,
		-1.5,
		[]byte("2026-01-05T09:00:01Z"),
	},
}

// oddFile writes a state file with the cells of oddCells in every column that takes them.
func oddFile(t *testing.T) string {
	t.Helper()
	f := flujotest.NewFile(t, flujotest.Format06)
	letters := map[string]map[string]byte{
		"runs": {"pipeline_version": 'T', "error_message": 'T', "execution_time_ms": 'I', "total_steps": 'I',
			"memory_usage_mb": 'R', "created_at": 'Z', "updated_at": 'Z'},
		"workflow_state": {"pipeline_context": 'J', "last_step_output": 'J', "step_history": 'J', "metadata": 'J',
			"is_background_task": 'B', "task_id": 'T', "background_error": 'T', "current_step_index": 'I'},
		"steps":        {"output": 'J', "raw_response": 'J', "cost_usd": 'R', "token_counts": 'I', "step_name": 'T'},
		"spans":        {"name": 'T', "attributes": 'J', "end_time": 'D', "start_time": 'D', "created_at": 'Z'},
		"traces":       {"trace_data": 'J', "created_at": 'Z'},
		"evaluations":  {"score": 'D', "metadata": 'J', "feedback": 'T', "created_at": 'Z'},
		"system_state": {"value": 'J', "updated_at": 'Z'},
	}
	random := flujotest.Random(flujotest.Seed(t), 0)
	required := strings.Fields("pipeline_version current_step_index step_name name start_time trace_data score value")
	const rows = 150
	for i := range rows {
		for _, table := range stateTables {
			cells := flujotest.Cells{}
			for column, letter := range letters[table] {
				pool := oddCells[letter]
				v := pool[(i+random.IntN(3)*len(pool)/3)%len(pool)]
				if v == nil && slices.Contains(required, column) {
					continue
				}
				cells[column] = v
			}
			run := fmt.Sprintf("run %d é", i)
			switch table {
			case "system_state":
				cells["key"] = run
			case "spans": // three in each run, in trees of all shapes
				run = fmt.Sprintf("run %d é", i/3)
				cells["span_id"] = []string{"0", "1", ""}[i%3]
				cells["parent_span_id"] = []any{nil, "", "0", "1", "9"}[random.IntN(5)]
				fallthrough
			default:
				cells["run_id"] = run
			}
			if table == "traces" && i%2 == 0 { // the others are derived
				continue
			}
			if table == "steps" {
				cells["id"] = int64(rows - i)
			}
			f.Insert(table, cells)
		}
	}
	return f.Close()
}

// TestDigestsStop tests that digests.py prints no digest of a file that it does not convert.
func TestDigestsStop(t *testing.T) {
	t.Parallel()
	for statement, why := range map[string]string{
		"UPDATE runs SET created_at = ''":                                                "not readable",
		"UPDATE steps SET created_at = '2026-02-30T00:00:00Z'":                           "not readable",
		"UPDATE steps SET created_at = '2026-01-05T00:00:00+24:00'":                      "not readable",
		"UPDATE steps SET token_counts = '7 tokens' WHERE id = 3":                        "text or out of range",
		"UPDATE steps SET token_counts = 9e999 WHERE id = 3":                             "text or out of range",
		"UPDATE steps SET cost_usd = 1e39 WHERE id = 3":                                  "text or out of range",
		"DELETE FROM runs WHERE status = 'failed'":                                       "needs a stub run",
		"UPDATE steps SET run_id = 'x' WHERE id = 3":                                     "needs a stub run",
		"UPDATE system_state SET key = CAST(key AS BLOB)":                                "not a plain key",
		"UPDATE system_state SET key = key || char(0)":                                   "not a plain key",
		"INSERT INTO system_state VALUES (NULL, '1', '2026-01-05')":                      "not a plain key",
		"UPDATE runs SET pipeline_name = hex(randomblob(2000))":                          "the row is rejected",
		"UPDATE steps SET output = '1e20000' WHERE id = 3":                               "numeric may not be able",
		"UPDATE steps SET output = '1e999999999999999999999' WHERE id = 3":               "numeric may not be able",
		"UPDATE steps SET output = replace(hex(zeroblob(1000)), '0', '[')":               "300 levels",
		"ALTER TABLE steps DROP COLUMN cost_usd":                                         "not that of Flujo 0.6",
		"UPDATE steps SET output = '\"' || char(92) || char(0) || '\"'":                  "NUL after a backslash",
		"UPDATE steps SET output = replace(hex(zeroblob(17e6)), '0', 'no') WHERE id = 3": "32 MB",
		"UPDATE workflow_state SET current_step_index = 'x'":                             "text or out of range",
		"UPDATE steps SET output = replace(hex(zeroblob(180)), '0', '[')" +
			" || replace(hex(zeroblob(180)), '0', ']')": "300 levels",
	} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			file := flujotest.Changed(t, "PRAGMA ignore_check_constraints = on", "PRAGMA foreign_keys = off", statement)
			stdout, stderr, code := run(t, exec.Command(python(t), "../../docs/digests.py", file))
			if code != 1 || stdout != "" || !strings.Contains(stderr, why) || strings.Contains(stderr, "Traceback") {
				t.Errorf("%s: exit %d: %s%s", statement, code, stdout, stderr)
			}
		})
	}
	for _, file := range []string{
		"flujo_0.4.35.db", "flujo_0.4.35_opened_by_0.6.11.db", "no_such_file.db", "../README.md", ".",
	} {
		stdout, stderr, code := run(t, exec.Command(python(t), "../../docs/digests.py", "../../testdata/"+file))
		if code != 1 || stdout != "" || strings.Contains(stderr, "Traceback") {
			t.Errorf("%s: exit %d: %s%s", file, code, stdout, stderr)
		}
	}
}

// TestDigestsPGVector is TestDigests for memories.
func TestDigestsPGVector(t *testing.T) {
	t.Parallel()
	url := pgtest.PGVector(t)
	file, memories := flujotest.MemoriesFile(t)
	o := flujotest.PGVectorOptions(t, file, url)
	wantDigests(t, o)
	if got := query(t, url, "SELECT count(*) FROM flujo.memories")[0]; got != strconv.Itoa(len(memories)) {
		t.Errorf("there are %s memories", got)
	}
}
