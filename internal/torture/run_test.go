//go:build slow && unix

package torture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"unicode"
)

// run is a run of the program.
type run struct {
	cmd            *exec.Cmd
	out            bytes.Buffer
	errs           lineBuffer
	stdout, stderr string // when it has ended
	code           int    // -1 if a signal killed it
}

// start starts the program with an environment of its own.
func (w *worker) start(t *testing.T, url string, args ...string) *run {
	t.Helper()
	r := &run{cmd: exec.Command(binary, args...)}
	home := t.TempDir()
	r.cmd.Dir = home
	r.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "DATABASE_URL=" + url}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.errs
	r.errs.waits = map[string]chan struct{}{}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	return r
}

// wait waits until the program has ended.
func (r *run) wait(t *testing.T) {
	t.Helper()
	err := r.cmd.Wait()
	if _, exit := errors.AsType[*exec.ExitError](err); err != nil && !exit {
		t.Fatal(err)
	}
	r.stdout, r.stderr, r.code = r.out.String(), r.errs.String(), r.cmd.ProcessState.ExitCode()
}

// run runs the program to its end. It returns its output and exit code.
func (w *worker) run(t *testing.T, url, _ string, args ...string) (string, int) {
	t.Helper()
	r := w.start(t, url, args...)
	r.wait(t)
	return r.String(), r.code
}

func (r *run) String() string { return fmt.Sprintf("exit %d: %s%s", r.code, r.stdout, r.stderr) }

// phase returns the last line of progress, without numbers.
func (r *run) phase() string {
	phase := "before the first line"
	for line := range strings.Lines(r.stderr) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "flujo-port:") || strings.HasPrefix(line, "interrupted") ||
			strings.Contains(line, "(") {
			continue
		}
		phase, _, _ = strings.Cut(line, ":")
		phase, _, _ = strings.Cut(phase, ";")
		for _, verb := range []string{"copied", "read", "verifying"} {
			if strings.HasPrefix(phase, verb+" ") {
				phase = verb
			}
		}
	}
	return phase
}

// lineBuffer is a buffer that tells when a line was written.
type lineBuffer struct {
	mu    sync.Mutex
	text  bytes.Buffer
	waits map[string]chan struct{}
}

var _ io.Writer = &lineBuffer{}

func (b *lineBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.text.Write(p)
	for words, reached := range b.waits {
		if strings.Contains(b.text.String(), words) {
			close(reached)
			delete(b.waits, words)
		}
	}
	return n, err
}

func (b *lineBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// reached returns a channel that is closed when the words have been written.
func (b *lineBuffer) reached(words string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := make(chan struct{})
	if strings.Contains(b.text.String(), words) {
		close(c)
	} else {
		b.waits[words] = c
	}
	return c
}

// notPrinted reports whether a terminal acts upon a character, or does not show it.
func notPrinted(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
