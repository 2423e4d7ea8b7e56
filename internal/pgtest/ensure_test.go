package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// machine is a pretended machine for scripts/ensure-postgres.sh: its PATH
// holds a few real tools, an "id" that denies being root, and what the test
// adds. What is run through sudo or brew is recorded, not done.
type machine struct {
	t    *testing.T
	root string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	m := machine{t: t, root: t.TempDir()}
	for _, tool := range []string{"sed", "mkdir", "cat"} {
		real, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		writeScript(t, m.path("bin", tool), "exec "+real+` "$@"`)
	}
	writeScript(t, m.path("bin", "id"), "echo 1000")
	return m
}

func (m machine) path(parts ...string) string {
	return filepath.Join(append([]string{m.root}, parts...)...)
}

// recorder adds a command that records its arguments and input. Those that
// say "install" or "add" put a server of the version in place.
func (m machine) recorder(name, version string) {
	m.t.Helper()
	fakeServer(m.t, m.path("package"), version)
	writeScript(m.t, m.path("bin", name), `
		echo "`+name+` $*" >>"`+m.path("calls")+`"
		case "$*" in
		tee*) cat >>"`+m.path("calls")+`" ;;
		*install*|*add*)
			mkdir -p "`+m.path("pg", version, "bin")+`"
			for program in initdb postgres; do
				sed -n p "`+m.path("package")+`/$program" >"`+m.path("pg", version, "bin")+`/$program"
				`+realChmod+` +x "`+m.path("pg", version, "bin")+`/$program"
			done ;;
		esac`)
}

const realChmod = "/bin/chmod"

// ensure runs the script and returns its exit code, its stderr and the calls.
func (m machine) ensure() (code int, stderr, calls string) {
	m.t.Helper()
	cmd := exec.Command("/bin/sh", filepath.Join("..", "..", "scripts", "ensure-postgres.sh"))
	cmd.Env = []string{
		"PATH=" + m.path("bin"),
		"FLUJO_PORT_PG_SEARCH=" + m.path("none*") + ":" + m.path("pg", "*", "bin"),
	}
	var text strings.Builder
	cmd.Stderr = &text
	out, _ := cmd.Output() // the exit code says it
	if len(out) > 0 {
		m.t.Errorf("stdout %q", out)
	}
	recorded, err := os.ReadFile(m.path("calls"))
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), text.String(), string(recorded)
}

func TestEnsurePostgresFinds(t *testing.T) {
	for name, dir := range map[string]string{"on PATH": "bin", "in the packages' folders": "pg/16/bin"} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.recorder("sudo", "16.0")
			writeScript(t, m.path("bin", "apt-get"), "")
			fakeServer(t, m.path("pg/9.6/bin"), "9.6.24")
			fakeServer(t, m.path(dir), "16.2 (Debian 16.2-1)")
			if code, stderr, calls := m.ensure(); code != 0 || stderr != "" || calls != "" {
				t.Errorf("exit code %d, stderr %q, calls %q; want a quiet 0", code, stderr, calls)
			}
		})
	}
}

func TestEnsurePostgresInstalls(t *testing.T) {
	const apt = "sudo env DEBIAN_FRONTEND=noninteractive apt-get "
	const conf = "/etc/postgresql-common/createcluster.d/flujo-port.conf"
	cases := map[string]string{
		"apt-get": apt + "update\n" +
			"sudo mkdir -p /etc/postgresql-common/createcluster.d\n" +
			"sudo tee " + conf + "\ncreate_main_cluster = false\n" +
			apt + "install -y --no-install-recommends postgresql\n" +
			"sudo rm -f " + conf + "\n",
		"dnf":  "sudo dnf install -y postgresql-server\n",
		"apk":  "sudo apk add --no-cache postgresql postgresql-client\n",
		"brew": "brew install postgresql@17\n",
	}
	for tool, want := range cases {
		t.Run(tool, func(t *testing.T) {
			m := newMachine(t)
			m.recorder("sudo", "16.2")
			m.recorder(tool, "16.2")
			fakeServer(t, m.path("bin"), "12.22")
			code, stderr, calls := m.ensure()
			if code != 0 || !strings.Contains(stderr, "installing PostgreSQL with "+tool) {
				t.Errorf("exit code %d, stderr %q", code, stderr)
			}
			if calls != want {
				t.Errorf("calls\n%swant\n%s", calls, want)
			}
		})
	}
}

func TestEnsurePostgresGivesUp(t *testing.T) {
	cases := map[string]struct {
		prepare func(m machine)
		says    string
	}{
		"no package tool": {func(machine) {}, "install the server's package manually"},
		"no sudo": {
			func(m machine) { m.recorder("dnf", "16.2") },
			"as root run: dnf install -y postgresql-server",
		},
		"installs an old one": {func(m machine) { m.recorder("sudo", "10.1"); m.recorder("dnf", "10.1") },
			"the PostgreSQL that dnf installed cannot be used: version 13 or later"},
		"installation fails": {func(m machine) { writeScript(m.t, m.path("bin", "brew"), "exit 9") },
			"brew could not install"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			c.prepare(m)
			if code, stderr, _ := m.ensure(); code != 1 || !strings.Contains(stderr, c.says) {
				t.Errorf("exit code %d, stderr %q; want 1 and %q", code, stderr, c.says)
			}
		})
	}
}
