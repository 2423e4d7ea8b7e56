package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// ifNeeded is a database, and a program that migrates files to it with --if-needed.
type ifNeeded struct {
	*program
	t   *testing.T
	url string
}

func newIfNeeded(t *testing.T) *ifNeeded {
	url := pgtest.WithPassword(t, pgtest.Database(t))
	return &ifNeeded{program: newProgram(t, "DATABASE_URL="+url), t: t, url: url}
}

// migrate runs migrate with arguments, tests its exit code and returns its output, with the report on one line. A file
// is named by its path alone.
func (m *ifNeeded) migrate(code int, args ...string) (stdout, stderr string) {
	m.t.Helper()
	command := []string{"migrate", "--without-pgvector"}
	for _, arg := range args {
		if filepath.IsAbs(arg) {
			command = append(command, "--sqlite")
		}
		command = append(command, arg)
	}
	stdout, stderr, got := m.run(m.t, command...)
	if got != code {
		m.t.Fatalf("%q: exit %d, want %d\n%s%s", args, got, code, stdout, stderr)
	}
	if strings.Contains(stdout+stderr, password(m.t, m.url)) {
		m.t.Errorf("%q: the password was printed", args)
	}
	return unwrapped(stdout), stderr
}

// state returns the rows, the receipts and the names of the schemas.
func (m *ifNeeded) state() string {
	m.t.Helper()
	conn := flujotest.Connect(m.t, m.url)
	return rowsIn(m.t, conn, "flujo") + flujotest.One(m.t, conn, `SELECT format('receipts %s, schemas %s',
		(SELECT string_agg(id || ' ' || file_sha256, ', ' ORDER BY id) FROM flujo.flujo_port_receipts),
		(SELECT string_agg(nspname, ', ' ORDER BY nspname) FROM pg_namespace))`)
}

// done tests that migrate --if-needed ends with 0 and writes nothing, and that the report begins with a line with the
// words.
func (m *ifNeeded) done(args []string, words ...string) (stdout string) {
	m.t.Helper()
	before := m.state()
	stdout, stderr := m.migrate(0, append([]string{"--if-needed"}, args...)...)
	first, _, _ := strings.Cut(stdout, "Database schema")
	for _, word := range append(words, "Already migrated: ", "Nothing was written to the database.") {
		if !strings.Contains(first, word) {
			m.t.Errorf("%q: the report does not begin with %q:\n%s%s", args, word, stdout, stderr)
		}
	}
	for _, address := range []string{"Cut over FLUJO_STATE_URI=postgresql", "Undo FLUJO_STATE_URI=sqlite:"} {
		if !strings.Contains(stdout, address) {
			m.t.Errorf("%q: the report lacks %q:\n%s", args, address, stdout)
		}
	}
	if after := m.state(); after != before {
		m.t.Errorf("%q: the database holds\n%s\nheld\n%s", args, after, before)
	}
	return stdout
}

// refused tests that migrate --if-needed ends with a code and words on stderr, and writes nothing.
func (m *ifNeeded) refused(code int, args []string, words ...string) (stdout string) {
	m.t.Helper()
	before := m.state()
	stdout, stderr := m.migrate(code, append([]string{"--if-needed"}, args...)...)
	for _, word := range words {
		if !strings.Contains(stderr, word) {
			m.t.Errorf("%q: stderr does not say %q:\n%s%s", args, word, stderr, stdout)
		}
	}
	if after := m.state(); after != before {
		m.t.Errorf("%q: the database holds\n%s\nheld\n%s", args, after, before)
	}
	return stdout
}

// TestIfNeeded takes a file through what a Job that is run again and again meets.
func TestIfNeeded(t *testing.T) {
	t.Parallel()
	m := newIfNeeded(t)
	file := flujotest.Copy(t, absolute(t, fixture))
	stdout, _ := m.migrate(0, file, "--if-needed", "--dry-run")
	if !strings.HasPrefix(stdout, "Dry run") || !strings.Contains(stdout, "without --dry-run") ||
		ask(t, m.url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'") != "0" {
		t.Errorf("a dry run of the first run:\n%s", stdout)
	}
	stdout, _ = m.migrate(0, file, "--if-needed")
	if !strings.HasPrefix(stdout, "Migrated and verified: ") {
		t.Errorf("the first run:\n%s", stdout)
	}
	at := ask(t, m.url, "SELECT to_char(migrated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') "+
		"FROM flujo.flujo_port_receipts")
	words := []string{file + " was migrated at " + at + " UTC (receipt 1)", "verified again"}
	if stdout = m.done([]string{file}, words...); !strings.Contains(stdout, " Equal: ") {
		t.Errorf("the second run:\n%s", stdout)
	}
	for _, flag := range []string{"--replace", "--merge", "--verify=counts", "--skip-integrity"} {
		if stdout = m.done([]string{file, flag}, words...); strings.Contains(stdout, "had no effect") {
			t.Errorf("%s had no effect:\n%s", flag, stdout)
		}
	}
	stdout = m.done([]string{file, "--strict", "--naive-timezone", "Europe/Berlin", "--exact-floats"}, words...)
	if !strings.Contains(stdout, "--exact-floats, --naive-timezone, --strict had no effect") {
		t.Errorf("nothing says that flags had no effect:\n%s", stdout)
	}
	stdout = m.done([]string{file, "--dry-run", "--env-file", "cutover.env"}, words...)
	if exists(filepath.Join(m.dir, "cutover.env")) || !strings.Contains(stdout, "--env-file was not written") ||
		strings.Contains(stdout, "without --dry-run") {
		t.Errorf("a dry run of the second run:\n%s", stdout)
	}

	// Other bytes of the same rows, and a copy.
	flujotest.Change(t, file, "VACUUM")
	stdout = m.done([]string{file}, words...)
	if !strings.Contains(stdout, "the file's checksum differs from the receipt's, but its rows are the same") {
		t.Errorf("a vacuumed file:\n%s", stdout)
	}
	m.done([]string{absolute(t, fixture)},
		absolute(t, fixture)+" has the content of "+file+", which was migrated at "+at)

	// Flujo writes to PostgreSQL: it continues a run.
	execute(t, m.url, "UPDATE flujo.runs SET status = 'completed', updated_at = now() WHERE run_id = "+
		"(SELECT min(run_id) FROM flujo.spans)",
		"DELETE FROM flujo.workflow_state WHERE run_id = (SELECT min(run_id) FROM flujo.spans)",
		"INSERT INTO flujo.system_state VALUES ('new', '1', now())")
	if stdout = m.done([]string{file}, words...); !strings.Contains(stdout, " Drift: ") {
		t.Errorf("after drift:\n%s", stdout)
	}

	// Flujo writes to the file: it is another one, and a merge brings in what was written.
	flujotest.Change(t, file, "INSERT INTO system_state VALUES ('late', '1', '2026-01-05T09:00:00+00:00')")
	m.refused(3, []string{file}, "already holds rows", "--merge")
	stdout, _ = m.migrate(0, file, "--if-needed", "--merge")
	if !strings.HasPrefix(stdout, "Merged and verified in ") {
		t.Errorf("a merge:\n%s", stdout)
	}
	m.done([]string{file, "--merge"}, "(receipt 2)")
	m.done([]string{absolute(t, fixture)}, "(receipt 1)")

	// The rows of another file replace them.
	other := flujotest.Copy(t, file)
	flujotest.Change(t, other, "DELETE FROM system_state")
	m.migrate(0, other, "--if-needed", "--replace")
	m.done([]string{other, "--replace"}, "(receipt 3)")
	m.refused(3, []string{file}, "already holds rows")
	if got := ask(t, m.url, "SELECT count(*) FROM pg_namespace WHERE nspname ~ 'archive'"); got != "1" {
		t.Errorf("got %s archive schemas, want 1", got)
	}
}

// TestIfNeededJSONAndEnvFile tests that a later run writes the same env file as the migration, and its JSON.
func TestIfNeededJSONAndEnvFile(t *testing.T) {
	t.Parallel()
	m := newIfNeeded(t)
	file := absolute(t, fixture)
	m.migrate(0, file, "--if-needed", "--env-file", "first.env")
	stdout, stderr := m.migrate(0, file, "--if-needed", "--env-file", "second.env", "--json")
	var r struct {
		Command, Version    string
		Committed, Refused  bool
		Receipt             int64
		Tables, Differences []any
		Units, Findings     []any
		AlreadyMigrated     *struct {
			Verdict, Version string
			Receipt          struct{ ID int64 }
		} `json:"already_migrated"`
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout, stderr)
	}
	if r.Command != "migrate" || r.Committed || r.Refused || r.Receipt != 1 || r.Tables == nil ||
		r.Differences == nil ||
		r.Units == nil ||
		r.Findings == nil ||
		r.AlreadyMigrated == nil ||
		r.AlreadyMigrated.Verdict != "equal" ||
		r.AlreadyMigrated.Receipt.ID != 1 ||
		r.AlreadyMigrated.Version != r.Version ||
		r.Version == "" {
		t.Errorf("got %+v of\n%s", r, stdout)
	}
	first, err := os.ReadFile(filepath.Join(m.dir, "first.env"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(filepath.Join(m.dir, "second.env"))
	if err != nil || string(second) != string(first) || !strings.Contains(string(first), password(t, m.url)) {
		t.Errorf("got the env file %q (%v), want that of the migration", second, err)
	}

	// The lists hold nothing of files before one that was not migrated.
	execute(t, m.url, "DELETE FROM flujo.steps WHERE id = 3")
	other := flujotest.Copy(t, file)
	flujotest.Change(t, other, "DELETE FROM runs")
	stdout, _ = m.migrate(0, file, other, "--if-needed", "--merge", "--json")
	r.Differences, r.Units = nil, nil
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || !r.Committed || len(r.Differences)+len(r.Units) != 0 {
		t.Errorf("got %+v (%v)", r, err)
	}
}

// TestIfNeededDeleted tests that rows that were deleted since are neither ignored nor copied again without being asked
// for, and what the error advises.
func TestIfNeededDeleted(t *testing.T) {
	t.Parallel()
	file := absolute(t, fixture)
	const (
		key   = "DELETE FROM flujo.system_state WHERE key = 'tracker:4'"
		steps = "DELETE FROM flujo.steps WHERE run_id = (SELECT min(run_id) FROM flujo.steps)"
	)
	for _, c := range []struct {
		name, statement, words string
		ways                   []string // that bring the rows back
	}{
		{"a key", key, `1 of its runs, keys and memories lacks rows`, []string{"--merge", "--replace"}},
		{"a key and steps", key + ";" + steps, `2 of its runs, keys and memories lack rows`, []string{"--replace"}},
	} {
		for _, way := range c.ways {
			t.Run(c.name+" "+way, func(t *testing.T) {
				t.Parallel()
				m := newIfNeeded(t)
				m.migrate(0, file, "--if-needed")
				before := ask(
					t,
					m.url,
					"SELECT (SELECT count(*) FROM flujo.steps) + (SELECT count(*) FROM flujo.system_state)",
				)
				execute(t, m.url, c.statement)
				words := []string{
					file,
					"was migrated at ",
					"(receipt 1)",
					c.words,
					"nothing was committed",
					"if they were deleted on purpose, nothing is left to migrate",
					"without --if-needed",
					"--merge",
					"--replace",
				}
				for _, flag := range []string{"--merge", "--replace", "--dry-run"} {
					stdout := m.refused(3, []string{file, flag, "--env-file", "cutover.env"}, words...)
					if !strings.HasPrefix(stdout, "Refused: "+file+" was migrated at ") ||
						strings.Contains(stdout, "Cut over") || exists(filepath.Join(m.dir, "cutover.env")) {
						t.Errorf("%s: the report is\n%s", flag, stdout)
					}
				}
				stdout := m.refused(3, []string{file, "--json"})
				var r struct {
					Refused bool
					Units   []struct {
						Status     string
						Incomplete bool
					}
				}
				if err := json.Unmarshal([]byte(stdout), &r); err != nil || !r.Refused || len(r.Units) != 65 {
					t.Errorf("got %+v (%v)", r, err)
				}
				m.migrate(0, file, way)
				if got := ask(
					t,
					m.url,
					"SELECT (SELECT count(*) FROM flujo.steps) + (SELECT count(*) FROM flujo.system_state)",
				); got != before {
					t.Errorf("after %s there are %s rows, want %s", way, got, before)
				}
				m.done([]string{file}, "(receipt 2)")
			})
		}
	}
}

// TestIfNeededMismatch tests that a copy that is wrong, and tables that are missing, are exit code 4.
func TestIfNeededMismatch(t *testing.T) {
	t.Parallel()
	m := newIfNeeded(t)
	file := absolute(t, fixture)
	flujotest.Tamperer(t, m.url)("UPDATE steps SET token_counts = -1 WHERE id = 7")
	m.migrate(0, file, "--if-needed", "--verify", "counts")
	stdout := m.refused(4, []string{file}, "1 row in PostgreSQL differs from the state file", "nothing was committed")
	if !strings.HasPrefix(stdout, "Verification failed: "+file+" was migrated at ") ||
		!strings.Contains(stdout, " Copy mismatch: ") || strings.Contains(stdout, "Cut over") {
		t.Errorf("a wrong copy:\n%s", stdout)
	}
	m.refused(4, []string{file, "--merge"}, "1 row in PostgreSQL differs from the state file")
	execute(t, m.url, "ALTER TABLE flujo.evaluations RENAME TO away")
	before := ask(t, m.url, "SELECT count(*) FROM pg_class")
	stdout, stderr := m.migrate(4, file, "--if-needed")
	if !strings.Contains(stderr, "no longer has these tables: evaluations") ||
		!strings.Contains(stdout, " Mismatch: ") ||
		ask(t, m.url, "SELECT count(*) FROM pg_class") != before {
		t.Errorf("without a table:\n%s%s", stdout, stderr)
	}
}

// TestIfNeededWithoutReceipt tests that rows without a receipt do not count as migrated.
func TestIfNeededWithoutReceipt(t *testing.T) {
	t.Parallel()
	m := newIfNeeded(t)
	file := absolute(t, fixture)
	m.migrate(0, file)
	execute(t, m.url, "DELETE FROM flujo.flujo_port_receipts")
	m.refused(3, []string{file}, "already holds rows")
	m.migrate(0, file, "--if-needed", "--merge")
	m.done([]string{file}, "(receipt 1)")
}

// TestIfNeededSeveral tests several files: nothing is done if all of them were migrated, in any order, and otherwise
// all are.
func TestIfNeededSeveral(t *testing.T) {
	t.Parallel()
	m := newIfNeeded(t)
	files := severalFiles(t)
	m.migrate(0, append([]string{"--if-needed", "--quarantine"}, files...)...)
	copied := flujotest.Copy(t, files[0])
	for _, some := range [][]string{files, {files[2], files[0], files[1]}, {files[1], files[2]}, {files[0], copied}} {
		stdout := m.done(some, fmt.Sprintf("these %d state files were migrated", len(some)))
		for _, file := range some {
			if !strings.Contains(stdout, "FLUJO_STATE_URI=sqlite:///"+file) {
				t.Errorf("no rollback address of %s:\n%s", file, stdout)
			}
		}
	}
	if stdout := m.done(files[:1], files[0]+" was migrated", "(receipt 1)"); !strings.Contains(stdout, " Merged: ") {
		t.Errorf("one of them:\n%s", stdout)
	}

	late := flujotest.Copy(t, files[0])
	flujotest.Change(t, late, "UPDATE runs SET run_id = 'late ' || run_id")
	more := append(slices.Clone(files), late)
	m.refused(3, append([]string{"--quarantine"}, more...), "already holds rows")
	before := ask(t, m.url, "SELECT count(*) FROM flujo.runs")
	stdout, _ := m.migrate(0, append([]string{"--if-needed", "--merge", "--quarantine"}, more...)...)
	if got := ask(t, m.url, "SELECT count(*) FROM flujo.runs WHERE run_id NOT LIKE 'late %'"); got != before ||
		!strings.HasPrefix(stdout, "Merged and verified in ") {
		t.Errorf("got %s runs of the files that were migrated, want %s:\n%s", got, before, stdout)
	}
	m.done(more)

	execute(t, m.url, "DELETE FROM flujo.runs WHERE run_id LIKE 'late %'")
	m.refused(3, more, "the state files were migrated, but ", "of their runs, keys and memories lack rows")
	m.done(files)
}

// TestIfNeededTwoAtOnce tests that of two runs at the same time one migrates, and the other waits and finds that
// nothing is left to do, although both began before there was a receipt.
func TestIfNeededTwoAtOnce(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"", "--replace", "--merge"} {
		t.Run("with "+flag, func(t *testing.T) {
			t.Parallel()
			m := newIfNeeded(t)
			args := []string{"migrate", "--without-pgvector", "--if-needed", "--sqlite", absolute(t, fixture)}
			receipts := "1"
			if flag != "" {
				m.migrate(0, changedFixture(t, "DELETE FROM system_state"))
				args, receipts = append(args, flag), "2"
			}
			holder := flujotest.Connect(t, m.url)
			flujotest.Exec(t, holder, "SELECT pg_advisory_lock(4059087070)")
			var outputs [2]bytes.Buffer
			var commands [2]*exec.Cmd
			for i := range commands {
				commands[i] = m.command(append(args, "--quiet")...)
				commands[i].Stdout, commands[i].Stderr = &outputs[i], &outputs[i]
				if err := commands[i].Start(); err != nil {
					t.Fatal(err)
				}
				defer commands[i].Process.Kill()
			}
			awaitAnswer(t, m.url, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, "2")
			flujotest.Exec(t, holder, "SELECT pg_advisory_unlock(4059087070)")
			if err := errors.Join(commands[0].Wait(), commands[1].Wait()); err != nil {
				t.Error(err)
			}
			migrated, found := outputs[0].String(), outputs[1].String()
			const wrote = "(Migrated|Merged) and verified"
			if ok, _ := regexp.MatchString("^"+wrote, migrated); !ok {
				migrated, found = found, migrated
			}
			if ok, _ := regexp.MatchString(
				"^"+wrote,
				migrated,
			); !ok ||
				!strings.HasPrefix(found, "Already migrated: ") {
				t.Errorf("got\n%s\nand\n%s", migrated, found)
			}
			if got := ask(t, m.url, "SELECT count(*) FROM flujo.flujo_port_receipts"); got != receipts {
				t.Errorf("got %s receipts, want %s", got, receipts)
			}
			if got := ask(t, m.url, "SELECT count(*) FROM pg_namespace WHERE nspname ~ 'archive'"); got > "1" {
				t.Errorf("got %s archive schemas", got)
			}
		})
	}
}

// TestIfNeededAddress tests that a later run tries the cutover address too, and writes no env file if it does not work.
func TestIfNeededAddress(t *testing.T) {
	t.Parallel()
	m := newIfNeeded(t)
	file := absolute(t, fixture)
	m.migrate(0, file)
	database := ask(t, m.url, "SELECT quote_ident(current_database())")
	execute(t, m.url, "ALTER DATABASE "+database+" SET default_transaction_read_only = on")
	stdout := m.refused(
		3,
		[]string{file, "--env-file", "cutover.env"},
		"was migrated already, but the cutover address cannot be used",
		"read-only transactions",
		"nothing was committed",
	)
	if stdout != "" || exists(filepath.Join(m.dir, "cutover.env")) {
		t.Errorf("an address that does not work:\n%s", stdout)
	}
	execute(t, m.url, "BEGIN READ WRITE; ALTER DATABASE "+database+" RESET default_transaction_read_only; COMMIT")
	m.done([]string{file})
}
