//go:build slow && unix

package torture

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"flujo-port/internal/flujotest"
)

// small mounts a file system with so many free KiB at a folder, until the test ends. grow makes room. If the machine
// cannot do it, ok is false.
func small(t *testing.T, path string, kib int) (grow func(), ok bool) {
	t.Helper()
	const page = 4
	unmount, err := mountSmall(path, kib/page*page+page)
	if err != nil {
		return nil, false
	}
	t.Cleanup(unmount)
	full := filepath.Join(path, "full")
	if err := os.WriteFile(full, make([]byte, page<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(os.Remove(full), resize(path, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}, true
}

// diskFull runs a job in which a small file system at the path is full sooner or later.
func (p *place) diskFull(t *testing.T, r *run, path string, kib int) outcome {
	t.Helper()
	grow, ok := small(t, path, kib)
	if !ok {
		return outcome{result: skipped}
	}
	r.start(t)
	r.wait(t)
	r.phase = allAlong
	if r.code != 0 {
		r.phase = phaseOf(r.stderr)
	}
	grow()
	return p.judge(t, r)
}

// folderFull has little room for the new file, or for the env file.
func folderFull(t *testing.T, w *worker) outcome {
	j := w.pick((*job).makesFiles)
	p := w.placeWith(t, w.server, j, options{envFile: j.takesEnvFile(), json: w.random.IntN(2) == 0})
	kib := w.random.IntN(1000)
	if p.envFile {
		kib = 0
	}
	return p.diskFull(t, prepare(t, p.url, p.args()...), p.dir, kib)
}

// temporaryFull has room for nothing, or for 4 KiB, where the findings of a JSON report are stored.
func temporaryFull(t *testing.T, w *worker) outcome {
	p := w.placeWith(t, w.server, w.pick((*job).stores), options{json: true})
	r := prepare(t, p.url, p.args()...)
	return p.diskFull(t, r, r.tmp, 4*w.random.IntN(2))
}

// tablespaceFull has little room for the tables of the database.
func tablespaceFull(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.pick(func(j *job) bool { return j.commits() || j.name == "migrate --dry-run" }))
	outer := filepath.Join(p.server.Dir(), p.name)
	if err := os.Mkdir(outer, 0o777); err != nil {
		t.Fatal(err)
	}
	grow, ok := small(t, outer, 200+w.random.IntN(2000))
	if !ok {
		return outcome{result: skipped}
	}
	inner := filepath.Join(outer, "space")
	if err := errors.Join(os.Mkdir(inner, 0o700), p.server.Own(inner)); err != nil {
		t.Fatal(err)
	}
	flujotest.ExecAt(t, p.admin, "CREATE TABLESPACE "+p.name+" LOCATION '"+inner+"'",
		"ALTER ROLE "+p.name+" SET default_tablespace = "+p.name)
	r := p.start(t)
	r.wait(t)
	r.phase = allAlong
	if r.code != 0 {
		r.phase = phaseOf(r.stderr)
	}
	grow()
	o := p.judge(t, r)
	flujotest.ExecAt(t, p.server.URL("postgres"), "DROP DATABASE "+p.name+" WITH (FORCE)", "DROP TABLESPACE "+p.name)
	return o
}

// walFull has no room for another segment of the server's write-ahead log, which is needed at a random moment.
func walFull(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.pick((*job).commits))
	p.halt(t, w.shutdown())
	wal := filepath.Join(p.server.Dir(), "data", "pg_wal")
	if err := os.Rename(wal, wal+".moved"); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(wal+".moved", "0*"))
	if err := errors.Join(err, os.Mkdir(wal, 0o700), p.server.Own(wal)); err != nil {
		t.Fatal(err)
	}
	const segment = 16 << 10
	unmount, err := mountSmall(wal, len(segments)*segment+segment/2)
	if err == nil {
		copyAll(t, wal+".moved", wal)
	}
	p.resume(t)
	r := prepare(t, p.url, p.args()...)
	if err == nil {
		w.disturb(t, p.job, r, func() {
			for range 4 { // the server ends at one of these
				_ = tryExec(
					t,
					p.server.URL("postgres"),
					"SELECT pg_switch_wal(), pg_logical_emit_message(false, '', '')",
				)
			}
		})
		if err := resize(wal, 10*segment); err != nil {
			t.Fatal(err)
		}
	}
	_ = p.server.Halt(w.shutdown())
	if err == nil {
		if err := os.RemoveAll(wal + ".moved"); err != nil {
			t.Fatal(err)
		}
		copyAll(t, wal, wal+".moved")
		unmount()
	}
	if err := errors.Join(os.Remove(wal), os.Rename(wal+".moved", wal)); err != nil {
		t.Fatal(err)
	}
	p.resume(t)
	if err != nil {
		return outcome{result: skipped}
	}
	r.unreachable = true
	return p.judge(t, r)
}

// copyAll copies a folder with its owners and modes.
func copyAll(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-Rp", from+"/.", to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// outputLost starts a job whose stdout, stderr or both cannot be written.
func outputLost(t *testing.T, w *worker) outcome {
	p := w.place(t, w.server, w.pick(nil))
	r := prepare(t, p.url, p.args()...)
	lost := 1 + w.random.IntN(3)
	if lost&1 != 0 {
		r.cmd.Stdout, r.noReport = w.lost(t), true
	}
	if lost&2 != 0 {
		r.cmd.Stderr = w.lost(t)
	}
	r.start(t)
	r.wait(t)
	r.phase = allAlong
	o := p.judge(t, r)
	if want := lost&1 != 0 && p.writes == writesNothing; (r.code == 1) != want {
		t.Errorf("%s: stdout or stderr is lost (%d): %s", p.job.name, lost, r)
	}
	return o
}

// lost returns a file that cannot be written: a full device, or a pipe that nobody reads.
func (w *worker) lost(t *testing.T) *os.File {
	t.Helper()
	if w.random.IntN(2) == 0 {
		if full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0); err == nil {
			return full
		}
	}
	read, write, err := os.Pipe()
	if err == nil {
		err = read.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return write
}
