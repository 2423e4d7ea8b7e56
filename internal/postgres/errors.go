package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/sqltext"

	"github.com/jackc/pgx/v5/pgconn"
)

// serverError is an error that the server sent, in one line.
type serverError struct {
	text  string
	cause *pgconn.PgError
}

func (e *serverError) Error() string { return e.text }
func (e *serverError) Unwrap() error { return e.cause }

// ServerError converts an error that the server sent to an error of one line, which has the same [Code].
// It returns any other error, and a converted one, unchanged.
func ServerError(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if _, converted := errors.AsType[*serverError](err); converted || !ok {
		return err
	}
	s := fmt.Sprintf("%s (SQLSTATE %s)", e.Message, e.Code)
	if e.Detail != "" {
		s += ": " + strings.TrimSuffix(e.Detail, ".") // the caller's sentence goes on
	}
	if e.Where != "" {
		s += " [" + e.Where + "]"
	}
	return &serverError{s, e}
}

// SQLSTATEs that the program handles.
const (
	LockNotAvailable      = "55P03"
	InsufficientPrivilege = "42501"
	DuplicateObject       = "42710"
	DuplicateFunction     = "42723"
	DuplicateSchema       = "42P06"
	UndefinedObject       = "42704"
	ReadOnlyTransaction   = "25006"
	NotSupported          = "0A000"
	UniqueViolation       = "23505"
	NumericOutOfRange     = "22003"
	InvalidParameterValue = "22023"
	DiskFull              = "53100"
	QueryCanceled         = "57014"

	outOfMemory       = "53200"
	protocolViolation = "08P01" // of PgBouncer
)

// maxLocks is the setting for the number of locks; the server's hint names it in any language.
const maxLocks = "max_locks_per_transaction"

// Code returns the SQLSTATE of an error that the server sent, or "".
func Code(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// WrapError converts an error of a step, which is a verb phrase, to a
// clierr.Error. Its hint says which privilege is missing, that the server
// rejected a row, that a lock was held (a *LockTimeoutError), or that the connection
// was lost. WrapError sends nothing.
func (c *Conn) WrapError(step string, err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		hint := "the connection was lost and the server rolls the transaction back: run again"
		if c.Reads {
			hint = "the connection was lost: run again"
		}
		return &clierr.Error{Kind: clierr.Failed, Message: step, Err: err, Hint: hint}
	}
	if pgErr.Code == LockNotAvailable {
		return c.lockTimeout(
			"a lock to "+step,
			"wait until that session ends its transaction, or end the session, then run again",
			`l.relation IN (SELECT oid FROM pg_class
				WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1))`,
			c.Schema,
		)
	}
	e := &clierr.Error{Kind: clierr.Failed, Message: step, Err: ServerError(err)}
	switch class := pgErr.Code[:2]; {
	case pgErr.Routine == "check_enable_rls" || pgErr.Code == NotSupported && pgErr.Routine == "DoCopy":
		e.Kind = clierr.Refused
		e.Hint = "disable row-level security on that table for the load, or connect as its owner"
	case pgErr.Code == InsufficientPrivilege:
		e.Kind, e.Hint = clierr.Refused, PrivilegeHint(c.Server.Role, err)
		switch {
		case c.Reads:
			e.Advice = clierr.Advice{Topic: clierr.GrantReadByInit, Arg: c.Server.Role}
		case lackedOwner.MatchString(pgErr.Message):
			e.Advice = clierr.Advice{Topic: clierr.OwnByInit, Arg: c.Server.Role}
		}
	case pgErr.Code == protocolViolation && strings.Contains(pgErr.Message, "statement pooling"):
		e.Kind = clierr.Refused
		e.Hint = "the address leads to a pooler in statement mode, which permits no transactions: connect to the " +
			"server directly, or use session pooling"
	case pgErr.Code == NotSupported:
		e.Kind, e.Hint = clierr.Refused, "this server, or its configuration, does not permit that"
	case pgErr.Code == ReadOnlyTransaction:
		e.Kind, e.Hint = clierr.Refused, "the server is read-only: connect to the primary"
	case class == "22" || class == "23" || class == "54":
		e.Kind, e.Hint = clierr.Refused, "the server rejected that row"
	case pgErr.Code == QueryCanceled && strings.Contains(pgErr.Message, "statement timeout"):
		e.Kind = clierr.Usage
		e.Hint = "statement_timeout of the role, the database, the address or the server is too short: raise it, " +
			"such as by ALTER ROLE … SET statement_timeout"
	case pgErr.Code == QueryCanceled:
		e.Hint = "somebody cancelled the statement on the server: run again"
	case pgErr.Code == outOfMemory && strings.Contains(pgErr.Hint, maxLocks):
		e.Hint = "the server has no room for the transaction's locks: raise " + maxLocks + " in its configuration, " +
			"restart it, then run again"
	case class == "53":
		e.Hint = "the server ran out of resources: check its disk space, memory and connections, then run again"
	}
	return e
}

// What the server says in English about an InsufficientPrivilege. In another language the hint is a general one.
var (
	lackedTablespace = regexp.MustCompile(`^permission denied for tablespace (.+)$`)
	lackedOwner      = regexp.MustCompile(`^must be owner of (?:table|relation|sequence|index) `)
)

// PrivilegeHint returns what to do about an InsufficientPrivilege of a role.
func PrivilegeHint(role string, err error) string {
	pgErr, _ := errors.AsType[*pgconn.PgError](err)
	switch {
	case pgErr == nil:
		return ""
	case lackedTablespace.MatchString(pgErr.Message):
		return "have an administrator run " +
			grantTablespace(lackedTablespace.FindStringSubmatch(pgErr.Message)[1], role)
	case lackedOwner.MatchString(pgErr.Message):
		return fmt.Sprintf("only its owner may do that: connect as a role that owns it, not %q", role)
	}
	return fmt.Sprintf("role %q lacks that privilege: have it granted", role)
}

func grantTablespace(tablespace, role string) string {
	return fmt.Sprintf("GRANT CREATE ON TABLESPACE %s TO %s", sqltext.Ident(tablespace), sqltext.Ident(role))
}
