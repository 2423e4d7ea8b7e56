package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/sqltext"
)

// LockTimeoutError is the cause of an error if another session held a lock for longer
// than LockWait.
type LockTimeoutError struct {
	Lock string        // what was waited for
	Wait time.Duration // for how long
	// BlockedBy describes the session or the prepared transaction that holds the lock;
	// FindBlocker sets it. It is empty if it is unknown.
	BlockedBy string
	// EndPrepared says how to end the prepared transaction; it is empty for a session.
	EndPrepared string

	waiter uint32 // process id of the session that waited
	where  string // SQL condition that selects the lock in pg_locks, l
	arg    any    // its parameter
}

func (e *LockTimeoutError) Error() string {
	if e.BlockedBy == "" {
		return "held by another session"
	}
	return "held by " + e.BlockedBy
}

// lockTimeout returns the clierr.Failed of a lock that was not available within
// LockWait. where is an SQL condition with the parameter arg: of the granted locks in
// pg_locks, l, for which it is true, the strongest and oldest is the one that was waited
// for.
func (c *Conn) lockTimeout(lock, hint, where string, arg any) error {
	return &clierr.Error{
		Kind:    clierr.Failed,
		Message: fmt.Sprintf("timed out after %s waiting for %s", c.LockWait, lock),
		Err:     &LockTimeoutError{Lock: lock, Wait: c.LockWait, waiter: c.PgConn().PID(), where: where, arg: arg},
		Hint:    hint,
	}
}

// blocker selects the session or the prepared transaction that holds a lock. A prepared
// transaction has no process: it stays until somebody ends it.
var blocker = sqltext.New(`SELECT CASE WHEN a.pid IS NULL THEN concat_ws(', ',
	format('the prepared transaction %L (%s', p.gid, l.mode || coalesce(' on ' || l.relation::regclass, '')),
	'role ' || p.owner, 'since ' || to_char(p.prepared AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC')) || ')'
ELSE concat_ws(', ',
	format('process %s (%s', a.pid, coalesce(nullif(a.application_name, ''), 'no application name')),
	l.mode || ' on ' || l.relation::regclass, 'role ' || a.usename, 'from ' || host(a.client_addr),
	'since ' || to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC')) || ')' END,
CASE WHEN a.pid IS NULL THEN format('end it with COMMIT PREPARED %L or ROLLBACK PREPARED %L in database %s',
	p.gid, p.gid, p.database) ELSE '' END
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
	LEFT JOIN pg_locks x ON l.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid'
		AND x.virtualtransaction = l.virtualtransaction
	LEFT JOIN pg_prepared_xacts p ON p.transaction = x.transactionid
WHERE l.granted AND (a.pid <> $2 OR p.gid IS NOT NULL) AND {{.where}}
ORDER BY l.mode = 'AccessExclusiveLock' DESC, l.mode = 'AccessShareLock', coalesce(a.xact_start, p.prepared) LIMIT 1`)

// blockerWait limits FindBlocker.
const blockerWait = 10 * time.Second

// FindBlocker looks for the session that holds the lock of a *LockTimeoutError in err's
// chain, on a new connection, and sets BlockedBy. If it is a prepared transaction, it sets
// EndPrepared, and the hint of err, a clierr.Error. It returns err. For any other error it
// does nothing. url is as for Open.
func FindBlocker(ctx context.Context, url string, err error) error {
	timeout, ok := errors.AsType[*LockTimeoutError](err)
	if !ok || timeout.BlockedBy != "" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, blockerWait)
	defer cancel()
	// An error is ignored: the message then does not name the session.
	conn, dialErr := Dial(ctx, url)
	if dialErr != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_ = conn.QueryRow(ctx, blocker.Fill(sqltext.Parts{"where": timeout.where}), timeout.arg, int64(timeout.waiter)).
		Scan(&timeout.BlockedBy, &timeout.EndPrepared)
	// Nothing that stops ends a prepared transaction.
	if e, ok := errors.AsType[*clierr.Error](err); ok && timeout.EndPrepared != "" {
		e.Hint = timeout.EndPrepared + ", then run again"
	}
	return err
}

// LockTable locks a table against writes by other sessions until the transaction ends.
// If the lock is not available within LockWait, the error wraps a *LockTimeoutError.
func (c *Conn) LockTable(ctx context.Context, table string) error {
	return c.lockTableMode(
		ctx,
		table,
		"SHARE ROW EXCLUSIVE",
		"stop Flujo and everything else that writes to it, then run again",
		" AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')",
	)
}

// LockTableExclusively locks a table against reads and writes by other sessions until
// the transaction ends. If the lock is not available within LockWait, the error wraps a
// *LockTimeoutError.
func (c *Conn) LockTableExclusively(ctx context.Context, table string) error {
	return c.lockTableMode(
		ctx,
		table,
		"ACCESS EXCLUSIVE",
		"stop Flujo and everything else that reads it, then run again",
		"",
	)
}

// lockTableMode takes a lock. conflicting is the SQL condition on pg_locks, l, that
// selects the modes of other sessions that conflict with it.
func (c *Conn) lockTableMode(ctx context.Context, table, mode, hint, conflicting string) error {
	err := c.Run(ctx, fmt.Sprintf("LOCK TABLE %s IN %s MODE", c.Name(table), mode))
	switch {
	case err == nil:
		return nil
	case Code(err) != LockNotAvailable:
		return c.WrapError(fmt.Sprintf("lock table %q", table), err)
	}
	return c.lockTimeout(
		fmt.Sprintf("a lock on table %q", table),
		hint,
		`l.locktype = 'relation' AND l.relation = to_regclass($1)`+conflicting,
		c.Name(table),
	)
}

// LockMigrations takes the advisory lock under which Flujo runs its migrations. The
// transaction holds it until it ends.
func (c *Conn) LockMigrations(ctx context.Context) error {
	_, err := c.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", mapping.MigrationLock)
	switch {
	case err == nil:
		return nil
	case Code(err) != LockNotAvailable:
		return c.WrapError("take Flujo's migration lock", err)
	}
	return c.lockTimeout(
		"Flujo's migration lock",
		"Flujo is starting or another flujo-port is running: wait until it ends, or stop it, then run again",
		`l.locktype = 'advisory' AND l.classid = 0 AND l.objid = $1::bigint::oid
		AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
		mapping.MigrationLock,
	)
}
