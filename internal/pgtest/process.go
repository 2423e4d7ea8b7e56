package pgtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// stopTimeout is how long a server may take to end before it is killed.
const stopTimeout = 30 * time.Second

// process is a running child process. done is closed when it has ended.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // how it ended is in the server's log
	}()
	return p, nil
}

// ended reports whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// end sends the process a signal and waits until it has ended. If it does not
// end within stopTimeout, end kills it and returns an error.
func (p *process) end(signal syscall.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop server: %w", err)
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("stop server: killed, since it did not end within %v", stopTimeout)
	}
}

// guard is a process that cleans up after this one. It is a shell that reads a
// pipe whose other end only this process holds. A line ends the guard; the end
// of the pipe means that this process has ended, and then the guard runs the
// rest of its script, with what it guards, a folder or a process, as $1. Unlike a
// parent-death signal, it works on every Unix and after a change of user, and
// it can remove a folder.
type guard struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// serverGuardScript is the script of a server's guard: it stops the server and
// removes its folder.
const serverGuardScript = `
read -r line && exit 0
dir=$1 pidfile=$1/data/postmaster.pid
pid=$(head -n 1 "$pidfile") && kill -QUIT "$pid"
tries=0
while [ -e "$pidfile" ] && [ "$tries" -lt 300 ]; do
	tries=$((tries + 1))
	sleep 0.1
done
rm -rf "$dir"
`

func startGuard(script, guarded string) (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", script, "sh", guarded)
	cmd.Dir = "/"
	newSession(cmd)
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	return &guard{cmd: cmd, pipe: pipe}, nil
}

// dismiss ends the guard and waits for it. It does nothing if the guard is nil.
func (g *guard) dismiss() {
	if g == nil {
		return
	}
	_, _ = io.WriteString(g.pipe, "dismissed\n")
	_ = g.pipe.Close()
	_ = g.cmd.Wait()
}
