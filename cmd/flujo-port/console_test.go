package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/pgtest"
)

// logged is a line of stderr with --log-format json.
type logged struct {
	Time       time.Time
	Level, Msg string
	Phase      string
	ExitCode   *int `json:"exit_code"`
}

func readLog(t *testing.T, stderr string) (all []logged) {
	t.Helper()
	for text := range strings.Lines(stderr) {
		var l logged
		if err := json.Unmarshal([]byte(text), &l); err != nil || l.Time.IsZero() || l.Level == "" || l.Msg == "" {
			t.Fatalf("%v: %s", err, text)
		}
		all = append(all, l)
	}
	return all
}

// TestQuiet tests that --quiet leaves warnings, errors and the report.
func TestQuiet(t *testing.T) {
	t.Parallel()
	url := pgtest.WithParameter(t, pgtest.Database(t), "connection_limit", "1") // which verify notes
	p := newProgram(t, "DATABASE_URL="+url, "FLUJO_PORT_SQLITE="+absolute(t, fixture))
	for _, c := range []struct {
		args, stdout string
		code         int
		stderr       string // the beginning; nothing if it is empty
	}{
		{"check --without-pgvector --quiet", "Ready", 0, ""},
		{"migrate --without-pgvector --quiet --dry-run", "Dry run", 0, ""},
		{"migrate --without-pgvector --quiet", "Migrated and verified", 0, ""},
		{"migrate --without-pgvector --quiet", "", 3, "flujo-port: "},
		{"verify --quiet --json", `"verdict"`, 0, ""},
		{"restore --quiet --sqlite new.db", "new.db", 0, ""},
		{"init --quiet --without-pgvector", "exist", 0, ""},
		{"migrate --without-pgvector --replace --quiet --env-file /dev/full/x", "", 2, "flujo-port: "},
	} {
		stdout, stderr, code := p.run(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.HasPrefix(stderr, c.stderr) ||
			strings.Count(stderr, "\n") > 1 || (c.stderr == "") != (stderr == "") {
			t.Errorf("%s: exit %d: %s%s", c.args, code, stdout, stderr)
		}
	}
	if _, stderr, _ := p.run(t, "verify"); !strings.Contains(stderr, "note: ") {
		t.Errorf("verify has no note: %s", stderr)
	}
}

// TestJSONLog tests that with --log-format json each line of stderr is an object, whatever goes wrong.
func TestJSONLog(t *testing.T) {
	t.Parallel()
	url := pgtest.WithParameter(t, pgtest.Database(t), "connection_limit", "1")
	p := newProgram(t, "DATABASE_URL="+url, "FLUJO_PORT_SQLITE="+absolute(t, fixture))
	for _, c := range []struct {
		args   string
		code   int
		levels string // of lines that are no progress
		phases string
	}{
		{"check --without-pgvector", 0, "", "connect read integrity"},
		{"migrate --without-pgvector", 0, "", "connect schema copy indexes verify integrity commit"},
		{"migrate --without-pgvector --json", 3, "ERROR", "connect schema"},
		{"verify", 0, "INFO", "connect read integrity"},
		{"verify --quiet", 0, "", ""},
		{"migrate --nope", 2, "ERROR", ""},
		{"migrate here.db", 2, "ERROR", ""},
		{"restore --sqlite new.db", 0, "INFO", "connect read indexes read verify name"},
	} {
		stdout, stderr, code := p.run(t, append(strings.Fields(c.args), "--log-format", "json")...)
		if strings.HasSuffix(c.args, "here.db") { // flags end at an argument
			stdout, stderr, code = p.run(t, "migrate", "--log-format=json", "here.db")
		}
		var levels, phases []string
		for _, l := range readLog(t, stderr) {
			if l.Phase != "" {
				phases = append(phases, l.Phase)
				continue
			}
			levels = append(levels, l.Level)
			if (l.Level == "ERROR") != (l.ExitCode != nil && *l.ExitCode == c.code) ||
				strings.HasPrefix(l.Msg, "note: ") || strings.HasPrefix(l.Msg, "flujo-port: ") {
				t.Errorf("%s: %+v", c.args, l)
			}
		}
		if code != c.code || strings.Join(levels, " ") != c.levels || strings.Join(phases, " ") != c.phases {
			t.Errorf("%s: exit %d, levels %q, phases %q: %s%s", c.args, code, levels, phases, stdout, stderr)
		}
	}
	if _, stderr, code := p.run(t, "migrate", "--log-format", "xml"); code != 2 ||
		!strings.Contains(stderr, "--log-format must be text or json") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
