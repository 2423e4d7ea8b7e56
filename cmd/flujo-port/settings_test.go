package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// changedFixture returns a copy of the fixture after running statements on it.
func changedFixture(t testing.TB, statements ...string) string {
	t.Helper()
	content, err := os.ReadFile(fixture)
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, filepath.Join(t.TempDir(), "flujo_state.db"), string(content))
	makeSQLite(t, path, statements...)
	return path
}

// TestNothingIsOverwritten checks that --env-file refuses the state file, and a file that has more than one line with
// FLUJO_STATE_URI.
func TestNothingIsOverwritten(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), changedFixture(t)
	p := newProgram(t)
	other := write(t, filepath.Join(p.dir, ".env"), "OTHER=1\nFLUJO_STATE_URI=x\n")
	for path, words := range map[string]string{
		file: "a file that this command uses", other: "exists, and this flag did not write it",
	} {
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, stderr, code := p.run(
			t,
			"migrate",
			"--postgres",
			url,
			"--sqlite",
			file,
			"--without-pgvector",
			"--env-file",
			path,
		)
		after, err := os.ReadFile(path)
		if code != 2 || !strings.Contains(stderr, words) || err != nil ||
			!bytes.Equal(before, after) {
			t.Errorf("%s: exit %d: %s", path, code, stderr)
		}
	}
	own := write(t, filepath.Join(p.dir, "own.env"), "FLUJO_STATE_URI=sqlite:////old.db\n")
	stdout, stderr, code := p.run(
		t,
		"migrate",
		"--postgres",
		url,
		"--sqlite",
		file,
		"--without-pgvector",
		"--env-file",
		own,
		"--dry-run",
	)
	if content, _ := os.ReadFile(own); code != 0 || !strings.Contains(string(content), "old.db") ||
		!strings.Contains(stdout, "was not written, because") {
		t.Errorf("dry run: exit %d, %q: %s%s", code, content, stdout, stderr)
	}
	_, stderr, code = p.run(t, "migrate", "--postgres", url, "--sqlite", file, "--without-pgvector", "--env-file", own)
	if content, _ := os.ReadFile(own); code != 0 ||
		!strings.HasPrefix(string(content), "FLUJO_STATE_URI=postgresql://") {
		t.Errorf("exit %d, %q: %s", code, content, stderr)
	}
}

// TestSecretsAreNotEchoed passes values with a password in place of other values.
func TestSecretsAreNotEchoed(t *testing.T) {
	t.Parallel()
	const secret = "hunter2secret"
	p := newProgram(t, "PGHOST=localhost", "PGDATABASE=db")
	file := absolute(t, fixture)
	for _, value := range []string{
		"postgresql://u:" + secret + "@h/db", "DATABASE_URL=postgresql://u:" + secret + "@h/db",
		"u:" + secret + "@h", "u:" + secret + "@h:5432/db", "host=h password=" + secret, "PGPASSWORD='" + secret + "'",
		"mysql://" + secret, "sqlite://u:" + secret + "@h",
	} {
		for _, args := range [][]string{
			{value}, {"migrate", value}, {"uri", value}, {"uri", "cutover", value}, {"init", value},
			{"migrate", "--schema", value}, {"migrate", "--dry-run=" + value}, {"migrate", "--sqlite", value},
			{"check", "--sqlite", value}, {"verify", "--sqlite=" + value}, {"uri", "rollback", "--sqlite", value},
			{"restore", "--sqlite", value}, {"restore", "--sqlite", "new.db", "--base", value},
			{"init", "--grant-to", value}, {"init", "--owner", value}, {"init", "--grant-read", value},
			{"migrate", "--env-file", value, "--sqlite", file},
			{"migrate", "--naive-timezone", value, "--sqlite", file}, {"migrate", "--verify", value, "--sqlite", file},
			{"migrate", "--" + value}, {"migrate", "-" + value}, {"migrate", "--postgres", value},
			{"uri", "cutover", "--postgres", "x" + value},
		} {
			stdout, stderr, code := p.run(t, args...)
			if strings.HasPrefix(value, "postgresql://") && slices.Contains(args, "--postgres") &&
				slices.Contains(args, value) {
				continue // it is in the right place
			}
			if code != 2 || strings.Contains(stdout+stderr, secret) {
				t.Errorf("%v: exit %d: %s%s", args, code, stdout, stderr)
			}
		}
	}
	for _, args := range [][]string{
		{"hunter"}, {"migrate", "hunter"}, {"uri", "hunter"}, {"migrate", "-phunter"}, {"migrate", "-p", "hunter"},
		{"migrate", "--password=hunter"}, {"migrate", "--password", "hunter"}, {"verify", "--json=hunter"},
		{"migrate", "--verify", "hunter", "--sqlite", file}, {"migrate", "--schema", strings.Repeat("hunter", 20)},
	} {
		stdout, stderr, code := p.run(t, args...)
		if code != 2 || strings.Contains(stdout+stderr, "hunter") {
			t.Errorf("%v: exit %d: %s%s", args, code, stdout, stderr)
		}
	}
}

// TestSecretsInVariablesAreNotEchoed sets variables to values that are not understood.
func TestSecretsInVariablesAreNotEchoed(t *testing.T) {
	t.Parallel()
	const secret = "hunter2secret"
	file := absolute(t, fixture)
	for _, variable := range []string{
		"DATABASE_URL", "FLUJO_PORT_POSTGRES", "FLUJO_STATE_URI", "PGHOST", "PGUSER", "PGDATABASE",
	} {
		for _, value := range []string{
			"DATABASE_URL=postgresql://app:" + secret + "@h/db", "url=postgresql://app:" + secret + "@h/db",
			"dsn=postgresql+asyncpg://app:" + secret + "@h/db", "host=h url=postgresql://app:" + secret + "@h/db",
			"jdbc:postgresql://h/db?password=" + secret, "app:" + secret + "@h/db",
		} {
			p := newProgram(t, "PGHOST=h", "PGDATABASE=db", variable+"="+value)
			for _, args := range [][]string{{"uri", "cutover"}, {"migrate", "--sqlite", file}, {"init"},
				{"verify", "--sqlite", file}, {"restore", "--sqlite", "new.db"}} {
				if variable == "FLUJO_STATE_URI" && args[0] != "uri" {
					continue
				}
				stdout, stderr, code := p.run(t, args...)
				if code != 2 || strings.Contains(stdout+stderr, secret) {
					t.Errorf("%s=%s %v: exit %d: %s%s", variable, value, args, code, stdout, stderr)
				}
			}
		}
	}
}

// TestPathsAreNotSecrets checks that a path may contain the word password, an @ and a colon.
func TestPathsAreNotSecrets(t *testing.T) {
	t.Parallel()
	p := newProgram(t)
	for _, name := range []string{"password.db", "reset-password/me@example.com.db", "a:b@c.db"} {
		path := filepath.Join(p.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, "")
		for _, form := range []string{name, path, "sqlite:///" + name, "sqlite:///" + path} {
			stdout, stderr, code := p.run(t, "uri", "rollback", "--sqlite", form)
			if code != 0 || !strings.HasSuffix(stdout, "/"+name+"\n") {
				t.Errorf("%s: exit %d: %s%s", form, code, stdout, stderr)
			}
		}
	}
}

// TestSeveralHosts checks that a list of hosts in PGHOST is refused, and that a host in
// the address overrides it.
func TestSeveralHosts(t *testing.T) {
	t.Parallel()
	p := newProgram(t, "PGHOST=primary.example,standby.example", "PGUSER=u", "PGDATABASE=db")
	_, stderr, code := p.run(t, "uri", "cutover")
	if code != 2 || !strings.Contains(stderr, "PGHOST") || !strings.Contains(stderr, "name only the primary server") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	stdout, stderr, code := p.run(t, "uri", "cutover", "--postgres", "postgresql://localhost")
	if code != 0 || !strings.HasPrefix(stdout, "postgresql://u@localhost/db?") {
		t.Errorf("one host in the address: exit %d: %s%s", code, stdout, stderr)
	}
}

// TestDefaultFileIsNotFlujos checks that a default file is refused if FLUJO_STATE_URI names
// another one.
func TestDefaultFileIsNotFlujos(t *testing.T) {
	t.Parallel()
	live := changedFixture(t)
	p := newProgram(t, "FLUJO_STATE_URI=sqlite:///"+live, "DATABASE_URL=postgresql://u@127.0.0.1:1/db")
	write(t, filepath.Join(p.dir, "flujo_state.db"), "old")
	for _, args := range [][]string{{"migrate"}, {"uri", "rollback"}} {
		_, stderr, code := p.run(t, args...)
		if code != 2 || !strings.Contains(stderr, live) || !strings.Contains(stderr, "--sqlite") {
			t.Errorf("%v: exit %d: %s", args, code, stderr)
		}
	}
	stdout, stderr, code := p.run(t, "uri", "rollback", "--sqlite", live)
	if code != 0 || stdout != "sqlite:///"+live+"\n" {
		t.Errorf("named: exit %d: %s%s", code, stdout, stderr)
	}
}

// TestCommittedIsDone checks that a failure after the commit is a warning.
func TestCommittedIsDone(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err) // Linux has it
	}
	defer full.Close()
	url := pgtest.Database(t)
	c := newProgram(t).command("migrate", "--postgres", url, "--sqlite", absolute(t, fixture), "--without-pgvector")
	var stderr bytes.Buffer
	c.Stdout, c.Stderr = full, &stderr
	if err := c.Run(); err != nil || !strings.Contains(stderr.String(), "the report cannot be printed") {
		t.Errorf("%v: %s", err, stderr.String())
	}
	if got := ask(t, url, "SELECT count(*) FROM flujo.runs"); got != "60" {
		t.Errorf("%s runs", got)
	}
	c = newProgram(t, "DATABASE_URL=postgresql://u@localhost/db").command("uri", "cutover")
	c.Stdout = full
	if err := c.Run(); err == nil {
		t.Error("an address that could not be printed was called done")
	}
}

// TestFileThatIsOpenElsewhere checks the warnings about another process that has
// the file open.
func TestFileThatIsOpenElsewhere(t *testing.T) {
	t.Parallel()
	file := changedFixture(t)
	holder := exec.Command(os.Args[0], "-test.run=^TestHelperHoldsFile$")
	holder.Env = append(os.Environ(), "FLUJO_PORT_TEST_HOLD="+file)
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer holder.Wait()
	defer stdin.Close()
	if _, err := io.ReadFull(stdout, make([]byte, len("held"))); err != nil {
		t.Fatal(err)
	}
	report, stderr, code := newProgram(t).run(t, "check", "--sqlite", file)
	if code != 5 || !strings.Contains(report, "! other processes") ||
		!strings.Contains(unwrapped(report), "stop Flujo before the cutover") {
		t.Errorf("check: exit %d\n%s%s", code, report, stderr)
	}
	report, stderr, code = newProgram(
		t,
	).run(t, "migrate", "--postgres", pgtest.Database(t), "--sqlite", file, "--without-pgvector")
	if code != 0 || !strings.Contains(unwrapped(report), "Warnings - another process has the state file open") ||
		!strings.Contains(stderr, "warning: another process has the state file open") {
		t.Errorf("exit %d\n%s%s", code, report, stderr)
	}
}

// TestHelperHoldsFile is the other process of TestFileThatIsOpenElsewhere.
func TestHelperHoldsFile(t *testing.T) {
	file := os.Getenv("FLUJO_PORT_TEST_HOLD")
	if file == "" {
		return
	}
	holdOpen(t, file, func() {
		os.Stdout.WriteString("held")
		io.Copy(io.Discard, os.Stdin)
	})
}

// TestChangesAreReported runs the binary on a file with changes of many kinds.
func TestChangesAreReported(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	file := changedFixture(
		t,
		`UPDATE steps SET output = '{"a":"x\u0000y"}' WHERE id <= 12`,
		"UPDATE steps SET token_counts = 12.5 WHERE id = 20",
		"UPDATE runs SET created_at = '2026-01-05T09:00:00' WHERE rowid = 1",
		"INSERT INTO evaluations (run_id, score) VALUES ('nobody', 1)",
		"INSERT INTO system_state (key, value, updated_at) VALUES (NULL, '1', '2026-01-01')",
	)
	migrate := func(args ...string) (string, string, int) {
		return newProgram(
			t,
		).run(t, append([]string{"migrate", "--postgres", url, "--sqlite", file, "--without-pgvector"}, args...)...)
	}
	stdout, stderr, code := migrate()
	if code != 3 || !strings.HasPrefix(stdout, "Refused: 1 row of the state file is rejected") ||
		!strings.Contains(unwrapped(stdout), "null-key: the key is NULL") ||
		!strings.Contains(stderr, "--quarantine") ||
		!strings.Contains(stderr, "nothing was committed") ||
		strings.Contains(stdout, "FLUJO_STATE_URI") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, stderr, code = migrate("--quarantine", "--strict")
	for _, want := range []string{"13 values", "1 row would be quarantined", "1 stub run would be created",
		"1 timestamp without a time zone"} {
		if code != 3 || !strings.Contains(stderr, want) {
			t.Errorf("strict: exit %d, lacks %q\n%s%s", code, want, stdout, stderr)
		}
	}
	stdout, stderr, code = migrate("--quarantine", "--naive-timezone", "Europe/Berlin", "--json")
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, stderr)
	}
	var r struct {
		Changes []struct {
			Table, Column, Reason string
			Count                 int
			Keys                  []string `json:"first_keys"`
		}
		Originals int
		Findings  []struct {
			Table, Key, Column, Reason, Explanation string
			Rejected                                bool `json:"rejected"`
		}
		Naive []struct {
			Column string
			Zone   string `json:"interpreted_as"`
		} `json:"naive_timestamps"`
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	if len(r.Changes) != 3 || r.Changes[0].Reason != "nul-removed" || r.Changes[0].Count != 12 ||
		len(r.Changes[0].Keys) != 10 {
		t.Errorf("changes %+v", r.Changes)
	}
	if len(r.Findings) != 14 || r.Findings[11].Key != "12" || r.Findings[12].Reason != "rounded" ||
		!r.Findings[13].Rejected ||
		r.Originals != 16 {
		t.Errorf("%d findings, %d originals: %+v", len(r.Findings), r.Originals, r.Findings)
	}
	if len(r.Naive) != 1 || r.Naive[0].Column != "runs.created_at" || r.Naive[0].Zone != "Europe/Berlin" {
		t.Errorf("naive %+v", r.Naive)
	}
	if got := ask(t, url, "SELECT created_at AT TIME ZONE 'UTC' FROM flujo.runs "+
		"ORDER BY created_at LIMIT 1"); got != "2026-01-05 08:00:00" {
		t.Errorf("the time in Berlin arrived as %s", got)
	}
	_, stderr, code = newProgram(
		t,
	).run(t, "migrate", "--postgres", url, "--sqlite", file, "--naive-timezone", "Nowhere/Land")
	if code != 2 || !strings.Contains(stderr, "--naive-timezone") {
		t.Errorf("zone: exit %d: %s", code, stderr)
	}
}

// TestParametersOfTheAddress runs commands with addresses that have parameters for
// other clients, and misspelt ones.
func TestParametersOfTheAddress(t *testing.T) {
	t.Parallel()
	url, file := pgtest.Database(t), absolute(t, fixture)
	p := newProgram(t)
	with := func(parameters string) string {
		for pair := range strings.SplitSeq(parameters, "&") {
			name, value, _ := strings.Cut(pair, "=")
			url = pgtest.WithParameter(t, url, name, value)
		}
		return url
	}
	prisma := with("schema=public&pgbouncer=true&connection_limit=1&keepalives=1")
	stdout, stderr, code := p.run(t, "migrate", "--postgres", prisma, "--sqlite", file, "--without-pgvector")
	if code != 0 || !strings.Contains(unwrapped(stdout), "connection_limit, keepalives, pgbouncer removed") ||
		strings.Count(unwrapped(stdout), "parameter schema removed") != 1 ||
		strings.Count(unwrapped(stdout), "schema is flujo") != 1 {
		t.Errorf("migrate: exit %d: %s%s", code, stdout, stderr)
	}
	stdout, _, _ = p.run(t, "check", "--sqlite", file, "--without-pgvector", "--postgres", prisma)
	if !strings.Contains(strings.Join(strings.Fields(stdout), " "),
		"connection_limit, keepalives, pgbouncer removed: without effect for Flujo's driver") {
		t.Errorf("check: %s", stdout)
	}
	for _, args := range [][]string{{"verify", "--sqlite", file}, {"restore", "--sqlite", "new.db"}} {
		_, stderr, _ := p.run(t, append(args, "--postgres", prisma)...)
		if !strings.Contains(stderr, "no effect: connection_limit, keepalives, pgbouncer, schema; --schema") {
			t.Errorf("%v: %s", args, stderr)
		}
	}
	for _, args := range [][]string{{"verify", "--sqlite", file}, {"check", "--sqlite", file}, {"init"},
		{"migrate", "--sqlite", file}, {"restore", "--sqlite", "other.db"}, {"uri", "cutover"}} {
		for parameters, want := range map[string]string{
			"sslmod=require":                  "the address has an unknown parameter sslmod: did you mean sslmode?",
			"x%20y=1":                         "the address has an unknown parameter x%20y: remove it",
			"sslmode=require&sslmode=disable": "parameter sslmode is set more than once; remove all but one",
		} {
			stdout, stderr, code := p.run(t, append(args, "--postgres", "postgresql://u:hunter2@h/db?"+parameters)...)
			if code != 2 || stdout != "" || strings.Contains(stderr, "run again") ||
				strings.Contains(stderr, "hunter2") || !strings.Contains(stderr, want) {
				t.Errorf("%v: %s: exit %d: %s%s", args, parameters, code, stdout, stderr)
			}
		}
	}
}
