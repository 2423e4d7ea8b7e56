package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"
)

// measurement is the cost of one run. CPU and peak memory are the client's;
// they are 0 if there is no client process.
type measurement struct {
	Seconds float64
	CPU     float64 // seconds, user and system
	Peak    int64   // bytes
}

// measure runs commands at the same time, each reading what the previous one
// writes. The peak is that of the largest command.
func measure(cmds ...*exec.Cmd) (m measurement, err error) {
	output := make([]bytes.Buffer, len(cmds))
	for i, cmd := range cmds {
		if i > 0 {
			r, w, err := os.Pipe()
			if err != nil {
				return m, err
			}
			defer r.Close()
			defer w.Close()
			cmds[i-1].Stdout, cmd.Stdin = w, r
		}
		cmd.Stderr = &output[i]
	}
	cmds[len(cmds)-1].Stdout = &output[len(cmds)-1]
	began := time.Now()
	for i, cmd := range cmds {
		if err := cmd.Start(); err != nil {
			return m, err
		}
		// The ends of the pipes are open only in the commands, so that a command
		// ends when its neighbour does.
		for _, end := range []any{cmd.Stdin, cmd.Stdout} {
			if f, ok := end.(*os.File); ok && f != nil {
				_ = f.Close()
			}
		}
		defer func() {
			if err != nil && cmd.ProcessState == nil {
				_ = cmds[i].Process.Kill()
			}
		}()
	}
	for i, cmd := range cmds {
		if waitErr := cmd.Wait(); waitErr != nil {
			err = errors.Join(err, fmt.Errorf("%w: %s", waitErr, tail(output[i].Bytes())))
		}
		m.CPU += (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
		m.Peak = max(m.Peak, peakMemory(cmd.ProcessState))
	}
	m.Seconds = time.Since(began).Seconds()
	return m, err
}

// tail returns the end of a program's output.
func tail(said []byte) []byte {
	said = bytes.TrimSpace(said)
	return said[max(0, len(said)-2000):]
}

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	n := len(of)
	if n == 0 {
		return 0
	}
	return (of[(n-1)/2] + of[n/2]) / 2
}
