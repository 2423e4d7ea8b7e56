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
	// Partial: the command did a part of its work, since it was not told more.
	Partial Kind = 5
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
type Topic string

// The topics.
const (
	NoAdvice        Topic = ""
	NameStateFile   Topic = "name-state-file"    // pass another file
	MigratedSchema  Topic = "migrated-schema"    // name the schema and the database that were migrated to
	OtherSchema     Topic = "other-schema"       // migrate into another schema
	SchemaHoldsRows Topic = "schema-holds-rows"  // verify, replace, merge, or migrate into another schema
	OwnByInit       Topic = "own-by-init"        // have an administrator make the role Arg the owner of the tables
	StartAsOwner    Topic = "start-as-owner"     // the same, or start Flujo without its migrations
	GrantToByInit   Topic = "grant-to-by-init"   // have an owner let the role Arg use the tables
	GrantReadByInit Topic = "grant-read-by-init" // have an owner let the role Arg read the tables
	InitSubscriber  Topic = "init-subscriber"    // create the tables on both sides of a subscription
	SetCutover      Topic = "set-cutover"        // set FLUJO_STATE_URI to the cutover address
	WithoutPGVector Topic = "without-pgvector"   // work without pgvector
	UsePGVector     Topic = "use-pgvector"       // work with pgvector
	Quarantine      Topic = "quarantine"         // quarantine rejected rows
	NotStrict       Topic = "not-strict"         // permit conversions
	NotStrictZone   Topic = "not-strict-zone"    // permit conversions, or name the zone of timestamps without one
	NameZone        Topic = "name-zone"          // name the zone of timestamps without one
	NotMigratedBase Topic = "not-migrated-base"  // merge the base, or restore without it
	NoBase          Topic = "no-base"            // restore without the base
	NameBase        Topic = "name-base"          // pass another base
	RevealPassword  Topic = "reveal-password"    // print the address with its password
	CheckIntegrity  Topic = "check-integrity"    // do not skip the check of the file's integrity
)

// Error returns the message, the cause and the hint on one line, as [Printable] writes
// them.
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
	return Printable(b.String())
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
