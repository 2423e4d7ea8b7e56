// Package clierr names the ways a command can end badly. Every package returns
// them; cmd turns a Kind into the exit code.
package clierr

import (
	"context"
	"errors"
	"strings"
)

// Kind says whose turn it is after a failure. Its number is the exit code.
type Kind int

const (
	// Failed: the same command may work when tried again (connection lost,
	// lock timeout, disk full).
	Failed Kind = 1
	// Usage: the command line or the configuration has to change.
	Usage Kind = 2
	// Refused: the check or the data say no; nothing was written.
	Refused Kind = 3
	// Mismatch: verification found a difference; nothing was committed.
	Mismatch Kind = 4
	// Interrupted: a signal ended the run; nothing was committed.
	Interrupted Kind = 130
)

// Error is a failure with what a person needs to act on it. It never holds a
// password: whoever fills What, Do or Err has masked it.
type Error struct {
	Kind    Kind
	Message string // what happened, lower case, no full stop
	Hint    string // what to do about it; may be empty
	Err     error  // the cause; may be nil
}

// Error gives the failure on one line: what happened, the cause, what to do.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Message)
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(oneLine(e.Err.Error()))
	}
	if e.Hint != "" {
		b.WriteString("; ")
		b.WriteString(e.Hint)
	}
	return b.String()
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }

// KindOf gives the kind of the first *Error in err's chain; Interrupted for a
// cancelled context, Failed for anything else.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	if errors.Is(err, context.Canceled) {
		return Interrupted
	}
	return Failed
}

func oneLine(s string) string {
	return strings.Join(strings.Fields(s), " ")
}
