// Package sink writes Flujo's state: into a PostgreSQL schema, in one
// transaction, or into a SQLite file.
package sink

import (
	"context"
	"strings"
	"time"

	"flujo-port/internal/postgres"
	"flujo-port/internal/sqltext"
)

// indexMemory is the least maintenance_work_mem, in kB, with which the server
// builds indexes.
const indexMemory = 256 << 10

var raiseIndexMemory = sqltext.New(`SELECT set_config('maintenance_work_mem', '{{.kB}}kB', true)
WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < {{.kB}} * 1024::bigint`)

// Tx is the transaction in which a command writes everything. It is not safe
// for concurrent use. The caller ends it with Commit or Rollback.
type Tx struct {
	*postgres.Conn
	// OutcomeWait is how long Commit asks for the outcome after the connection was lost
	// during COMMIT; a restart of the server takes seconds.
	OutcomeWait time.Duration
	place       place // where COMMIT is sent

	fresh map[string]bool               // tables that this transaction created and that are still empty
	last  []func(context.Context) error // steps that a rollback cannot undo, run right before COMMIT

	// persistence precedes TABLE in CREATE TABLE: "", or "UNLOGGED " for staging tables, so
	// that no publication contains them.
	persistence string
	staging     bool // whether the tables are those of CreateStaging
	hasUnlogged bool // the transaction created unlogged tables
}

// Begin connects, checks the server, begins the transaction, and takes the lock
// under which Flujo runs its migrations, so that a Flujo that starts now waits
// until the transaction ends. Timeouts of the role and the database are
// disabled in the transaction. lockWait limits the wait for each lock. A server
// that cannot hold Flujo's state is a clierr.Refused.
func Begin(ctx context.Context, url, schema string, lockWait time.Duration) (*Tx, error) {
	conn, err := postgres.Open(ctx, url, schema)
	if err != nil {
		return nil, err
	}
	return BeginOn(ctx, conn, lockWait)
}

// BeginOn is Begin on a connection, which it closes after an error.
func BeginOn(ctx context.Context, conn *postgres.Conn, lockWait time.Duration) (*Tx, error) {
	conn.LockWait = lockWait
	t := &Tx{Conn: conn, fresh: map[string]bool{}, OutcomeWait: time.Minute}
	if err := t.begin(ctx); err != nil {
		t.Rollback()
		return nil, err
	}
	return t, nil
}

func (t *Tx) begin(ctx context.Context) (err error) {
	if err := t.Server.CheckSupported(); err != nil {
		return err
	}
	t.place.timeline = readTimeline(ctx, t.Conn.Conn)
	if err := t.start(ctx); err != nil { // from here on no timeout of the role ends a statement
		return err
	}
	if t.place.Origin, err = t.Origin(ctx); err != nil {
		return err
	}
	return t.LockMigrations(ctx)
}

// durable makes the COMMIT wait for the server's own disk if the role or the server has
// synchronous_commit = off, with which a crash may lose a transaction after its COMMIT.
const durable = `SELECT set_config('synchronous_commit', 'local', true)
WHERE current_setting('synchronous_commit') = 'off'`

// compress has large values compressed with lz4 if the server has it. The columns'
// declarations stay as Flujo makes them.
const compress = `SELECT set_config(name, 'lz4', true) FROM pg_settings
WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)`

// start begins the transaction, in one message.
func (t *Tx) start(ctx context.Context) error {
	const begin = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE; SET LOCAL vacuum_cost_delay = 0;" // of ANALYZE
	settings := []string{durable, compress, raiseIndexMemory.Fill(sqltext.Parts{"kB": indexMemory})}
	if err := t.Run(ctx, begin+t.Settings()+strings.Join(settings, ";")); err != nil {
		return t.WrapError("begin the transaction", err)
	}
	return nil
}

// CheckConstraints checks deferred constraints now and not at COMMIT.
func (t *Tx) CheckConstraints(ctx context.Context) error {
	if err := t.Run(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
		return t.WrapError("check deferred constraints", err)
	}
	return nil
}

// flushWAL has the server write its write-ahead log to the disk. If a server crashes before it has written the record
// of a rollback that dropped an unlogged table, its next start fails (PostgreSQL 15.18; the one after that succeeds):
// the recovery creates the table's init fork from the log, and ends because the main fork exists, which is removed only
// at the next checkpoint. Without flushWAL the server writes the record within wal_writer_delay, 0.2 s by default.
const flushWAL = `BEGIN; SET LOCAL synchronous_commit = local;
SELECT pg_logical_emit_message(true, 'flujo_port', ''); COMMIT`

// Rollback rolls back the transaction and closes the connection. If the
// connection is lost, the server rolls back when it notices. Rollback does
// nothing after Commit.
func (t *Tx) Rollback() {
	ctx, cancel := postgres.CleanupContext()
	defer cancel()
	if !t.IsClosed() {
		_ = t.Run(ctx, "ROLLBACK") // an error here would hide the one that led to the rollback
		if t.hasUnlogged {
			_ = t.Run(ctx, flushWAL)
		}
	}
	t.End(ctx)
}
