package docs_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/stateuri"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// wiringBlocks lists the blocks of docs/wiring.md by the test that runs them. The tests of the folder deploy parse the
// YAML.
var wiringBlocks = map[string]string{
	"python flujo_state.py":            "TestStateURIModule, TestStateURIIsThatOfTheProgram, TestAsyncpgWiring",
	"python test_flujo_state.py":       "TestStateURIModule",
	"python smoke.py":                  "TestAsyncpgWiring",
	"python env.py":                    "TestAlembic",
	"python include_name_of_tables.py": "TestAlembic",
	"text cloud-sql":                   "TestCloudSQLAddresses",
	"sh secret-manager":                "TestSecretCommands",
	"sh cloud-run":                     "TestSecretCommands",
	"sh secret-rollback":               "TestSecretCommands",
	"sh kubernetes-env-file":           "TestSecretCommands",
	"sh kubernetes-secret":             "TestSecretCommands",
	"sh compose-up":                    "TestSecretCommands",
	"sql connections":                  "TestConnections",
	"ini pgbouncer.ini":                "TestPgBouncerWiring",
	"sql search-path":                  "TestPgBouncerWiring",
	"markdown AGENTS.md":               "TestAgentsText",
	"yaml compose":                     "deploy: TestWiringCompose",
	"yaml deployment":                  "deploy: TestWiringDeployment",
}

func TestWiringBlocks(t *testing.T) {
	t.Parallel()
	blocks := open(t, "wiring.md").blocks
	flujotest.WantSame(t, "blocks", slices.Sorted(maps.Keys(blocks)), slices.Sorted(maps.Keys(wiringBlocks)))
	tests := read(t, "wiring_test.go") + read(t, "wiring_clients_test.go") + read(t, "../../deploy/wiring_test.go")
	for block, names := range wiringBlocks {
		for name := range strings.SplitSeq(strings.TrimPrefix(names, "deploy: "), ", ") {
			if !strings.Contains(tests, "\nfunc "+name+"(t *testing.T)") {
				t.Errorf("%s: there is no test %s", block, name)
			}
		}
	}
}

// wiringModules writes flujo_state.py, its tests and smoke.py to a new folder.
func wiringModules(t *testing.T) (folder string) {
	t.Helper()
	p := open(t, "wiring.md")
	folder = t.TempDir()
	for _, name := range []string{"flujo_state.py", "test_flujo_state.py", "smoke.py"} {
		write(t, filepath.Join(folder, name), p.block("python "+name))
	}
	return folder
}

// inFolder returns a command in a folder, with only the given environment.
func inFolder(folder string, environment []string, program string, args ...string) *exec.Cmd {
	c := exec.Command(program, args...)
	c.Dir = folder
	c.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + folder, "PYTHONUTF8=1"}, environment...)
	return c
}

func TestStateURIModule(t *testing.T) {
	t.Parallel()
	_, stderr, code := run(t, inFolder(wiringModules(t), nil, python(t), "-m", "unittest", "-v"))
	if code != 0 || !strings.Contains(stderr, "Ran 6 tests") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// deriveByModule returns what flujo_state.py makes of each DATABASE_URL; "" if it refuses it.
func deriveByModule(t *testing.T, urls []string) (derived []string) {
	t.Helper()
	given, err := json.Marshal(urls)
	if err != nil {
		t.Fatal(err)
	}
	c := inFolder(wiringModules(t), nil, python(t), "-c", `
import json, sys, flujo_state
def derive(url):
    try:
        return flujo_state.state_uri({"DATABASE_URL": url})
    except ValueError:
        return ""
print(json.dumps([derive(url) for url in json.load(sys.stdin)]))`)
	c.Stdin = strings.NewReader(string(given))
	stdout, stderr, code := run(t, c)
	if err := json.Unmarshal([]byte(stdout), &derived); err != nil || code != 0 {
		t.Fatalf("exit %d, %v: %s", code, err, stderr)
	}
	return derived
}

// TestStateURIIsThatOfTheProgram tests that flujo_state.py returns the address of `uri cutover`, or refuses.
func TestStateURIIsThatOfTheProgram(t *testing.T) {
	t.Parallel()
	random := flujotest.Random(flujotest.Seed(t), 0)
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	urls := make([]string, 3000)
	for i := range urls {
		query := ""
		for range random.IntN(4) {
			query += pick(
				"?",
				"&",
				"&",
				"&",
			) + pick(
				"sslmode",
				"sslmode",
				"options",
				"application_name",
				"host",
				"port",
				"statement_timeout",
				"connect_timeout",
				"ssl",
				"sslrootcert",
				"search_path",
				"pool_size",
				"x",
			) + "=" +
				pick(
					"",
					"require",
					"disable",
					"verify-full",
					"-c%20work_mem%3D8MB",
					"-c%20search_path%3Dapp",
					"5s",
					"a%20b",
					"-c%20search_path%3Dflujo%2Cpublic",
					"/cloudsql/a:b:c",
					"/run/x",
					"5433",
					"a+b",
					"ä",
					"%C3%A4",
					"a,b",
					"a%2Cb",
					"system",
					"/etc/ssl/ca.crt",
					"db.example",
					"%5C",
					"%2B",
					"%25",
				)
		}
		urls[i] = pick(
			"postgresql",
			"postgres",
			"postgresql+psycopg2",
			"postgresql+asyncpg",
			"mysql",
			"POSTGRESQL",
		) + "://" +
			pick(
				"",
				"app@",
				"app:pw@",
				"app:p%40w%2F@",
				"a%20b:p!$&'()*,;=~w@",
				"app:@",
				":pw@",
				"a:b:c@",
				"app:p@w@",
			) +
			pick(
				"",
				"localhost",
				"LOCALHOST",
				"db.example",
				"127.0.0.1",
				"[::1]",
				"[2001:db8::1]",
				"10.0.0.7",
				"a,b",
				"%2Frun",
			) +
			pick(
				"",
				":5432",
				":6000",
				":x",
			) + pick(
			"",
			"/",
			"/med13",
			"/my%20db",
			"/a/b",
		) + query
	}
	accepted := 0
	for i, got := range deriveByModule(t, urls) {
		if got == "" {
			continue
		}
		accepted++
		want, _, err := stateuri.Cutover(urls[i], stateuri.Known{}, "flujo")
		if err != nil || got != want.Reveal() {
			t.Errorf("%s: got %s, want %s (%v)", urls[i], got, want.Reveal(), err)
		}
	}
	if accepted < len(urls)/20 {
		t.Errorf("only %d of %d addresses were accepted", accepted, len(urls))
	}
}

// TestCloudSQLAddresses tests that the addresses of Cloud SQL need what the page says: a sslmode only for a host that
// is not local.
func TestCloudSQLAddresses(t *testing.T) {
	t.Parallel()
	const options = "options=-c%20search_path%3Dflujo%2Cpublic"
	want := map[string]string{
		"socket":   "postgresql://app:secret@/med13?host=/cloudsql/project:region:instance&" + options,
		"loopback": "postgresql://app:secret@127.0.0.1:5432/med13?" + options,
		"service":  "postgresql://app:secret@cloud-sql-proxy:5432/med13?" + options + "&sslmode=disable",
		"direct":   "postgresql://app:secret@203.0.113.7:5432/med13?" + options + "&sslmode=require",
	}
	seen := 0
	for line := range strings.Lines(open(t, "wiring.md").block("text cloud-sql")) {
		name, url, _ := strings.Cut(strings.TrimSpace(line), " ")
		url = strings.TrimSpace(url)
		got, _, err := stateuri.Cutover(url, stateuri.Known{}, "flujo")
		if err != nil || got.Reveal() != want[name] || deriveByModule(t, []string{url})[0] != want[name] {
			t.Errorf("%s: got %s, want %s (%v)", name, got.Reveal(), want[name], err)
		}
		seen++
	}
	if seen != len(want) {
		t.Errorf("got %d addresses, want %d", seen, len(want))
	}
	const without = "postgresql://app:secret@cloud-sql-proxy:5432/med13"
	if got, _, err := stateuri.Cutover(without, stateuri.Known{}, "flujo"); err != nil ||
		!strings.HasSuffix(got.Reveal(), "&sslmode=require") {
		t.Errorf("without sslmode: got %s (%v)", got.Reveal(), err)
	}
}

// TestSecretCommands runs the commands of the page with programs that record how they are called.
func TestSecretCommands(t *testing.T) {
	t.Parallel()
	p, url, folder := open(t, "wiring.md"), pgtest.WithPassword(t, pgtest.Database(t)), t.TempDir()
	flujotest.Initialize(t, url, "")
	file := flujotest.Copy(t, flujotest.Fixture)
	write(t, filepath.Join(folder, "flujo-port"), "#!/bin/sh\nexec "+binary+" \"$@\"\n")
	record := "#!/bin/sh\nprintf '%s\\n' \"$@\" >>calls; case $* in *--data-file=-) cat >secret;; " +
		"\"get secret \"*) printf %s \"$STORED\" | base64;; esac\n"
	for _, program := range []string{"gcloud", "kubectl", "docker"} {
		write(t, filepath.Join(folder, program), record)
	}
	do := func(name string, environment ...string) (calls, secret string, code int) {
		_ = os.Remove(filepath.Join(folder, "calls"))
		_ = os.Remove(filepath.Join(folder, "secret"))
		c := inFolder(folder, append(environment, "FILE="+file, "SERVICE_ACCOUNT=flujo@project"), "bash", "-euc",
			p.block("sh "+name))
		c.Env = append(c.Env, "PATH="+folder+":"+os.Getenv("PATH"))
		_, stderr, code := run(t, c)
		recorded, err := os.ReadFile(filepath.Join(folder, "calls"))
		if err != nil && !errors.Is(err, os.ErrNotExist) || code == 0 && err != nil {
			t.Fatalf("%s: %v: %s", name, err, stderr)
		}
		stored, _ := os.ReadFile(filepath.Join(folder, "secret"))
		return string(recorded), string(stored), code
	}
	want := flujotest.Cutover(t, url).Reveal()
	calls, secret, code := do("secret-manager", "DATABASE_URL="+url)
	if code != 0 || secret != want || strings.Contains(calls, "://") ||
		!strings.Contains(calls, "secrets\ncreate\nflujo-state-uri\n--data-file=-\n") ||
		!strings.Contains(calls, "--member=serviceAccount:flujo@project\n") {
		t.Errorf("exit %d, stored %q, want %q; calls %q", code, secret, want, calls)
	}
	nowhere := pgtest.WithDatabase(t, url, "no_such_database")
	if calls, _, code := do("secret-manager", "DATABASE_URL="+nowhere); code == 0 || calls != "" {
		t.Errorf("an address that does not work: exit %d, calls %q", code, calls)
	}
	if calls, secret, code := do("secret-rollback"); code != 0 || secret != "sqlite:///"+file ||
		!strings.Contains(calls, "versions\nadd\nflujo-state-uri\n") {
		t.Errorf("rollback: exit %d, stored %q, calls %q", code, secret, calls)
	}
	if calls, _, code := do("cloud-run"); code != 0 ||
		!strings.Contains(calls, "--set-secrets=FLUJO_STATE_URI=flujo-state-uri:1\n") {
		t.Errorf("Cloud Run: exit %d, calls %q", code, calls)
	}
	if calls, _, code := do("compose-up"); code != 0 ||
		calls != "compose\n-f\ndeploy/docker-compose.postgres.yml\n-f\ncompose.yaml\nup\n-d\n--wait\n" {
		t.Errorf("compose: exit %d, calls %q", code, calls)
	}
	const withoutPassword = "postgresql://app@db.example/med13_dev?sslmode=require" // as in deploy/kubernetes
	fromSecret, _, err := stateuri.Cutover(withoutPassword, stateuri.Known{}, "flujo")
	if err != nil {
		t.Fatal(err)
	}
	calls, _, code = do("kubernetes-env-file", "STORED="+withoutPassword)
	if got := read(t, filepath.Join(folder, "cutover.env")); code != 0 ||
		got != "FLUJO_STATE_URI="+fromSecret.Reveal()+"\n" ||
		calls != "get\nsecret\nflujo-port\n-o\njsonpath={.data.DATABASE_URL}\n" {
		t.Errorf("Kubernetes: exit %d, wrote %q, calls %q", code, got, calls)
	}
	if calls, _, code := do("kubernetes-secret"); code != 0 ||
		calls != "create\nsecret\ngeneric\nflujo-state-uri\n--from-env-file=cutover.env\n" {
		t.Errorf("Kubernetes: exit %d, calls %q", code, calls)
	}
}

// planned runs the query of the page with other numbers in its first line: what is needed, what is available, and
// whether it fits ("t" or "f").
func planned(t *testing.T, url string, numbers ...string) (needed, available int, fits string) {
	t.Helper()
	text := open(t, "wiring.md").block("sql connections")
	first := regexp.MustCompile(`\(VALUES \(.*\)\)`)
	if len(first.FindAllString(text, -1)) != 1 {
		t.Fatal("the query has no line of numbers, or several")
	}
	text = first.ReplaceAllString(text, "(VALUES ("+strings.Join(numbers, ", ")+"))")
	if _, err := fmt.Sscanf(query(t, url, text)[0], "%d|%d|%s", &needed, &available, &fits); err != nil {
		t.Fatal(err)
	}
	return needed, available, fits
}

// fill opens connections until the server refuses one, and returns their number.
func fill(t *testing.T, url string) int {
	t.Helper()
	var held []*pgx.Conn
	defer func() {
		for _, conn := range held {
			_ = conn.Close(context.Background())
		}
	}()
	for {
		conn, err := pgx.Connect(context.Background(), url)
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == "53300" {
			return len(held)
		}
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
}

// awaitAlone returns when the server has no other client. A process of the server ends some time after its connection.
func awaitAlone(t *testing.T, url string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for query(t, url, `SELECT count(*) FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`)[0] != "0" {
		if time.Now().After(deadline) {
			t.Fatal("another client is still connected")
		}
	}
}

// TestConnections tests the formula of the page and its query: as many connections as it calls available can be opened,
// and no more.
func TestConnections(t *testing.T) {
	t.Parallel()
	page := read(t, "../../docs/wiring.md")
	examples := regexp.MustCompile(`(\d+) × (\d+) × \((\d+) \+ (\d+) \+ (\d+)\) = (\d+)`).
		FindAllStringSubmatch(page, -1)
	if len(examples) != 2 {
		t.Fatalf("got examples %q", examples)
	}
	server := pgtest.StartFor(t, pgtest.WithSettings("max_connections=20"))
	url := server.URL("postgres")
	for _, e := range examples {
		if needed, available, fits := planned(t, url, e[1:6]...); strconv.Itoa(needed) != e[6] || fits != "f" {
			t.Errorf("%s: %d are needed, %d available, fits %s", e[0], needed, available, fits)
		}
	}
	second := examples[1]
	values := "(VALUES (" + strings.Join(second[1:6], ", ") + "))"
	for _, text := range []string{values, "default_pool_size = " + second[6]} {
		if !strings.Contains(page, text) {
			t.Errorf("the page has other numbers than %s", text)
		}
	}

	for name, limit := range map[string]struct{ attributes, statement string }{
		"server":   {},
		"role":     {attributes: "CONNECTION LIMIT 5"},
		"database": {statement: "ALTER DATABASE postgres CONNECTION LIMIT 7"},
	} {
		role := pgtest.Role(t, url, limit.attributes)
		flujotest.ExecAt(t, url, cmp.Or(limit.statement, "ALTER DATABASE postgres CONNECTION LIMIT -1"))
		held, err := pgx.Connect(context.Background(), role) // counts as in use
		if err != nil {
			t.Fatal(err)
		}
		settle := func() {
			_ = held.Close(context.Background())
			awaitAlone(t, url)
			if held, err = pgx.Connect(context.Background(), role); err != nil {
				t.Fatal(err)
			}
		}
		settle()
		_, available, _ := planned(t, role, "1", "1", "1", "0", "0")
		settle()
		opened := fill(t, role)
		settle()
		_, _, fits := planned(t, role, "1", "1", strconv.Itoa(opened), "0", "0")
		settle()
		_, _, more := planned(t, role, "1", "1", strconv.Itoa(opened+1), "0", "0")
		_ = held.Close(context.Background())
		awaitAlone(t, url)
		if opened < 3 || available != opened || fits != "t" || more != "f" {
			t.Errorf("limit of the %s: %d are available, %d were opened; %[3]d fit: %s, one more: %s",
				name, available, opened, fits, more)
		}
	}
}

// TestAgentsText runs the commands of the text for AGENTS.md, and tests that the objects and files that it names exist.
func TestAgentsText(t *testing.T) {
	t.Parallel()
	p, url := open(t, "wiring.md"), pgtest.Database(t)
	text := p.block("markdown AGENTS.md")
	file := flujotest.Copy(t, flujotest.Fixture)
	o := flujotest.Options(t, file, url)
	flujotest.Migrate(t, o)
	o.Replace = true
	flujotest.Migrate(t, o)
	if got := query(
		t,
		url,
		"SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'flujo\\_archive\\_%'",
	); got[0] != "1" {
		t.Errorf("there are %s archive schemas", got[0])
	}
	fresh := pgtest.Database(t)
	commands := map[string]string{ // with the database in which they must succeed
		`flujo-port verify --sqlite "$FILE"`:            url,
		`flujo-port check --sqlite "$FILE"`:             fresh,
		`flujo-port migrate --sqlite "$FILE" --dry-run`: fresh,
		`flujo-port migrate`:                            "",
		`flujo-port restore`:                            "",
	}
	folder := t.TempDir()
	write(t, filepath.Join(folder, "flujo-port"), fmt.Sprintf(
		"#!/bin/sh\ncase $1 in check|migrate) exec %s \"$@\" --without-pgvector;; *) exec %[1]s \"$@\";; esac\n",
		binary,
	))
	before := query(t, fresh, "SELECT count(*) FROM pg_class")
	found := 0
	for _, quoted := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		word := strings.Join(strings.Fields(quoted[1]), " ")
		switch database, known := commands[word]; {
		case strings.HasPrefix(word, "flujo-port") && !known:
			t.Errorf("unknown command %s", word)
		case database != "":
			found++
			c := inFolder(folder, []string{"DATABASE_URL=" + database, "FILE=" + file}, "bash", "-euc", word)
			c.Env = append(c.Env, "PATH="+folder+":"+os.Getenv("PATH"))
			if stdout, stderr, code := run(t, c); code != 0 {
				t.Errorf("%s: exit %d: %s%s", word, code, stdout, stderr)
			}
		case strings.HasSuffix(word, ".py"):
			if name := word[strings.LastIndexByte(word, ' ')+1:]; p.blocks["python "+name] == "" {
				t.Errorf("the page has no file %s", name)
			}
		case strings.HasPrefix(word, "flujo_port_") && word != "flujo_port_originals":
			if got := query(t, url, "SELECT to_regclass('flujo."+word+"') IS NULL")[0]; got != "f" {
				t.Errorf("there is no table %s", word)
			}
		}
	}
	if found != 3 {
		t.Errorf("%d commands were run", found)
	}
	if after := query(t, fresh, "SELECT count(*) FROM pg_class"); after[0] != before[0] {
		t.Errorf("the commands created relations: %s, then %s", before[0], after[0])
	}
}
