//go:build slow && unix

package torture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode"
)

// runLimit is how long a run of the program may take.
const runLimit = 2 * time.Minute

// run is a run of the program.
type run struct {
	cmd    *exec.Cmd
	dir    string // a folder of its own, with HOME, TMPDIR and the working folder
	tmp    string // TMPDIR
	limit  time.Duration
	out    buffer
	errs   buffer
	copied sync.WaitGroup // stdout and stderr

	ended          chan struct{} // closed when the program has ended and its output is complete
	status         syscall.WaitStatus
	stdout, stderr string
	code           int // -1 if a signal killed it

	phase       string // in which it was disturbed
	killed      bool   // by the trial
	interrupted bool   // by the trial's SIGINT or SIGTERM
	unreachable bool   // the server could not be asked how a transaction ended
	noReport    bool   // stdout was not the trial's
}

// prepare returns a run that has not been started, with an environment of its own.
func prepare(t *testing.T, url string, args ...string) *run {
	t.Helper()
	r := &run{cmd: exec.Command(binary, args...), dir: t.TempDir(), limit: runLimit, ended: make(chan struct{})}
	for _, name := range []string{"home", "tmp", "work"} {
		if err := os.Mkdir(filepath.Join(r.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r.tmp = filepath.Join(r.dir, "tmp")
	r.cmd.Dir = filepath.Join(r.dir, "work")
	r.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(r.dir, "home"), "TMPDIR=" + r.tmp, "DATABASE_URL=" + url,
	}
	return r
}

// start starts the program.
func (r *run) start(t *testing.T) {
	t.Helper()
	r.open(t)
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.started(t)
	go func() {
		_ = r.cmd.Wait()
		r.finish(r.cmd.ProcessState.Sys().(syscall.WaitStatus))
	}()
}

// open connects the program's output to the run, unless the trial has connected it elsewhere.
func (r *run) open(t *testing.T) {
	t.Helper()
	for _, stream := range []struct {
		to  *io.Writer
		buf *buffer
	}{{&r.cmd.Stdout, &r.out}, {&r.cmd.Stderr, &r.errs}} {
		if *stream.to != nil {
			continue
		}
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		*stream.to = write
		r.copied.Go(func() {
			_, _ = io.Copy(stream.buf, read)
			_ = read.Close()
		})
	}
}

// started closes the ends of the pipes that the program has.
func (r *run) started(t *testing.T) {
	for _, w := range []io.Writer{r.cmd.Stdout, r.cmd.Stderr} {
		_ = w.(*os.File).Close()
	}
	t.Cleanup(func() { _ = r.cmd.Process.Kill() })
}

// finish stores what became of the program.
func (r *run) finish(status syscall.WaitStatus) {
	r.copied.Wait()
	r.stdout, r.stderr, r.status, r.code = r.out.String(), r.errs.String(), status, status.ExitStatus()
	close(r.ended)
}

// wait waits until the program has ended. After the limit it kills the program, which is an error.
func (r *run) wait(t *testing.T) {
	t.Helper()
	limit := time.NewTimer(r.limit)
	defer limit.Stop()
	select {
	case <-r.ended:
	case <-limit.C:
		t.Errorf("not ended after %s: %s", r.limit, r.errs.String())
		r.signal(syscall.SIGKILL)
		<-r.ended
	}
}

// signal sends the program a signal.
func (r *run) signal(signal syscall.Signal) {
	if err := r.cmd.Process.Signal(signal); err != nil {
		return // it has ended
	}
	r.sent(signal)
}

// sent notes that the trial sent the program a signal.
func (r *run) sent(signal syscall.Signal) {
	if signal == syscall.SIGKILL {
		r.killed = true
	} else {
		r.interrupted = true
	}
}

// mark notes that the run is disturbed now.
func (r *run) mark() {
	if r.phase == "" {
		r.phase = phaseOf(r.errs.String())
	}
}

// hasReached waits for a line of progress and then d. It returns false if the run ended before.
func (r *run) hasReached(line int, d time.Duration) bool {
	select {
	case <-r.errs.hasLines(line):
	case <-r.ended:
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.ended:
		return false
	}
}

// says waits until the program has written the words to stderr. It returns false if it ended before.
func (r *run) says(words string) bool {
	for n := 1; ; n++ {
		select {
		case <-r.errs.hasLines(n):
			if strings.Contains(r.errs.String(), words) {
				return true
			}
		case <-r.ended:
			return strings.Contains(r.stderr, words)
		}
	}
}

func (r *run) String() string {
	if r.status.Signaled() {
		return fmt.Sprintf("%v: %s%s", r.status.Signal(), r.stdout, r.stderr)
	}
	return fmt.Sprintf("exit %d: %s%s", r.code, r.stdout, r.stderr)
}

// buffer stores what is written to it.
type buffer struct {
	mu    sync.Mutex
	text  bytes.Buffer
	waits map[int][]chan struct{} // by the number of lines that are waited for
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.text.Write(p)
	lines := bytes.Count(b.text.Bytes(), []byte("\n"))
	for want, channels := range b.waits {
		if want <= lines {
			for _, c := range channels {
				close(c)
			}
			delete(b.waits, want)
		}
	}
	return n, err
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// hasLines returns a channel that is closed when n lines have been written.
func (b *buffer) hasLines(n int) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := make(chan struct{})
	if bytes.Count(b.text.Bytes(), []byte("\n")) >= n {
		close(c)
		return c
	}
	if b.waits == nil {
		b.waits = map[int][]chan struct{}{}
	}
	b.waits[n] = append(b.waits[n], c)
	return c
}

// phaseOf returns the last phase that the program has begun, by its lines of progress.
func phaseOf(stderr string) string {
	phase := atStart
	for line := range strings.Lines(stderr) {
		_, line, _ = strings.Cut(line, " ") // the time
		for _, p := range phases {
			if strings.HasPrefix(line, p) {
				phase = p
			}
		}
	}
	return phase
}

const (
	atStart       = "before the first line of progress"
	inCommitPhase = "in COMMIT"
	tooLate       = "(the command had ended)"
	allAlong      = "(all the time)"
)

// phases are the beginnings of the lines of progress, after the time.
var phases = []string{
	"checking the integrity", "connecting", "creating tables", "archiving", "copying", "reading",
	"storing original values", "merging", "creating indexes", "verifying", "committing", "renaming",
}

// notPrinted reports whether a terminal acts upon a character, or does not show it.
func notPrinted(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }

// exists reports whether there is anything at the path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}
