//go:build slow && unix

package torture

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
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

// place is where a job runs: a database and a folder.
type place struct {
	*job
	options
	w      *worker
	server *pgtest.Server
	url    string // as a role with a password of its own
	admin  string // as the superuser
	name   string // of the database and the role
	dir    string
	secret string                       // the part of the password that no encoding changes
	files  map[string][sha256.Size]byte // the state files before
}

// options are what a command is asked for besides its work.
type options struct {
	json    bool
	envFile bool
	oldFile bool // there is an env file already
}

const oldEnvFile = "FLUJO_STATE_URI=postgresql://old\n"

// place makes a place for a job, with random options.
func (w *worker) place(t *testing.T, server *pgtest.Server, j *job) *place {
	t.Helper()
	coin := func() bool { return w.random.IntN(2) == 0 }
	return w.placeWith(t, server, j, options{json: coin(), envFile: coin() && j.takesEnvFile(), oldFile: coin()})
}

func (w *worker) placeWith(t *testing.T, server *pgtest.Server, j *job, o options) *place {
	t.Helper()
	w.places++
	p := &place{
		job: j, options: o, w: w, server: server, dir: t.TempDir(),
		name: fmt.Sprintf("place_%d", w.places), secret: rand.Text(),
	}
	password := p.secret + " @/:%'\\é"
	flujotest.Exec(
		t,
		flujotest.Connect(t, server.URL("postgres")),
		"SET synchronous_commit = local",
		"SET log_statement = none", // of the password
		"CREATE ROLE "+p.name+" SUPERUSER LOGIN PASSWORD '"+strings.ReplaceAll(password, "'", "''")+"'",
		"CREATE DATABASE "+p.name+" TEMPLATE "+templateOf(j),
	)
	p.admin = server.URL(p.name)
	p.url = pgtest.WithUser(t, p.admin, p.name, password)
	p.files = map[string][sha256.Size]byte{}
	for _, path := range []string{w.file, w.other, w.third} {
		p.files[path] = sum(t, path)
	}
	if o.envFile && o.oldFile {
		if err := os.WriteFile(p.envPath(), []byte(oldEnvFile), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func templateOf(j *job) string {
	if j.template == "" {
		return "bare"
	}
	return j.template
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
	replace := strings.NewReplacer("{file}", p.w.file, "{other}", p.w.other, "{third}", p.w.third,
		"{new}", p.newPath())
	args := slices.Clone(p.job.args)
	for i := range args {
		args[i] = replace.Replace(args[i])
	}
	if p.json {
		args = append(args, p.job.asJSON...)
	}
	if p.envFile {
		args = append(args, "--env-file", p.envPath())
	}
	return args
}

func (p *place) newPath() string { return filepath.Join(p.dir, "new.db") }
func (p *place) envPath() string { return filepath.Join(p.dir, "flujo.env") }

// addressText returns the part of an address that differs between places: role, password, server and database.
func addressText(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	rest, _, _ = strings.Cut(rest, "?")
	return rest
}

// fingerprint selects what is in a database: the rows of all tables, except those with the time of the migration; the
// sequences; the schemas; and the number of objects. Ids of original values are left out, with their sequence, since a
// crash of the server skips numbers.
const fingerprint = `
WITH schemas AS (SELECT oid, regexp_replace(nspname, '_archive_.*', '_archive') AS name FROM pg_namespace
	WHERE nspname !~ '^(pg_|information_schema$)'),
relations AS (SELECT c.oid, c.relkind, s.name || '.' || c.relname AS name FROM pg_class c
	JOIN schemas s ON s.oid = c.relnamespace)
SELECT coalesce(string_agg(part, ' ' ORDER BY part), 'nothing') FROM (
	SELECT name || ':' || (xpath('/row/d/text()', query_to_xml(CASE relkind
		WHEN 'S' THEN format('SELECT last_value AS d FROM %s', oid::regclass)
		ELSE format(
			'SELECT md5(coalesce(string_agg(t, chr(10) ORDER BY t), '''')) || count(*) AS d
				FROM (SELECT %s AS t FROM %s r) s',
			CASE WHEN name LIKE '%.flujo_port_originals' THEN '(to_jsonb(r) - ''id'')::text' ELSE 'r::text' END,
			oid::regclass) END, false, true, '')))[1]::text AS part
	FROM relations WHERE relkind IN ('r', 'S')
		AND name !~ '[.]flujo_(port_receipts|port_originals_id_seq|schema_versions)$'
	UNION ALL SELECT 'schema ' || name FROM schemas WHERE name <> 'public'
	UNION ALL SELECT 'objects:' || count(*) FROM relations) parts`

// look returns the state of the database and of the new file, by SQL and SQLite alone.
func (p *place) look(t *testing.T) string {
	t.Helper()
	return flujotest.OneAt(t, p.admin, fingerprint) + " " + p.lookAtFile(t)
}

func (p *place) lookAtFile(t *testing.T) string {
	t.Helper()
	path := p.newPath()
	if !exists(path) {
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

// settleLimit is how long the server may take to end the sessions of a command that has ended.
const settleLimit = time.Minute

// settle returns when the server has ended the job's sessions.
func (p *place) settle(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(settleLimit)
	for tick := time.Tick(20 * time.Millisecond); ; <-tick {
		pids, err := p.sessions(t)
		if err == nil && len(pids) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the sessions do not end: %v", err)
		}
	}
}

// sessions returns the server's processes of the job.
func (p *place) sessions(t *testing.T) (pids []string, err error) {
	conn, err := pgx.Connect(t.Context(), p.server.URL("postgres"))
	if err != nil {
		return nil, err
	}
	defer conn.Close(t.Context())
	return sessionsOf(t, conn, p.name)
}

func sessionsOf(t *testing.T, conn *pgx.Conn, role string) ([]string, error) {
	rows, err := conn.Query(t.Context(), "SELECT pid::text FROM pg_stat_activity WHERE usename = $1", role)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
