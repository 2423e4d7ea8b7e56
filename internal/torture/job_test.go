//go:build slow && unix

package torture

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// worker runs trials one after the other.
type worker struct {
	random  *mathrand.Rand
	server  *pgtest.Server
	waiting *pgtest.Server // on which COMMIT waits for a standby that does not exist
	jobs    []*job
	file    string // a state file
	other   string // the same with other rows
	n       int    // databases that were created
}

// job is a command that is disturbed.
type job struct {
	name     string
	args     []string // {file}, {other} and {new} are replaced
	template string   // the database in which it starts
	before   string   // what look returns before and after the command
	after    string
	messages int // that the client sends
	bytes    int64
	takes    time.Duration
}

func (j *job) makesFile() bool { return strings.HasPrefix(j.name, "restore") }

// newWorker starts servers, and runs each job without a disturbance to know its states.
func newWorker(t *testing.T, random *mathrand.Rand) *worker {
	t.Helper()
	w := &worker{random: random, server: pgtest.StartFor(t), file: flujotest.FullFile(t)}
	w.waiting = pgtest.StartFor(t, pgtest.WithSettings("synchronous_standby_names=nobody", "synchronous_commit=local"))
	w.other = flujotest.Copy(t, w.file)
	flujotest.Change(t, w.other, "UPDATE runs SET updated_at = '2031-01-01T00:00:00+00:00', status = 'failed' "+
		"WHERE rowid % 2 = 0")
	for _, server := range []*pgtest.Server{w.server, w.waiting} {
		flujotest.ExecAt(t, server.URL("postgres"), "CREATE DATABASE bare", "CREATE DATABASE filled")
		if out, code := w.run(t, server.URL("filled"), "", "migrate", "--sqlite", w.file, "--quarantine",
			"--without-pgvector"); code != 0 {
			t.Fatal(out)
		}
		if server == w.waiting {
			flujotest.ExecAt(t, server.URL("postgres"), "ALTER SYSTEM SET synchronous_commit = on",
				"SELECT pg_reload_conf()")
		}
	}
	migrate := []string{"migrate", "--sqlite", "{file}", "--quarantine", "--without-pgvector"}
	w.jobs = []*job{
		{name: "migrate", args: migrate, template: "bare"},
		{name: "replace", template: "filled",
			args: []string{"migrate", "--sqlite", "{other}", "--quarantine", "--without-pgvector", "--replace"}},
		{name: "merge", template: "filled",
			args: []string{"migrate", "--sqlite", "{other}", "--quarantine", "--without-pgvector", "--merge"}},
		{name: "init", args: []string{"init", "--without-pgvector"}, template: "bare"},
		{name: "restore", args: []string{"restore", "--sqlite", "{new}"}, template: "filled"},
		{
			name:     "restore --base",
			args:     []string{"restore", "--sqlite", "{new}", "--base", "{file}"},
			template: "filled",
		},
	}
	for _, j := range w.jobs {
		place := w.place(t, w.server, j)
		j.before = place.look(t)
		proxy := pgtest.NewProxy(t, pgtest.Upstream(t, place.url))
		proxy.OnClientMessage(func(_ byte, payload []byte) bool {
			j.messages++
			j.bytes += int64(len(payload)) + 5
			return false
		})
		begun := time.Now()
		if out, code := w.run(t, proxy.Rewrite(place.url), "", place.args()...); code != 0 {
			t.Fatalf("%s: %s", j.name, out)
		}
		j.takes = time.Since(begun)
		if j.after = place.look(t); j.after == j.before {
			t.Fatalf("%s changed nothing", j.name)
		}
	}
	return w
}

// place is where a job runs: a database and a folder.
type place struct {
	*job
	w      *worker
	server *pgtest.Server
	url    string // as a role with a password of its own
	admin  string // as the superuser
	dir    string
	secret string
	files  map[string][sha256.Size]byte // the state files before
}

func (w *worker) place(t *testing.T, server *pgtest.Server, j *job) *place {
	t.Helper()
	w.n++
	p := &place{job: j, w: w, server: server, dir: t.TempDir(), secret: "secret" + rand.Text()}
	name := fmt.Sprintf("d%d", w.n)
	admin := flujotest.Connect(t, server.URL("postgres"))
	flujotest.Exec(
		t,
		admin,
		"SET synchronous_commit = local",
		"CREATE ROLE "+name+" SUPERUSER LOGIN PASSWORD '"+p.secret+"'",
		"CREATE DATABASE "+name+" TEMPLATE "+j.template,
	)
	p.admin = server.URL(name)
	p.url = pgtest.WithUser(t, p.admin, name, p.secret)
	p.files = map[string][sha256.Size]byte{}
	for _, path := range []string{w.file, w.other} {
		p.files[path] = sum(t, path)
	}
	return p
}

func sum(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(content)
}

// args returns the arguments of the job in this place.
func (p *place) args() []string {
	replace := strings.NewReplacer("{file}", p.w.file, "{other}", p.w.other, "{new}", filepath.Join(p.dir, "new.db"))
	args := slices.Clone(p.job.args)
	for i := range args {
		args[i] = replace.Replace(args[i])
	}
	return args
}

// tables are Flujo's tables with an order of their rows, as the trials read them.
const fingerprint = `SELECT coalesce(string_agg(part, ' ' ORDER BY part), 'nothing') FROM (
	SELECT c.relname || ':' || (xpath('/row/d/text()', query_to_xml(format(
		'SELECT md5(coalesce(string_agg(r::text, chr(10) ORDER BY r::text), '''')) || count(*) AS d FROM %s r',
		c.oid::regclass), false, true, '')))[1]::text AS part
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname = 'flujo' AND c.relkind = 'r' AND c.relname NOT IN ('flujo_port_receipts', 'flujo_schema_versions')
	UNION ALL SELECT 'archives:' || count(*)::text FROM pg_namespace WHERE nspname LIKE 'flujo\_%'
	UNION ALL SELECT 'staging:' || count(*)::text FROM pg_namespace WHERE nspname LIKE '%staging%') parts`

// secretsStored counts the tables that hold $1.
const secretsStored = `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname LIKE 'flujo%' AND c.relkind = 'r' AND strpos(table_to_xml(c.oid, true, true, '')::text, $1) > 0`

// look returns the state of the database and of the new file, by SQL and SQLite alone.
func (p *place) look(t *testing.T) string {
	t.Helper()
	state := flujotest.OneAt(t, p.admin, fingerprint)
	if p.makesFile() {
		state += " " + p.lookAtFile(t)
	}
	return state
}

func (p *place) lookAtFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(p.dir, "new.db")
	if _, err := os.Stat(path); os.IsNotExist(err) {
		return "no file"
	}
	h := sha256.New()
	dump := flujotest.Dump(t, path)
	names := make([]string, 0, len(dump))
	for name := range dump {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(h, "%s %q\n", name, dump[name])
	}
	return fmt.Sprintf("file %x", h.Sum(nil))
}

// settle returns when the server has ended the job's sessions.
func (p *place) settle(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for tick := time.Tick(20 * time.Millisecond); ; <-tick {
		var sessions int
		conn, err := pgx.Connect(t.Context(), p.server.URL("postgres"))
		if err == nil {
			err = conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", p.user()).
				Scan(&sessions)
			_ = conn.Close(t.Context())
			if err == nil && sessions == 0 {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the sessions do not end: %v", err)
		}
	}
}

func (p *place) user() string {
	config, err := pgx.ParseConfig(p.url)
	if err != nil {
		panic(err) // the trials made it
	}
	return config.User
}

// judge compares the state with what the program said, and runs the command once more if nothing has changed.
func (p *place) judge(t *testing.T, r *run) outcome {
	t.Helper()
	p.settle(t)
	state := p.look(t)
	o := outcome{phase: r.phase(), result: unchanged}
	if state == p.after {
		o.result = done
	}
	notKnown := r.code == 1 && strings.Contains(r.stderr, "not known")
	switch {
	case state != p.before && state != p.after:
		t.Errorf("%s: the state is neither that before nor that after:\n%s\nbefore %s\nafter  %s\n%s", p.name, state,
			p.before, p.after, r)
	case r.code == 0 && o.result != done, r.code > 0 && !notKnown && o.result == done:
		t.Errorf("%s: %s, but %s", p.name, o.result, r)
	}
	if notKnown {
		o.result = unknown
	}
	p.check(t, r)
	if state == p.before {
		again := p.w.start(t, p.url, p.args()...)
		again.wait(t)
		if got := p.look(t); again.code != 0 || got != p.after {
			t.Errorf("%s: the second run: %s\n%s", p.name, again, got)
		}
		p.check(t, again)
	}
	return o
}

// check tests what holds for every run.
func (p *place) check(t *testing.T, r *run) {
	t.Helper()
	for path, before := range p.files {
		if sum(t, path) != before {
			t.Errorf("%s changed %s", p.name, path)
		}
	}
	all := r.stdout + r.stderr
	if strings.Contains(all, p.secret) {
		t.Errorf("%s printed the password: %s", p.name, r)
	}
	if strings.Contains(all, "panic:") || strings.Contains(all, "goroutine ") || r.code > 4 && r.code != 130 {
		t.Errorf("%s: %s", p.name, r)
	}
	if strings.Contains(p.server.Log(), p.secret) {
		t.Errorf("%s: the password is in the server's log", p.name)
	}
	if n := flujotest.OneAt(t, p.admin, secretsStored, p.secret); n != "0" {
		t.Errorf("%s: the password is in %s tables of the database", p.name, n)
	}
	if strings.ContainsFunc(all, notPrinted) {
		t.Errorf("%s printed control characters: %q", p.name, all)
	}
	err := filepath.WalkDir(p.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), p.secret) {
			t.Errorf("%s wrote the password to %s", p.name, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
