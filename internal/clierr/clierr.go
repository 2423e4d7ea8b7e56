// Package clierr defines the error that the commands of flujo-port return. Its kind
// determines the exit code.
package clierr

import (
	"context"
	"errors"
	"strings"
)

// Kind is the kind of an error. Its number is the exit code.
type Kind int

const (
	// Failed: the command failed, and may succeed if it is repeated (connection
	// lost, lock timeout, disk full).
	Failed Kind = 1
	// Usage: the command line or the configuration must be changed.
	Usage Kind = 2
	// Refused: preflight or data validation failed. Nothing was written.
	Refused Kind = 3
	// Mismatch: verification found a difference. Nothing was committed.
	Mismatch Kind = 4
	// Interrupted: a signal stopped the command. Nothing was committed.
	Interrupted Kind = 130
)

// Error is an error that says what happened and what to do about it. Passwords in
// Message, Hint and Err must be masked by the code that sets them.
type Error struct {
	Kind    Kind
	Message string // what happened; lower case, without a full stop
	Hint    string // what to do about it; may be empty
	Err     error  // the cause; may be nil
	// Advice is what else to do. It is not part of the error's text.
	Advice Advice
}

// Advice is advice that names a flag or a command, which only the command line knows.
// The command line words it, and appends it to the hint.
type Advice struct {
	Topic Topic
	Arg   string // a name that the advice contains; most need none
}

// Topic identifies an advice.
type Topic int

// The topics.
const (
	NoAdvice        Topic = iota
	NameStateFile         // pass another file
	MigratedSchema        // name the schema and the database that were migrated to
	OtherSchema           // migrate into another schema
	SchemaHoldsRows       // verify, replace, merge, or migrate into another schema
	OwnByInit             // have an administrator make the role Arg the owner of the tables
	StartAsOwner          // the same, or start Flujo without its migrations
	GrantReadByInit       // have an owner let the role Arg read the tables
	WithoutPGVector       // work without pgvector
	UsePGVector           // work with pgvector
	Quarantine            // quarantine rejected rows
	NotStrict             // permit conversions
	NotStrictZone         // permit conversions, or name the zone of timestamps without one
	NameZone              // name the zone of timestamps without one
	NotMigratedBase       // merge the base, or restore without it
	NoBase                // restore without the base
	CheckIntegrity        // do not skip the check of the file's integrity
)

// Error returns the message, the cause and the hint on one line.
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

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first *Error in err's chain. Without one it returns
// Interrupted for context.Canceled, and Failed for any other error.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	if errors.Is(err, context.Canceled) {
		return Interrupted
	}
	return Failed
}

// oneLine replaces line breaks and runs of white space in s with single spaces.
func oneLine(s string) string {
	return strings.Join(strings.Fields(s), " ")
}
