package postgres

import (
	"context"
	"errors"
	"fmt"

	"flujo-port/internal/clierr"

	"github.com/jackc/pgx/v5/pgconn"
)

// ServerError makes the message of a server an error of one line; another
// error stays as it is.
func ServerError(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	s := fmt.Sprintf("%s (SQLSTATE %s)", e.Message, e.Code)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Where != "" {
		s += " [" + e.Where + "]"
	}
	return errors.New(s)
}

// The SQLSTATEs that are looked at.
const (
	LockNotAvailable      = "55P03"
	InsufficientPrivilege = "42501"
	DuplicateObject       = "42710"
	DuplicateFunction     = "42723"
	DuplicateSchema       = "42P06"
	UndefinedObject       = "42704"
	ReadOnlyTransaction   = "25006"
	NotSupported          = "0A000"
	NumericOutOfRange     = "22003"
)

// Code gives the SQLSTATE of an error that the server sent, or "".
func Code(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// WrapError says what a failed step means: which rights are missing, what the
// server refused of the data, who holds a lock (which ends the transaction), or
// that the connection is gone.
func (c *Conn) WrapError(step string, err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return &clierr.Error{
			Kind:    clierr.Failed,
			Message: step,
			Err:     err,
			Hint:    "the server ended the transaction with the connection; run again",
		}
	}
	if pgErr.Code == LockNotAvailable {
		return c.lockTimeout(
			step+": a lock",
			"wait until that session is done with it, or end it, and run again",
			"l.relation IN (SELECT oid FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1))",
			c.Schema,
		)
	}
	e := &clierr.Error{Kind: clierr.Failed, Message: step, Err: ServerError(err)}
	switch class := pgErr.Code[:2]; {
	case pgErr.Code == NotSupported || pgErr.Routine == "check_enable_rls":
		e.Kind, e.Hint = clierr.Refused, "turn row-level security off on that table for the load, or connect as its owner"
	case pgErr.Code == InsufficientPrivilege:
		e.Kind = clierr.Refused
		e.Hint = fmt.Sprintf(
			"role %q lacks that right: have it granted, or have an owner run \"flujo-port init --grant-to %s\" first",
			c.Server.Role,
			c.Server.Role,
		)
	case pgErr.Code == ReadOnlyTransaction:
		e.Kind, e.Hint = clierr.Refused, "the server takes no writes: connect to the primary"
	case class == "22" || class == "23" || class == "54":
		e.Kind, e.Hint = clierr.Refused, "the server cannot take that row as it is"
	case class == "53":
		e.Hint = "the server ran out of something: see to its disk, memory and connections, then run again"
	}
	return e
}
