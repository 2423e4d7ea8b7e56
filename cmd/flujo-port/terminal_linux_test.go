package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"flujo-port/internal/pgtest"

	"golang.org/x/sys/unix"
)

// terminal is a pseudoterminal, and what was written to it.
type terminal struct {
	main, program *os.File
	columns       int

	mu     sync.Mutex
	output bytes.Buffer
	wrote  chan struct{}
	closed chan struct{}
}

func newTerminal(t *testing.T, columns uint16) *terminal {
	t.Helper()
	main, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = main.Close() })
	if err := unix.IoctlSetPointerInt(int(main.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(main.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	if err := unix.IoctlSetWinsize(
		int(program.Fd()),
		unix.TIOCSWINSZ,
		&unix.Winsize{Col: columns, Row: 24},
	); err != nil {
		t.Fatal(err)
	}
	s := &terminal{
		main:    main,
		program: program,
		columns: int(columns),
		wrote:   make(chan struct{}, 1),
		closed:  make(chan struct{}),
	}
	go func() {
		defer close(s.closed)
		buffer := make([]byte, 4096)
		for {
			n, err := main.Read(buffer)
			s.mu.Lock()
			s.output.Write(buffer[:n])
			s.mu.Unlock()
			select {
			case s.wrote <- struct{}{}:
			default:
			}
			if err != nil {
				return // EIO when the program has ended
			}
		}
	}()
	return s
}

func (s *terminal) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.output.String()
}

// await returns when the output contains the words.
func (s *terminal) await(t *testing.T, words string) {
	t.Helper()
	deadline := time.After(longestRun)
	for !strings.Contains(s.text(), words) {
		select {
		case <-s.wrote:
		case <-s.closed:
			t.Fatalf("the program ended without %q: %q", words, s.text())
		case <-deadline:
			t.Fatalf("nothing is %q: %q", words, s.text())
		}
	}
}

// lines returns the lines that the terminal shows, as it acts on the output: what does not fit a line goes on in the
// next one, and only the line of the cursor is erased.
func (s *terminal) lines() []string {
	lines, line := []string{}, ""
	for text := s.text(); text != ""; {
		switch {
		case strings.HasPrefix(text, eraseLine):
			line, text = "", text[len(eraseLine):]
		case strings.HasPrefix(text, "\r\n"):
			lines, line, text = append(lines, line), "", text[2:]
		default:
			_, size := utf8.DecodeRuneInString(text)
			if utf8.RuneCountInString(line) == s.columns {
				lines, line = append(lines, line), ""
			}
			line, text = line+text[:size], text[size:]
		}
	}
	return append(lines, line)
}

// TestTerminal interrupts a migration that waits for a lock by the key of a terminal, on terminals with a bar and with
// lines, and tests what then stands on the screen.
func TestTerminal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		columns   uint16
		variables []string
	}{
		{"bar", 60, []string{"TERM=xterm"}}, {"bar", 80, []string{"TERM=xterm"}}, {"bar", 120, []string{"TERM=xterm"}},
		{"dumb", 200, []string{"TERM=dumb"}}, {"no color", 200, []string{"TERM=xterm", "NO_COLOR=1"}},
		{"json", 400, []string{"TERM=xterm"}},
	} {
		t.Run(fmt.Sprint(c.name, " ", c.columns), func(t *testing.T) {
			t.Parallel()
			name, variables, columns := c.name, c.variables, c.columns
			url := pgtest.Database(t)
			holder := holdSteps(t, url)
			s := newTerminal(t, columns)
			c := newProgram(t, variables...).command("migrate", "--postgres", url, "--sqlite", absolute(t, fixture),
				"--without-pgvector")
			if name == "json" {
				c.Args = append(c.Args, "--log-format", "json")
			}
			c.Stdin, c.Stdout, c.Stderr = s.program, s.program, s.program
			c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Process.Kill() })
			s.await(t, "creating tables")
			s.await(t, fmt.Sprint(holder.PgConn().PID()))
			s.await(t, "waiting for a lock")
			if _, err := io.WriteString(s.main, "\x03"); err != nil {
				t.Fatal(err)
			}
			_ = c.Wait() // the exit code tells
			_ = s.program.Close()
			<-s.closed
			if code := c.ProcessState.ExitCode(); code != 130 {
				t.Errorf("exit %d: %q", code, s.text())
			}
			shown := s.lines()
			if len(shown) < 4 || shown[len(shown)-1] != "" {
				t.Fatalf("the last line is not complete: %q", shown)
			}
			if name == "bar" { // on which messages are wrapped, and go on in indented lines
				shown = strings.Split(strings.ReplaceAll(strings.Join(shown, "\n"), "\n  ", " "), "\n")
			}
			messages := shown[len(shown)-3 : len(shown)-1]
			if name == "json" {
				for i, l := range readLog(t, strings.Join(messages, "\n")) {
					messages[i] = "flujo-port: " + l.Msg
				}
			}
			if !strings.HasPrefix(messages[0], "flujo-port: interrupted: stopping; ") ||
				!strings.HasPrefix(messages[1], "flujo-port: interrupted; the transaction was rolled back") {
				t.Errorf("got lines %q", shown)
			}
			if hasBar := strings.Contains(s.text(), "\x1b["); hasBar != (name == "bar") {
				t.Errorf("a bar is drawn: %v: %q", hasBar, s.text())
			}
			if name == "bar" && len(shown) != 4 { // the wait, two messages, and an empty line
				t.Errorf("the bar left lines: %q", shown)
			}
			if _, err := holder.Exec(context.Background(), "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
		})
	}
}
