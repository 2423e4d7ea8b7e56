package source

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"

	_ "modernc.org/sqlite" // the driver, for files that are made and read by themselves
)

// writerEnv makes the test binary a writer of the database that it names.
const writerEnv = "FLUJO_PORT_TEST_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		if err := writeOnCommand(path, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(pgtest.Main(m))
}

// writeOnCommand opens the database and runs each line as SQL, answering "ready"
// or the error to each; the first "ready" comes before any. It ends at the end
// of its input.
func writeOnCommand(path string, in io.Reader, out io.Writer) error {
	db, err := sql.Open("sqlite", fileURI(path, ""))
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	fmt.Fprintln(out, "ready")
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if _, err := db.Exec(lines.Text()); err != nil {
			fmt.Fprintln(out, err)
			continue
		}
		fmt.Fprintln(out, "ready")
	}
	return db.Close()
}

// writer is another process that has a database open. Locks tell processes
// apart, so a second connection in this one would not do.
type writer struct {
	t       *testing.T
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	ended   bool
}

// startWriter starts one and runs the statements in it. It is killed at the
// end of the test.
func startWriter(t *testing.T, path string, statements ...string) *writer {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{t: t, process: exec.Command(binary)}
	// The race detector would hold every process up for a second at its end.
	w.process.Env = append(os.Environ(), writerEnv+"="+path, "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	w.process.Stderr = os.Stderr
	if w.in, err = w.process.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := w.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.out = bufio.NewReader(out)
	if err := w.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.kill)
	w.answer()
	w.run(statements...)
	return w
}

func (w *writer) answer() {
	w.t.Helper()
	if line, err := w.out.ReadString('\n'); line != "ready\n" {
		w.t.Fatalf("the writer says %q, %v", line, err)
	}
}

// run runs the statements, each on one line, and waits until they are done.
func (w *writer) run(statements ...string) {
	w.t.Helper()
	for _, s := range statements {
		if _, err := fmt.Fprintln(w.in, strings.ReplaceAll(s, "\n", " ")); err != nil {
			w.t.Fatal(err)
		}
		w.answer()
	}
}

// refused runs a statement that the writer must not be able to run.
func (w *writer) refused(statement, says string) {
	w.t.Helper()
	if _, err := fmt.Fprintln(w.in, statement); err != nil {
		w.t.Fatal(err)
	}
	if line, err := w.out.ReadString('\n'); err != nil || !strings.Contains(line, says) {
		w.t.Errorf("the writer says %q, %v", line, err)
	}
}

// kill ends it with SIGKILL, so it does not clean up.
func (w *writer) kill() {
	if !w.ended {
		w.ended = true
		w.process.Process.Kill()
		w.process.Wait()
	}
}

// close lets it close the database and end.
func (w *writer) close() {
	w.t.Helper()
	w.ended = true
	w.in.Close()
	if err := w.process.Wait(); err != nil {
		w.t.Fatal(err)
	}
}
