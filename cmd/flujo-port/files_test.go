//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestNamedPipesAreNotWaitedFor puts a named pipe in place of each file that a command reads by a name of its own.
func TestNamedPipesAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pipe  string // in the folder of the state file, which is the working directory
		args  []string
		code  int
		words string
	}{
		{"flujo.toml", []string{"check"}, 2, "flujo.toml\" is a named pipe, not a regular file"},
		{"flujo_state.db-wal", []string{"check"}, 3, "its -wal is a named pipe"},
		{"flujo_state.db-shm", []string{"check"}, 3, "its -shm is a named pipe"},
		{"flujo_state.db-journal", []string{"check"}, 3, "its -journal is a named pipe"},
		{"flujo_state.db-shm", []string{"migrate", "--postgres", "postgresql://u@localhost/d"}, 2, "its -shm is a"},
		{"other.db", []string{"check", "--sqlite", "other.db"}, 3, "it is not a regular file"},
		{"other.db", []string{"uri", "rollback", "--sqlite", "other.db"}, 2, "is not a regular file"},
	} {
		p := newProgram(t)
		content, err := os.ReadFile(fixture)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(p.dir, "flujo_state.db"), string(content))
		if err := syscall.Mkfifo(filepath.Join(p.dir, c.pipe), 0o600); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, code := p.run(t, c.args...)
		if code != c.code || !strings.Contains(stdout+stderr, c.words) {
			t.Errorf("%s, %s: exit %d: %s%s", c.args, c.pipe, code, stdout, stderr)
		}
	}
}

// TestNamedPipesOfLibpq puts a named pipe in place of each file that libpq's variables and parameters name, or that is
// in the home folder.
func TestNamedPipesOfLibpq(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"PGPASSFILE", "PGSERVICEFILE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "passfile", "sslrootcert", "sslcert",
		"sslkey", ".pgpass", ".pg_service.conf", ".postgresql/root.crt",
	} {
		p := newProgram(t, "PGSERVICE=")
		pipe := filepath.Join(p.dir, "pipe")
		address := "postgresql://u:p@localhost:1/d?sslmode=verify-ca"
		switch {
		case strings.HasPrefix(name, "PG"):
			p.env = append(p.env, name+"="+pipe)
		case strings.HasPrefix(name, "."):
			p.env = append(p.env, "HOME="+p.dir)
			pipe = filepath.Join(p.dir, name)
			if err := os.MkdirAll(filepath.Dir(pipe), 0o700); err != nil {
				t.Fatal(err)
			}
		default:
			address += "&" + name + "=" + pipe
		}
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"uri", "cutover", "--connect"}, {"verify", "--sqlite", absolute(t, fixture)}} {
			stdout, stderr, code := p.run(t, append(args, "--postgres", address)...)
			if code != 2 || !strings.Contains(stderr, "is a named pipe, not a regular file") {
				t.Errorf("%s: %v: exit %d: %s%s", name, args, code, stdout, stderr)
			}
		}
		// The null device stands for no file.
		if strings.HasPrefix(name, "PG") {
			p.env = append(p.env, name+"="+os.DevNull)
			if _, stderr, _ := p.run(t, "uri", "cutover", "--postgres", address); strings.Contains(stderr, "a device") {
				t.Errorf("%s=%s: %s", name, os.DevNull, stderr)
			}
		}
	}
}
