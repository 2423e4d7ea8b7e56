package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/pgtest"
)

// TestLockWaitIsSaid tests that a wait for a lock is reported while it lasts, with the session that holds the lock.
func TestLockWaitIsSaid(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	holder := holdSteps(t, url)
	c := newProgram(t).command("migrate", "--postgres", url, "--sqlite", absolute(t, fixture), "--without-pgvector")
	stderr := start(t, c)
	untilLine(t, stderr, fmt.Sprintf("waiting for a lock that is held by process %d (", holder.PgConn().PID()))
	if _, err := holder.Exec(context.Background(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(stderr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // the exit code tells
	if code := c.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit %d: %s", code, rest)
	}
}

// TestMutePeer tests that every command ends by itself if the server, or something in between, accepts connections and
// does not answer, from the beginning or from some moment on.
func TestMutePeer(t *testing.T) {
	t.Parallel()
	if !pgtest.Slow {
		t.Skip("a silent peer is waited for for a minute: run `make test-slow`")
	}
	file := absolute(t, fixture)
	for _, args := range [][]string{
		{"migrate", "--sqlite", file, "--without-pgvector"}, {"check", "--sqlite", file, "--without-pgvector"},
		{"verify", "--sqlite", file}, {"restore", "--sqlite", "new.db"}, {"init", "--without-pgvector"},
		{"uri", "cutover", "--connect", "--without-pgvector"},
	} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			p := newProgram(t, "DATABASE_URL="+muteServer(t))
			begun := time.Now()
			stdout, stderr, code := p.run(t, args...)
			if code == 0 || time.Since(begun) > 3*time.Minute {
				t.Errorf("exit %d after %s: %s%s", code, time.Since(begun), stdout, stderr)
			}
		})
	}
	for _, command := range []string{"migrate", "restore"} {
		t.Run(command+", from some moment on", func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			mute := newMuteProxy(t, pgtest.Upstream(t, url))
			p := newProgram(t, "DATABASE_URL="+pgtest.WithServer(t, url, mute.address))
			args := []string{"migrate", "--sqlite", file, "--without-pgvector"}
			after := "creating tables"
			if command == "restore" {
				if _, stderr, code := p.run(t, args...); code != 0 {
					t.Fatal(stderr)
				}
				args, after = []string{"restore", "--sqlite", filepath.Join(p.dir, "new.db")}, "reading runs"
			}
			c := p.command(args...)
			stderr := start(t, c)
			untilLine(t, stderr, after)
			mute.silent.Store(true)
			begun := time.Now()
			rest, err := io.ReadAll(stderr)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Wait() // the exit code tells
			if code := c.ProcessState.ExitCode(); code == 0 && command == "migrate" ||
				time.Since(begun) > 3*time.Minute {
				t.Errorf("exit %d after %s: %s", code, time.Since(begun), rest)
			}
			if command == "migrate" && !strings.Contains(string(rest), "accepts no new connection") {
				t.Errorf("the cause is not named: %s", rest)
			}
		})
	}
}

// muteServer accepts connections and never answers. It returns an address of it.
func muteServer(t *testing.T) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	return "postgresql://app:secret@" + l.Addr().String() + "/db?sslmode=disable"
}
