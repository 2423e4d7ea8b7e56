package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// nodeMachine is a pretended machine for scripts/ensure-node.sh, with npm and
// a node of the version; without either when it is "".
func nodeMachine(t *testing.T, version string) machine {
	t.Helper()
	m := newMachine(t)
	if version != "" {
		m.installNode(version)
	}
	return m
}

func (m machine) installNode(version string) {
	m.t.Helper()
	writeScript(m.t, m.path("bin", "node"), "cat "+m.path("version"))
	writeScript(m.t, m.path("bin", "npm"), "")
	if err := os.WriteFile(m.path("version"), []byte(version+"\n"), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// nodeRecorder adds a command that records its arguments. Those that say
// "install" or "add" make node be of the version.
func (m machine) nodeRecorder(name, version string) {
	m.t.Helper()
	writeScript(m.t, m.path("bin", name), `
		echo "`+name+` $*" >>"`+m.path("calls")+`"
		case "$*" in
		*install*|*add*) echo `+version+` >"`+m.path("version")+`" ;;
		esac`)
}

// ensureNode runs the script and returns its exit code, its stderr and the
// calls.
func (m machine) ensureNode() (code int, stderr, calls string) {
	m.t.Helper()
	cmd := exec.Command("/bin/sh", filepath.Join("..", "..", "scripts", "ensure-node.sh"))
	cmd.Env = []string{"PATH=" + m.path("bin")}
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

func TestEnsureNodeFinds(t *testing.T) {
	for _, version := range []string{"v18.20.4", "v20.0.0", "v100.1.2"} {
		m := nodeMachine(t, version)
		m.nodeRecorder("sudo", version)
		m.nodeRecorder("apt-get", version)
		if code, stderr, calls := m.ensureNode(); code != 0 || stderr != "" || calls != "" {
			t.Errorf("%s: exit code %d, stderr %q, calls %q; want a quiet 0", version, code, stderr, calls)
		}
	}
}

func TestEnsureNodeInstalls(t *testing.T) {
	const apt = "sudo env DEBIAN_FRONTEND=noninteractive apt-get "
	cases := map[string]string{
		"apt-get": apt + "update\n" + apt + "install -y --no-install-recommends nodejs npm\n",
		"dnf":     "sudo dnf install -y nodejs npm\n",
		"apk":     "sudo apk add --no-cache nodejs npm\n",
		"brew":    "brew install node\n",
	}
	for tool, want := range cases {
		t.Run(tool, func(t *testing.T) {
			m := nodeMachine(t, "v12.22.9")
			m.nodeRecorder("sudo", "v18.20.4")
			m.nodeRecorder(tool, "v18.20.4")
			code, stderr, calls := m.ensureNode()
			if code != 0 || !strings.Contains(stderr, "installing Node.js with "+tool) {
				t.Errorf("exit code %d, stderr %q", code, stderr)
			}
			if calls != want {
				t.Errorf("calls\n%swant\n%s", calls, want)
			}
		})
	}
}

func TestEnsureNodeGivesUp(t *testing.T) {
	cases := map[string]struct {
		prepare func(m machine)
		says    string
	}{
		"no package tool": {func(machine) {}, "install it manually"},
		"no sudo": {
			func(m machine) { m.nodeRecorder("dnf", "v20.0.0") },
			"as root run: dnf install -y nodejs npm",
		},
		"installs an old one": {
			func(m machine) { m.nodeRecorder("brew", "v16.20.2") },
			"the Node.js that brew installed cannot be used: version 18 or later",
		},
		"installation fails": {
			func(m machine) { writeScript(m.t, m.path("bin", "brew"), "exit 9") },
			"brew could not install",
		},
	}
	for name, c := range cases {
		for _, version := range []string{"", "v12.22.9"} {
			t.Run(name+", before "+version, func(t *testing.T) {
				m := nodeMachine(t, version)
				c.prepare(m)
				if code, stderr, _ := m.ensureNode(); code != 1 || !strings.Contains(stderr, c.says) {
					t.Errorf("exit code %d, stderr %q; want 1 and %q", code, stderr, c.says)
				}
			})
		}
	}
}
