package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// LockWait is how long a lock is waited for, unless something else is asked
// for, before the run gives up.
const LockWait = 30 * time.Second

// Tx is the one transaction in which everything is written. It is not safe for
// concurrent use. End it with Commit or Rollback.
type Tx struct {
	conn   *pgx.Conn
	url    string // to reconnect with
	schema string
	server Server
	wait   time.Duration // for a lock
	xid    string        // known once Commit has begun
	last   []string      // statements that a rollback would not undo: run right before COMMIT
}

// Begin connects, sees that the server is fit, opens the transaction and takes
// the lock under which Flujo runs its migrations, so that a Flujo that starts
// now waits until the transaction's end. Timeouts of the role or the database
// do not hold in it; lockWait limits the waiting for each lock.
func Begin(ctx context.Context, url, schema string, lockWait time.Duration) (*Tx, error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return nil, err
	}
	t := &Tx{conn: conn, url: url, schema: schema, wait: lockWait}
	if err := t.begin(ctx); err != nil {
		t.Rollback()
		return nil, err
	}
	return t, nil
}

func (t *Tx) begin(ctx context.Context) (err error) {
	if t.server, err = readServer(ctx, t.conn); err != nil {
		return t.fault("ask the server what it is", err)
	}
	if err := t.server.unfit(); err != nil {
		return err
	}
	settings := `BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE;
		SET LOCAL search_path = pg_catalog, pg_temp;
		SET LOCAL statement_timeout = 0;
		SET LOCAL idle_in_transaction_session_timeout = 0;
		SET LOCAL client_min_messages = warning;

		SET LOCAL lock_timeout = %d;`
	if t.server.Version >= 170000 {
		settings += "SET LOCAL transaction_timeout = 0;"
	}
	if err := t.exec(ctx, fmt.Sprintf(settings, t.wait.Milliseconds())); err != nil {
		return t.fault("begin the transaction", err)
	}
	if _, err := t.conn.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", mapping.MigrationLock); err != nil {
		return t.lockFault(err)
	}
	return nil
}

// lockFault names who holds Flujo's migration lock when it was not to be had.
func (t *Tx) lockFault(err error) error {
	if code(err) != lockNotAvailable {
		return t.fault("take Flujo's migration lock", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	holder := "another session"
	if t.exec(ctx, "ROLLBACK") == nil {
		// best effort: the message says less without it
		_ = t.conn.QueryRow(ctx, `SELECT format('process %s (%s, role %s, since %s)', a.pid,
				coalesce(nullif(a.application_name, ''), 'no application name'), a.usename,
				to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC'))
			FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid = $1::bigint::oid
				AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1`,
			mapping.MigrationLock).Scan(&holder)
	}
	return &fault.Error{
		Kind: fault.Failed,
		What: fmt.Sprintf("Flujo's migration lock was not to be had within %s: %s holds it", t.wait, holder),
		Do:   "a Flujo is starting or another flujo-port runs: wait for its end, or stop it, and run again",
	}
}

// CheckConstraints checks what a deferred constraint puts off until COMMIT.
func (t *Tx) CheckConstraints(ctx context.Context) error {
	if err := t.exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
		return t.fault("check deferred constraints", err)
	}
	return nil
}

// Server gives what was learned of the server at Begin.
func (t *Tx) Server() Server { return t.server }

// CommitUnknownError is returned by Commit when the connection was lost while
// the server committed, and it can't be asked how that ended.
type CommitUnknownError struct{ Err error }

func (e *CommitUnknownError) Error() string {
	return fmt.Sprintf("the connection was lost during COMMIT (%v) and the server can't be asked whether it committed", e.Err)
}

// Unwrap gives what ended the connection.
func (e *CommitUnknownError) Unwrap() error { return e.Err }

// Commit makes everything permanent. It is not interrupted by a signal. A
// connection that is lost in it leaves the outcome open: then the server is
// asked on a new one, and only if that fails too, *CommitUnknownError is
// returned.
func (t *Tx) Commit() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	defer t.close(ctx)
	for _, statement := range t.last {
		if err := t.exec(ctx, statement); err != nil {
			return t.fault("set a sequence", err)
		}
	}
	if err := t.conn.QueryRow(ctx, "SELECT pg_current_xact_id()::text").Scan(&t.xid); err != nil {
		return t.fault("ask for the transaction's number", err)
	}
	err := t.exec(ctx, "COMMIT")
	if err == nil {
		return nil
	}
	if code(err) != "" && !t.conn.IsClosed() {
		return t.fault("commit", err)
	}
	committed, askErr := t.committed(ctx)
	switch {
	case askErr != nil:
		return &CommitUnknownError{Err: err}
	case committed:
		return nil
	}
	return t.fault("commit", err)
}

// committed asks on a new connection how the transaction ended.
func (t *Tx) committed(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := connect(ctx, t.url)
	if err != nil {
		return false, err
	}
	defer conn.Close(ctx)
	for {
		var status string
		if err := conn.QueryRow(ctx, "SELECT pg_xact_status($1::text::xid8)", t.xid).Scan(&status); err != nil {
			return false, err
		}
		if status != "in progress" {
			return status == "committed", nil
		}
		// The server has not yet seen that the other connection is gone.
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return false, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Rollback undoes everything and closes the connection. Where that can't be
// said to the server any more, it does so itself when it sees the connection
// closed. It may be called after Commit, to no effect.
func (t *Tx) Rollback() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if !t.conn.IsClosed() {
		_ = t.exec(ctx, "ROLLBACK") // the first error is the one to tell
	}
	t.close(ctx)
}

func (t *Tx) close(ctx context.Context) {
	_ = t.conn.Close(ctx)
	select {
	case <-t.conn.PgConn().CleanupDone():
	case <-ctx.Done():
	}
}

// exec runs statements by the simple protocol, several at once if need be.
func (t *Tx) exec(ctx context.Context, sql string) error {
	return t.conn.PgConn().Exec(ctx, sql).Close()
}

// The SQLSTATEs that are looked at.
const (
	lockNotAvailable      = "55P03"
	insufficientPrivilege = "42501"
	duplicateObject       = "42710"
	duplicateFunction     = "42723"
	undefinedObject       = "42704"
	readOnlyTransaction   = "25006"
	notSupported          = "0A000"
)

// code gives the SQLSTATE of an error that the server sent, or "".
func code(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

// fault says what a failed step means: which rights are missing, what the
// server refused of the data, or that the connection is gone.
func (t *Tx) fault(step string, err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return &fault.Error{Kind: fault.Failed, What: step, Err: err, Do: "the server ended the transaction with the connection; run again"}
	}
	e := &fault.Error{Kind: fault.Failed, What: step, Err: serverError(err)}
	switch class := pgErr.Code[:2]; {
	case pgErr.Code == insufficientPrivilege:
		e.Kind = fault.Refused
		e.Do = fmt.Sprintf("role %q lacks that right: have it granted, or have an owner run \"flujo-port init --grant-to %s\" first", t.server.Role, t.server.Role)
	case pgErr.Code == lockNotAvailable:
		e.Do = fmt.Sprintf("another session holds a lock on it for more than %s: stop Flujo and run again", t.wait)
	case pgErr.Code == notSupported:
		e.Kind, e.Do = fault.Refused, "turn row-level security off on that table for the load, or connect as its owner"
	case pgErr.Code == readOnlyTransaction:
		e.Kind, e.Do = fault.Refused, "the server takes no writes: connect to the primary"
	case class == "22" || class == "23" || class == "54":
		e.Kind, e.Do = fault.Refused, "the server cannot take that row as it is"
	case class == "53":
		e.Do = "the server ran out of something: see to its disk, memory and connections, then run again"
	}
	return e
}
