package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// toolsMachine is a pretended machine for scripts/ensure-test-tools.sh that has
// all that `make test` needs. A test takes something away.
func toolsMachine(t *testing.T) machine {
	t.Helper()
	m := newMachine(t)
	for _, tool := range []string{"awk", "chmod", "dirname", "mktemp", "rm"} {
		m.link(tool)
	}
	m.installGo("go1.999.1")
	writeScript(t, m.path("bin", "gofmt"), "")
	m.installCC(`chmod +x "$program"`)
	writeScript(t, m.path("bin", "python3"), "")
	m.installDF("/dev/a", 100_000, "/dev/b", 100_000)
	fakeServer(t, m.path("pg/16/bin"), "16.2")
	for _, client := range []string{"psql", "pg_dump"} {
		writeScript(t, m.path("pg/16/bin", client), "")
	}
	for _, dir := range []string{m.path("tmp"), m.path("modules", "modernc.org")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// link adds a real tool.
func (m machine) link(tool string) {
	m.t.Helper()
	real, err := exec.LookPath(tool)
	if err != nil {
		m.t.Fatal(err)
	}
	writeScript(m.t, m.path("bin", tool), "exec "+real+` "$@"`)
}

// installGo adds a go of the version; "" is one that fails, as it does where
// go.mod asks for more than it is and may download.
func (m machine) installGo(version string) {
	m.t.Helper()
	answer := "echo '" + version + "'"
	if version == "" {
		answer = "echo 'go: go.mod requires go >= 1.999' >&2; exit 1"
	}
	writeScript(m.t, m.path("bin", "go"), `
		case "$*" in
		"env GOVERSION") `+answer+` ;;
		"env GOTOOLCHAIN") echo local ;;
		"env GOROOT") echo /goroot ;;
		"env GOCACHE") echo "`+m.path("cache", "deep", "down")+`" ;;
		"env GOMODCACHE") echo "`+m.path("modules")+`" ;;
		"env CC") echo gcc ;;
		esac`)
}

// installCC adds a compiler; finish is done to the program that it writes.
func (m machine) installCC(finish string) {
	m.t.Helper()
	writeScript(m.t, m.path("bin", "gcc"), `
		while [ "$1" != -o ]; do shift; done
		program=$2
		cat >/dev/null
		echo '#!/bin/sh' >"$program"
		`+finish)
}

// installDF adds a df that reports what is free, in MB, for TMPDIR and for the
// build cache.
func (m machine) installDF(tmp string, tmpFree int, cache string, cacheFree int) {
	m.t.Helper()
	writeScript(m.t, m.path("bin", "df"), fmt.Sprintf(`
		[ "$1" = -Pk ] && [ -d "$2" ] && [ -d "$3" ] && [ $# = 3 ] || exit 1
		echo "Filesystem 1024-blocks Used Available Capacity Mounted on"
		echo "%s 9 9 %d 99%% %s"
		echo "%s 9 9 %d 99%% %s"`, tmp, tmpFree*1024, tmp, cache, cacheFree*1024, cache))
}

func (m machine) remove(parts ...string) {
	m.t.Helper()
	if err := os.RemoveAll(m.path(parts...)); err != nil {
		m.t.Fatal(err)
	}
}

// ensureTools runs the script and returns its exit code, what it said and the
// calls that were recorded.
func (m machine) ensureTools() (code int, stderr, calls string) {
	m.t.Helper()
	cmd := exec.Command("/bin/sh", filepath.Join("..", "..", "scripts", "ensure-test-tools.sh"))
	cmd.Env = []string{
		"PATH=" + m.path("bin"),
		"TMPDIR=" + m.path("tmp"),
		"FLUJO_PORT_PG_SEARCH=" + m.path("pg", "*", "bin"),
	}
	var text strings.Builder
	cmd.Stderr = &text
	out, _ := cmd.Output() // the exit code says it
	if len(out) > 0 {
		m.t.Errorf("stdout %q", out)
	}
	if left, _ := os.ReadDir(m.path("tmp")); len(left) > 0 {
		m.t.Errorf("left in TMPDIR: %v", left)
	}
	recorded, err := os.ReadFile(m.path("calls"))
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), text.String(), string(recorded)
}

func TestEnsureTestToolsFinds(t *testing.T) {
	for name, prepare := range map[string]func(m machine){
		"all":                    func(machine) {},
		"a development version":  func(m machine) { m.installGo("devel go1.999-0a1b2c3 Tue Jan 1 00:00:00 2030") },
		"a vendor's version":     func(m machine) { m.installGo("go1.999.2-X:foo") },
		"one disk, large enough": func(m machine) { m.installDF("/dev/a", 2600, "/dev/a", 2600) },
		"a small disk for each":  func(m machine) { m.installDF("/dev/a", 1600, "/dev/b", 1100) },
		"no df":                  func(m machine) { m.remove("bin", "df") },
	} {
		t.Run(name, func(t *testing.T) {
			m := toolsMachine(t)
			m.recorder("sudo", "16.2")
			prepare(m)
			if code, stderr, calls := m.ensureTools(); code != 0 || stderr != "" || calls != "" {
				t.Errorf("exit code %d, stderr %q, calls %q; want a quiet 0", code, stderr, calls)
			}
		})
	}
}

func TestEnsureTestToolsSaysWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(m machine)
		says    []string // one for each that is missing
		how     string
	}{
		"no Go": {func(m machine) { m.remove("bin", "go") }, []string{`no "go" on PATH`},
			"https://go.dev/dl/"},
		"an old Go": {func(m machine) { m.installGo("go1.19.8") },
			[]string{"Go is go1.19.8, and go.mod needs 1."}, "https://go.dev/dl/"},
		"a Go that fails": {func(m machine) { m.installGo("") }, []string{"go: go.mod requires go >= 1.999"},
			"GOTOOLCHAIN=auto"},
		"no gofmt": {func(m machine) { m.remove("bin", "gofmt") }, []string{"gofmt is not on PATH"},
			"/goroot/bin"},
		"no C compiler": {func(m machine) { m.remove("bin", "gcc") }, []string{`no "gcc" on PATH`}, "set CC"},
		"no C headers": {func(m machine) {
			m.installCC(`echo "<stdin>:1:10: fatal error: stdlib.h: No such file or directory" >&2; exit 1`)
		}, []string{"stdlib.h: No such file"}, "gcc libc6-dev"},
		"no Python": {func(m machine) { m.remove("bin", "python3") }, []string{`no "python3" on PATH`}, "python3"},
		"an old Python": {func(m machine) { writeScript(m.t, m.path("bin", "python3"), "exit 1") },
			[]string{"python3 is older than 3.9"}, "python3"},
		"noexec":    {func(m machine) { m.installCC("") }, []string{"cannot run programs in"}, "set TMPDIR"},
		"no TMPDIR": {func(m machine) { m.remove("tmp") }, []string{"cannot create files in"}, "set TMPDIR"},
		"a full disk": {func(m machine) { m.installDF("/dev/a", 2400, "/dev/a", 2400) },
			[]string{"2400 MB free in "}, "2500 MB needed"},
		"a full disk for TMPDIR": {func(m machine) { m.installDF("/dev/a", 1400, "/dev/b", 5000) },
			[]string{"1400 MB free in "}, "1500 MB needed"},
		"a full disk for modules": {func(m machine) {
			m.remove("modules")
			m.installDF("/dev/a", 5000, "/dev/b", 1700)
		}, []string{"1700 MB free in "}, "1800 MB needed"},
		"a full disk for the cache": {func(m machine) { m.installDF("/dev/a", 5000, "/dev/b", 900) },
			[]string{"900 MB free in "}, "GOCACHE"},
		"no PostgreSQL": {func(m machine) { m.remove("pg") }, []string{"neither PostgreSQL 13 or later"}, "manually"},
		"no PostgreSQL and no sudo": {func(m machine) { m.remove("pg"); m.recorder("dnf", "16.2") },
			[]string{"found no PostgreSQL 13 or later"}, "as root run: scripts/ensure-postgres.sh"},
		"no clients of PostgreSQL": {func(m machine) { m.remove("pg/16/bin/psql") }, []string{"psql and pg_dump"},
			"postgresql-client"},
		"all at once": {func(m machine) {
			m.remove("bin", "go")
			m.remove("bin", "gcc")
			m.remove("pg")
			m.installDF("/dev/a", 10, "/dev/a", 10)
		}, []string{`no "go"`, `no "gcc"`, "10 MB free", "neither PostgreSQL"}, "manually"},
		"all but what could be installed": {func(m machine) {
			m.remove("bin", "gcc")
			m.remove("pg")
			m.recorder("sudo", "16.2")
			m.recorder("dnf", "16.2")
		}, []string{`no "gcc"`}, "dnf install gcc glibc-devel"},
	} {
		t.Run(name, func(t *testing.T) {
			m := toolsMachine(t)
			c.prepare(m)
			code, stderr, calls := m.ensureTools()
			if code != 1 || !strings.Contains(stderr, c.how) {
				t.Errorf("exit code %d, stderr %q; want 1 and %q", code, stderr, c.how)
			}
			for _, want := range c.says {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr %q, want %q", stderr, want)
				}
			}
			if n := strings.Count(stderr, "ensure-test-tools: ") + strings.Count(stderr, "ensure-postgres: "); n != len(
				c.says,
			) {
				t.Errorf("%d things are said to be missing, want %d: %s", n, len(c.says), stderr)
			}
			if calls != "" {
				t.Errorf("something was installed all the same: %s", calls)
			}
		})
	}
}

func TestEnsureTestToolsInstallsPostgres(t *testing.T) {
	m := toolsMachine(t)
	m.remove("pg")
	m.recorder("sudo", "16.2")
	m.recorder("dnf", "16.2")
	code, stderr, calls := m.ensureTools()
	if code != 0 || !strings.Contains(stderr, "installing PostgreSQL with dnf") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	if want := "sudo dnf install -y postgresql-server\n"; calls != want {
		t.Errorf("calls %q, want %q", calls, want)
	}
}
