//go:build slow && unix && !linux

package torture

import (
	"errors"
	"syscall"
	"testing"
)

// mountSmall mounts nothing.
func mountSmall(string, int) (unmount func(), err error) { return nil, errors.ErrUnsupported }

func resize(string, int) error { return errors.ErrUnsupported }

// fileCalls is empty, since no system call is traced.
var fileCalls = map[int]string{}

func (r *run) trace(*testing.T, func(int, bool) syscall.Signal) error { return errors.ErrUnsupported }
