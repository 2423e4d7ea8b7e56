package pg

import (
	"context"
	"fmt"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
)

// LockTable keeps others from writing to a table until the transaction's end.
func (c *Conn) LockTable(ctx context.Context, table string) error {
	return c.lockTable(ctx, table, "SHARE ROW EXCLUSIVE", "stop Flujo and whatever else writes to it, and run again",
		" AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')")
}

// LockTableAlone keeps others from writing to a table and from reading it until
// the transaction's end.
func (c *Conn) LockTableAlone(ctx context.Context, table string) error {
	return c.lockTable(ctx, table, "ACCESS EXCLUSIVE", "stop Flujo and whatever else reads it, and run again", "")
}

// lockTable takes a lock; against is the SQL that tells which modes of others
// keep it from being had.
func (c *Conn) lockTable(ctx context.Context, table, mode, do, against string) error {
	err := c.Run(ctx, fmt.Sprintf("LOCK TABLE %s IN %s MODE", c.Name(table), mode))
	switch {
	case err == nil:
		return nil
	case Code(err) != LockNotAvailable:
		return c.Fault(fmt.Sprintf("lock table %q", table), err)
	}
	return c.notHad(fmt.Sprintf("a lock on table %q", table), do, `l.locktype = 'relation' AND l.relation = to_regclass($1)`+against, c.Name(table))
}

// LockMigrations takes the lock under which Flujo runs its migrations, until
// the transaction's end.
func (c *Conn) LockMigrations(ctx context.Context) error {
	_, err := c.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", mapping.MigrationLock)
	switch {
	case err == nil:
		return nil
	case Code(err) != LockNotAvailable:
		return c.Fault("take Flujo's migration lock", err)
	}
	return c.notHad("Flujo's migration lock", "a Flujo is starting or another flujo-port runs: wait for its end, or stop it, and run again",
		`l.locktype = 'advisory' AND l.classid = 0 AND l.objid = $1::bigint::oid
		AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`, mapping.MigrationLock)
}

// Held is the cause of an error where another session held a lock for longer
// than LockWait.
type Held struct{ Holder string }

func (e *Held) Error() string { return e.Holder + " holds it" }

// notHad says who holds a lock that was not to be had within LockWait: of the
// granted ones for which where is true the strongest and oldest. It ends the
// transaction, which is broken already.
func (c *Conn) notHad(lock, do, where string, arg any) error {
	ctx, cancel := Grace()
	defer cancel()
	held := &Held{Holder: "another session"}
	if c.Run(ctx, "ROLLBACK") == nil {
		// Best effort: the message says less without it.
		_ = c.QueryRow(ctx, `SELECT concat_ws(', ', format('process %s (%s', a.pid, coalesce(nullif(a.application_name, ''), 'no application name')),
				l.mode || ' on ' || l.relation::regclass, 'role ' || a.usename, 'from ' || host(a.client_addr),
				'since ' || to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC')) || ')'
			FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE l.granted AND a.pid <> pg_backend_pid() AND `+where+`
			ORDER BY l.mode = 'AccessExclusiveLock' DESC, l.mode = 'AccessShareLock', a.xact_start LIMIT 1`, arg).Scan(&held.Holder)
	}
	return &fault.Error{Kind: fault.Failed, What: fmt.Sprintf("%s was not to be had within %s", lock, c.LockWait), Err: held, Do: do}
}
