package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// severalFiles returns three files with runs in common, of which one supersedes others and one has rejected rows.
func severalFiles(t *testing.T) []string {
	t.Helper()
	first := flujotest.Copy(t, absolute(t, fixture))
	second := flujotest.Copy(t, first)
	flujotest.Change(t, second, "UPDATE runs SET updated_at = '2031-01-01T00:00:00+00:00', status = 'failed' "+
		"WHERE rowid % 2 = 0")
	flujotest.Change(t, second, "UPDATE steps SET token_counts = 5000000000 WHERE id = 3")
	third := flujotest.Copy(t, first)
	flujotest.Change(t, third, "DELETE FROM runs WHERE rowid % 3 = 0")
	flujotest.Change(t, third, "INSERT INTO runs (run_id, pipeline_id, pipeline_name, pipeline_version, status, "+
		"created_at, updated_at) SELECT 'own ' || run_id, pipeline_id, pipeline_name, pipeline_version, status, "+
		"created_at, updated_at FROM runs")
	flujotest.Change(t, third, "INSERT INTO system_state VALUES (NULL, '{}', '2026-01-05')")
	return []string{first, second, third}
}

// TestSeveralKilled kills the program at several moments of a migration of three files. The database must hold
// nothing, or all rows and the three receipts. A second run then succeeds.
func TestSeveralKilled(t *testing.T) {
	t.Parallel()
	moments := pgtest.Count(2, 50)
	files := severalFiles(t)
	p := newProgram(t)
	command := func(url string) *exec.Cmd {
		args := []string{"migrate", "--postgres", url, "--without-pgvector", "--quarantine"}
		for _, file := range files {
			args = append(args, "--sqlite", file)
		}
		return p.command(args...)
	}
	// state returns the rows, the receipts and the originals; "" if the schema does not exist.
	state := func(conn *pgx.Conn) string {
		// The server may still be executing the last statement.
		flujotest.Exec(t, conn, "BEGIN; SELECT pg_advisory_xact_lock(4059087070); COMMIT")
		if flujotest.Leftovers(t, conn) == "" {
			return ""
		}
		return rowsIn(t, conn, "flujo") + flujotest.One(t, conn, `SELECT format('receipts %s, %s originals',
			(SELECT string_agg(id || ' ' || file_sha256, ' ' ORDER BY id) FROM flujo.flujo_port_receipts),
			(SELECT count(*) FROM flujo.flujo_port_originals))`)
	}
	run := func(url string) (took time.Duration) {
		var out bytes.Buffer
		c := command(url)
		c.Stdout, c.Stderr = &out, &out
		started := time.Now()
		if err := c.Run(); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		return time.Since(started)
	}
	whole := pgtest.Database(t)
	took := run(whole)
	conn := flujotest.Connect(t, whole)
	want := state(conn)
	if !strings.Contains(want, "receipts 1 ") || !strings.Contains(want, " 3 ") {
		t.Fatalf("got %s, want three receipts", want)
	}
	committed, again := 0, 0
	for i := range moments {
		url := pgtest.Database(t)
		conn := flujotest.Connect(t, url)
		c := command(url)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		after := time.Duration((float64(i) + rand.Float64()) / float64(moments) * float64(took) * 1.1)
		timer := time.AfterFunc(after, func() { _ = c.Process.Kill() }) // it may have ended
		_ = c.Wait()
		timer.Stop()
		switch got := state(conn); got {
		case want:
			committed++
		case "":
			if i%5 > 0 {
				break
			}
			again++
			run(url)
			if got := state(conn); got != want {
				t.Errorf("killed after %s of %s: the second run left\n%s\nwant\n%s", after, took, got, want)
			}
		default:
			t.Errorf("killed after %s of %s: the schema holds\n%s\nwant nothing or\n%s", after, took, got, want)
		}
		conn.Close(context.Background())
	}
	t.Logf("killed at %d moments of %s: %d had committed, %d were run again", moments, took, committed, again)
	if committed == moments {
		t.Error("every run came to its end: none was killed")
	}
}
