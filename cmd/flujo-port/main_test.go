package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/urfave/cli/v2"
)

// binary is the program, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m, build)) }

func build(dir string) error {
	binary = filepath.Join(dir, "flujo-port")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as `make build` does
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

const fixture = "../../testdata/flujo_state.db"

// program runs the binary in its own folder, with only the given environment.
type program struct {
	dir string
	env []string
}

func newProgram(t testing.TB, env ...string) *program {
	t.Helper()
	home := t.TempDir()
	return &program{
		dir: t.TempDir(),
		env: append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home}, env...),
	}
}

func (p *program) command(args ...string) *exec.Cmd {
	c := exec.Command(binary, args...)
	c.Dir, c.Env = p.dir, p.env
	return c
}

// longestRun is how long the program may run: one that waits for what never happens is killed.
const longestRun = 2 * time.Minute

func (p *program) run(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	c := p.command(args...)
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(longestRun, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	err := c.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() < 0) {
		t.Fatalf("%v: %v", args, err)
	}
	code = c.ProcessState.ExitCode()
	if name := commandOf(args); !listsExitCode(name, code) {
		t.Errorf("%q: the help of %q does not list exit code %d", args, name, code)
	}
	if asksForJSON(c.Args) && !slices.Contains(args, "--help") {
		validReport(t, out.Bytes(), code)
	}
	return out.String(), errs.String(), code
}

// commandOf returns the name of the command of a command line.
func commandOf(args []string) string {
	name, commands := "flujo-port", (&env{getenv: func(string) string { return "" }}).app(io.Discard).Commands
	for _, arg := range args {
		at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == arg })
		if at < 0 {
			break
		}
		name, commands = name+" "+arg, commands[at].Subcommands
	}
	return name
}

// listsExitCode reports whether the help of a command lists an exit code.
func listsExitCode(name string, code int) bool {
	return slices.ContainsFunc(exitCodes[name], func(listed exitCode) bool { return listed.Code == fmt.Sprint(code) })
}

// schema is docs/report.schema.json.
var schema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	return jsonschema.NewCompiler().Compile(filepath.Join("..", "..", "docs", "report.schema.json"))
})

// validReport tests that a JSON report is one object that is valid by the schema, and has the exit code.
func validReport(t testing.TB, report []byte, code int) {
	t.Helper()
	schema, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(report))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		t.Errorf("the report is not valid by docs/report.schema.json: %v\n%.3000s", err, report)
		return
	}
	r := value.(map[string]any)
	if fmt.Sprint(r["exit_code"]) != fmt.Sprint(code) || (r["error"] == nil) != (code == 0) {
		t.Errorf("exit %d, but the report has exit_code %v and error %v", code, r["exit_code"], r["error"])
	}
}

func absolute(t testing.TB, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

func write(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func ask(t testing.TB, url, query string) string {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var v string
	if err := conn.QueryRow(context.Background(), "SELECT ("+query+")::text").Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// password returns the password of a URL of pgtest.
func password(t testing.TB, url string) string {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return config.Password
}

func TestMigrateDryRunThenMigrate(t *testing.T) {
	t.Parallel()
	url, file := pgtest.WithPassword(t, pgtest.Database(t)), absolute(t, fixture)
	p := newProgram(t, "DATABASE_URL="+strings.Replace(url, "postgresql://", "postgresql+psycopg2://", 1))

	stdout, stderr, code := p.run(t, "migrate", "--sqlite", file, "--without-pgvector", "--dry-run")
	if code != 0 || !strings.Contains(stdout, "Dry run") || !strings.Contains(stdout, "rolled back") {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, stderr, code = p.run(t, "migrate", "--sqlite", "sqlite:///"+file, "--without-pgvector")
	if code != 0 {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	for _, want := range []string{"Migrated and verified: 674 rows in ", "steps 213 0 0 213 ok",
		"traces: 60 rows derived from 261 rows of spans", "Proof receipt 1 of ",
		"Cut over FLUJO_STATE_URI=postgresql://", ":***@", "options=-c%20search_path%3Dflujo%2Cpublic",
		"Undo FLUJO_STATE_URI=sqlite:///" + file} {
		if !strings.Contains(unwrapped(stdout), want) {
			t.Errorf("stdout lacks %q:\n%s", want, stdout)
		}
	}
	for _, want := range []string{"Z copying runs: 0 B of about ", "Z committing; this cannot be interrupted"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, stderr)
		}
	}
	if strings.Contains(stdout+stderr, password(t, url)) {
		t.Error("the password was printed")
	}
	if strings.Contains(stderr, "\x1b") {
		t.Error("escape sequences were written to what is no terminal")
	}
	if got := ask(t, url, "SELECT count(*) FROM flujo.runs"); got != "60" {
		t.Errorf("%s runs", got)
	}
	_, stderr, code = p.run(t, "migrate", "--sqlite", file, "--without-pgvector")
	if code != 3 || !strings.Contains(stderr, "runs has 60") {
		t.Errorf("a second time: exit %d\n%s", code, stderr)
	}
}

func TestMigrateJSONRevealAndEnvFile(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	p := newProgram(t)
	stdout, stderr, code := p.run(
		t,
		"migrate",
		"--postgres",
		url,
		"--sqlite",
		absolute(t, fixture),
		"--without-pgvector",
		"--json",
		"--reveal",
		"--env-file",
		"flujo.env",
	)
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, stderr)
	}
	var report struct {
		Format            int
		Committed         bool
		Cutover, Rollback string
		Tables            []struct {
			Name       string
			RowsRead   int `json:"rows_read"`
			InPostgres int `json:"in_postgres"`
			Match      bool
		}
	}
	d := json.NewDecoder(strings.NewReader(stdout))
	if err := d.Decode(&report); err != nil {
		t.Fatalf("%v:\n%s", err, stdout)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Error("stdout holds more than one JSON object")
	}
	if report.Format != 1 || !report.Committed || len(report.Tables) != 7 || report.Tables[2].Name != "steps" ||
		report.Tables[2].RowsRead != 213 || report.Tables[2].InPostgres != 213 || !report.Tables[2].Match {
		t.Errorf("report %+v", report)
	}
	if got := ask(t, report.Cutover, "SELECT count(*) FROM runs"); got != "60" {
		t.Errorf("through the printed address: %s runs", got)
	}
	path := filepath.Join(p.dir, "flujo.env")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(content), "FLUJO_STATE_URI="+report.Cutover+"\n# ") {
		t.Errorf("the env file holds %q", content)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the env file's mode is %v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(p.dir); err != nil || len(entries) != 1 {
		t.Errorf("more was left next to it: %v", entries)
	}
}

// TestBadInput checks the result of each kind of invalid input: the exit code, one
// line on stderr with a hint, nothing on stdout, and no password.
func TestBadInput(t *testing.T) {
	t.Parallel()
	url, good, dir := pgtest.WithPassword(t, pgtest.Database(t)), absolute(t, fixture), t.TempDir()
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	secret := "hunter2secret"
	server, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	refusing := pgtest.WithServer(t, pgtest.WithUser(t, url, "u", secret), refusedPort(t))
	wrongPassword := pgtest.WithUser(t, url, server.User, secret)
	noTLS := pgtest.NewProxy(t, pgtest.Upstream(t, url)) // it has none, whatever the server has
	withTLS := pgtest.WithParameter(t, noTLS.Rewrite(url), "sslmode", "require")
	noFlujo := filepath.Join(dir, "other.db")
	makeSQLite(t, noFlujo, "CREATE TABLE t (x)")
	for _, c := range []struct {
		name  string
		args  []string
		code  int
		words []string
	}{
		{"no such file", []string{"migrate", "--sqlite", "nowhere.db", "--postgres", url}, 2,
			[]string{"nowhere.db", "the file does not exist", "--sqlite"}},
		{"a folder", []string{"migrate", "--sqlite", dir, "--postgres", url}, 2, []string{"a directory"}},
		{"empty file", []string{"migrate", "--sqlite", write(t, filepath.Join(dir, "empty.db"), ""), "--postgres", url},
			3, []string{"empty"}},
		{"not SQLite", []string{"migrate", "--postgres", url,
			"--sqlite", write(t, filepath.Join(dir, "text.db"), strings.Repeat("some text\n", 100))},
			3, []string{"not a SQLite database", "encrypted"}},
		{"encrypted", []string{"migrate", "--sqlite", write(t, filepath.Join(dir, "enc.db"), scrambled(whole)),
			"--postgres", url}, 3, []string{"encrypted"}},
		{"truncated", []string{"migrate", "--sqlite", write(t, filepath.Join(dir, "cut.db"), string(whole[:100_000])),
			"--postgres", url}, 3, []string{"truncated while"}},
		{"no Flujo tables", []string{"migrate", "--sqlite", noFlujo, "--postgres", url}, 3,
			[]string{"none of Flujo's tables"}},
		{"unknown flag", []string{"migrate", "--sqlit", good}, 2, []string{"did you mean --sqlite?", "--help"}},
		{"unknown command", []string{"migrat"}, 2, []string{"did you mean migrate?", "--help"}},
		{"argument", []string{"migrate", good}, 2, []string{"takes no argument", "--sqlite " + good}},
		{"no database named", []string{"migrate", "--sqlite", good}, 2, []string{"--postgres", "DATABASE_URL"}},
		{"SQLite as target", []string{"migrate", "--sqlite", good, "--postgres", "sqlite:///x.db"}, 2,
			[]string{"--postgres"}},
		{"malformed URL", []string{"migrate", "--sqlite", good, "--postgres", "postgresql://u:" + secret + "@[::1/db"},
			2, []string{"--postgres"}},
		{"malformed escape", []string{"migrate", "--sqlite", good, "--postgres",
			"postgresql://u:" + secret + "%zz@h/db"}, 2, []string{"--postgres"}},
		{"malformed port", []string{"migrate", "--sqlite", good, "--postgres",
			"postgresql://u:" + secret + "@h:port/db"}, 2, []string{"--postgres"}},
		{"keyword/value string", []string{"migrate", "--sqlite", good, "--postgres",
			"host=db.example user=u password=" + secret}, 2, []string{"--postgres", "not a URL", "postgresql://USER"}},
		{"several hosts", []string{"migrate", "--sqlite", good, "--postgres",
			"postgresql://u:" + secret + "@h1,h2/db"}, 2, []string{"--postgres", "several hosts", "only the primary"}},
		{"empty schema", []string{"migrate", "--sqlite", good, "--postgres", url, "--schema", ""}, 2,
			[]string{"--schema"}},
		{"PostgreSQL's schema", []string{"migrate", "--sqlite", good, "--postgres", url, "--schema", "pg_flujo"}, 2,
			[]string{"--schema"}},
		{"connection refused", []string{"migrate", "--sqlite", good, "--postgres", refusing}, 1,
			[]string{"refused", "run again"}},
		{"wrong password", []string{"migrate", "--sqlite", good, "--postgres", wrongPassword}, 2,
			[]string{"password authentication failed", "PGPASSWORD"}},
		{"no such database", []string{"migrate", "--sqlite", good, "--postgres",
			pgtest.WithDatabase(t, url, "no_such_db")}, 2, []string{"no_such_db", "does not exist"}},
		{"TLS that is not there", []string{"migrate", "--sqlite", good, "--postgres", withTLS}, 2,
			[]string{"does not offer TLS"}},
		{"unexpanded variable", []string{"migrate", "--sqlite", good, "--postgres",
			"postgresql://u:${DB_PASSWORD}@h/db"}, 2, []string{"--postgres", "not expanded"}},
		{"no database in the address", []string{"migrate", "--sqlite", good, "--postgres",
			"postgresql://u:" + secret + "@h/"}, 2, []string{"--postgres", "no database is named"}},
		{"sslmode of other drivers", []string{"migrate", "--sqlite", good, "--postgres",
			"postgresql://u:" + secret + "@h/db?sslmode=no-verify"}, 2, []string{"sslmode must be one of"}},
		{"unknown service", []string{"migrate", "--sqlite", good, "--postgres",
			"postgresql://u:" + secret + "@h/db?service=staging"}, 2, []string{"service file", "PGSERVICEFILE"}},
		{"env file that can't be", []string{"migrate", "--sqlite", good, "--postgres", url, "--env-file",
			"no/folder/x"}, 2, []string{"--env-file"}},
		{"uri without a word", []string{"uri"}, 2, []string{"cutover or rollback"}},
		{"uri of something else", []string{"uri", "sideways"}, 2, []string{"cutover, rollback"}},
		{"init for nobody", []string{"init", "--postgres", url, "--without-pgvector", "--owner", "nobody at all"}, 2,
			[]string{"does not exist", "nothing was created"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if slices.Contains(c.args, wrongPassword) && !pgtest.ChecksPasswords(t, url) {
				t.Skip("needs a server that asks for a password")
			}
			if c.args[0] == "migrate" {
				c.args = append([]string{"migrate", "--without-pgvector"}, c.args[1:]...)
			}
			stdout, stderr, code := newProgram(t).run(t, c.args...)
			if code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			lines := strings.Split(strings.TrimSpace(stderr), "\n")
			last := lines[len(lines)-1]
			if !strings.HasPrefix(last, "flujo-port: ") || strings.Count(stderr, "flujo-port: ") != 1 {
				t.Errorf("not one line of error:\n%s", stderr)
			}
			for _, w := range c.words {
				if !strings.Contains(last, w) {
					t.Errorf("the error does not say %q: %s", w, last)
				}
			}
			if strings.Contains(last, "cutover address") { // every one of them concerns the given one
				t.Errorf("the error is about another address: %s", last)
			}
			if stdout != "" {
				t.Errorf("stdout: %s", stdout)
			}
			for _, hidden := range []string{secret, server.Password} {
				if hidden != "" && strings.Contains(stderr, hidden) {
					t.Errorf("a password was printed: %s", stderr)
				}
			}
		})
	}
	t.Cleanup(func() {
		if got := ask(t, url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'"); got != "0" {
			t.Error("something was written all the same")
		}
	})
}

func scrambled(b []byte) string {
	out := make([]byte, len(b))
	key := byte(1)
	for i := range b {
		key = key*5 + 17
		out[i] = b[i] ^ key ^ byte(i>>3)
	}
	return string(out)
}

// refusedPort returns a loopback address on which no process listens.
func refusedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	p := newProgram(
		t,
		"DATABASE_URL=postgresql://u:hunter2secret@h/db",
		"FLUJO_PORT_POSTGRES=postgresql://u:hunter2secret@h/db",
	)
	for _, args := range [][]string{{}, {"--help"}, {"migrate", "--help"}, {"init", "--help"}, {"uri", "--help"},
		{"uri", "cutover", "--help"}, {"--version"}} {
		stdout, stderr, code := p.run(t, args...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, "flujo-port") {
			t.Errorf("%v: exit %d\n%s%s", args, code, stdout, stderr)
		}
		if strings.Contains(stdout, "hunter2secret") {
			t.Errorf("%v prints the password", args)
		}
	}
	stdout, _, _ := p.run(t, "--help")
	for _, want := range []string{"EXIT CODES", "130", "migrate", "init", "uri"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("help lacks %q", want)
		}
	}
}

func TestURI(t *testing.T) {
	t.Parallel()
	const database = "DATABASE_URL=postgresql+psycopg2://app:p%40ss@localhost/med13"
	const address = "postgresql://app:***@localhost/med13?options=-c%20search_path%3Dflujo%2Cpublic"
	for _, c := range []struct {
		name   string
		env    []string
		toml   string
		args   []string
		stdout string
		stderr string
	}{
		{name: "cutover", env: []string{database}, args: []string{"cutover"}, stdout: address},
		{name: "revealed", env: []string{database}, args: []string{"cutover", "--reveal"},
			stdout: strings.Replace(address, "***", "p%40ss", 1)},
		{name: "explicit wins", env: []string{database, "FLUJO_STATE_URI=postgresql://app:x@127.0.0.1/med13"},
			args:   []string{"cutover", "--reveal"},
			stdout: "postgresql://app:x@127.0.0.1/med13?options=-c%20search_path%3Dflujo%2Cpublic",
			stderr: "derived from FLUJO_STATE_URI"},
		{name: "explicit that leads to the schema",
			env:  []string{database, "FLUJO_STATE_URI=" + strings.Replace(address, "***", "p%40ss", 1)},
			args: []string{"cutover"}, stdout: address, stderr: "printed unchanged"},
		{name: "the flag wins over explicit", env: []string{"FLUJO_STATE_URI=postgresql://x:y@z/w"},
			args: []string{"cutover", "--postgres", "postgres://app:p%40ss@localhost/med13"}, stdout: address},
		{name: "before the cutover", env: []string{database, "FLUJO_STATE_URI=sqlite:////data/flujo_state.db"},
			args: []string{"cutover"}, stdout: address, stderr: "still names a state file"},
		{name: "sqlite DATABASE_URL", env: []string{"DATABASE_URL=sqlite:///./app.db"},
			args:   []string{"cutover", "--sqlite", "/data/flujo_state.db"},
			stdout: "sqlite:////data/flujo_state.db", stderr: "Flujo continues to use the state file"},
		{name: "FLUJO_PORT_POSTGRES before DATABASE_URL",
			env: []string{"DATABASE_URL=postgresql://app@localhost:5432/med13",
				"FLUJO_PORT_POSTGRES=postgresql://app:p%40ss@localhost/med13"},
			args: []string{"cutover"}, stdout: address},
		{name: "PG variables", env: []string{"PGHOST=localhost", "PGUSER=app", "PGDATABASE=med13",
			"PGPASSWORD=hunter2secret"}, args: []string{"cutover", "--reveal"},
			stdout: "postgresql://app@localhost/med13?options=-c%20search_path%3Dflujo%2Cpublic"},
		{name: "TLS", env: []string{"DATABASE_URL=postgresql://app:p@db.example/med13"}, args: []string{"cutover"},
			stdout: "postgresql://app:***@db.example/med13?options=-c%20search_path%3Dflujo%2Cpublic&sslmode=require",
			stderr: "sslmode=require"},
		{name: "rollback", args: []string{"rollback", "--allow-missing", "--sqlite", "/data/flujo_state.db"},
			stdout: "sqlite:////data/flujo_state.db"},
		{name: "rollback by flujo.toml", toml: "state_uri = \"sqlite:///state/f.db\"\n",
			args:   []string{"rollback", "--allow-missing"},
			stdout: "sqlite:///$DIR/state/f.db"},
		{name: "rollback by default", args: []string{"rollback", "--allow-missing"},
			stdout: "sqlite:///$DIR/flujo_state.db"},
		{name: "rollback by the environment", env: []string{"FLUJO_PORT_SQLITE=sub/f.db"},
			toml: "state_uri = \"sqlite:////x.db\"\n", args: []string{"rollback", "--allow-missing"},
			stdout: "sqlite:///$DIR/sub/f.db"},
		{name: "flujo.toml that is on Postgres already", toml: "state_uri = \"postgresql://h/d\"\n",
			args: []string{"rollback", "--allow-missing"}, stdout: "sqlite:///$DIR/flujo_state.db"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, c.env...)
			if c.toml != "" {
				write(t, filepath.Join(p.dir, "flujo.toml"), c.toml)
			}
			stdout, stderr, code := p.run(t, append([]string{"uri"}, c.args...)...)
			if code != 0 {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			real, err := filepath.EvalSymlinks(p.dir)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Replace(c.stdout, "$DIR", real, 1); stdout != want+"\n" {
				t.Errorf("stdout %q, want %q", stdout, want)
			}
			if !strings.Contains(stderr, c.stderr) {
				t.Errorf("stderr %q lacks %q", stderr, c.stderr)
			}
			if strings.Contains(stdout+stderr, "hunter2secret") {
				t.Error("a password from elsewhere was put in")
			}
		})
	}
}

func TestInit(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	role := pgtest.Role(t, url, "")
	name := ask(t, role, "SELECT current_user")
	p := newProgram(t, "FLUJO_PORT_POSTGRES="+url)
	stdout, stderr, code := p.run(t, "init", "--without-pgvector", "--owner", name)
	if code != 0 || !strings.Contains(stdout, "Created  schema flujo, runs") || !strings.Contains(stdout, name) {
		t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, _, code = p.run(t, "init", "--without-pgvector")
	if code != 0 || !strings.Contains(stdout, "nothing; everything existed already") {
		t.Errorf("again: exit %d\n%s", code, stdout)
	}
	stdout, _, code = p.run(t, "init", "--without-pgvector", "--json")
	var report map[string]any
	if err := json.Unmarshal([]byte(stdout), &report); code != 0 || err != nil || report["command"] != "init" {
		t.Errorf("JSON: exit %d, %v\n%s", code, err, stdout)
	}
	// The role lacks the CREATE privilege and migrates into the existing tables.
	stdout, stderr, code = newProgram(
		t,
	).run(t, "migrate", "--postgres", role, "--sqlite", absolute(t, fixture), "--without-pgvector")
	if code != 0 {
		t.Errorf("as the role: exit %d\n%s%s", code, stdout, stderr)
	}
}

// TestSignalRollsBack sends a signal while the program waits for a lock in its
// transaction.
func TestSignalRollsBack(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			holder := holdSteps(t, url)
			c := newProgram(
				t,
			).command("migrate", "--postgres", url, "--sqlite", absolute(t, fixture), "--without-pgvector")
			stderr := start(t, c)
			untilLine(t, stderr, "creating tables")
			if err := c.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			rest, _ := io.ReadAll(stderr)
			c.Wait()
			if code := c.ProcessState.ExitCode(); code != 130 {
				t.Errorf("exit %d", code)
			}
			if !strings.Contains(string(rest), "flujo-port: interrupted") ||
				!strings.Contains(string(rest), "nothing was committed") {
				t.Errorf("stderr: %s", rest)
			}
			if _, err := holder.Exec(context.Background(), "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
			if got := ask(t, url, "SELECT count(*) FROM flujo.runs"); got != "0" {
				t.Errorf("%s runs", got)
			}
		})
	}
}

// holdSteps creates Flujo's tables and a session that locks one of them, so that a
// migration waits in its transaction.
func holdSteps(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	if _, stderr, code := newProgram(t).run(t, "init", "--postgres", url, "--without-pgvector"); code != 0 {
		t.Fatal(stderr)
	}
	holder, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { holder.Close(context.Background()) })
	if _, err := holder.Exec(context.Background(), "BEGIN; LOCK TABLE flujo.steps"); err != nil {
		t.Fatal(err)
	}
	return holder
}

// TestSecondSignalKills checks that a second signal ends the program while a
// rollback waits for a server that does not answer.
func TestSecondSignalKills(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	holdSteps(t, url)
	mute := newMuteProxy(t, pgtest.Upstream(t, url))
	through := pgtest.WithServer(t, url, mute.address)
	c := newProgram(t).command("migrate", "--postgres", through, "--sqlite", absolute(t, fixture), "--without-pgvector")
	stderr := start(t, c)
	untilLine(t, stderr, "creating tables")
	mute.silent.Store(true)
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	untilLine(t, stderr, "a second signal kills the process")
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, stderr)
	c.Wait()
	status, ok := c.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %v, not by the signal", c.ProcessState)
	}
}

func start(t *testing.T, c *exec.Cmd) *bufio.Reader {
	t.Helper()
	pipe, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	return bufio.NewReader(pipe)
}

func untilLine(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	var seen strings.Builder
	for {
		line, err := r.ReadString('\n')
		seen.WriteString(line)
		if strings.Contains(line, want) {
			return
		}
		if err != nil {
			t.Fatalf("no line %q: %v\n%s", want, err, seen.String())
		}
	}
}

// muteProxy forwards data in both directions until it is muted.
type muteProxy struct {
	address string
	silent  atomic.Bool
}

func newMuteProxy(t *testing.T, upstream string) *muteProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &muteProxy{address: l.Addr().String()}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			network := "tcp"
			if strings.HasPrefix(upstream, "/") {
				network = "unix"
			}
			server, err := net.Dial(network, upstream)
			if err != nil {
				client.Close()
				return
			}
			t.Cleanup(func() { client.Close(); server.Close() })
			go p.pass(server, client)
			go p.pass(client, server)
		}
	}()
	return p
}

func (p *muteProxy) pass(to io.Writer, from io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if !p.silent.Load() {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// unwrapped returns a report as one line.
func unwrapped(report string) string { return strings.Join(strings.Fields(report), " ") }
