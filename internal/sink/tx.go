// Package sink writes Flujo's state: into a PostgreSQL schema, in one
// transaction.
package sink

import (
	"context"
	"fmt"
	"time"

	"flujo-port/internal/postgres"
)

// indexMemory is how much memory, in kB, the server may use to make an index, if
// its own setting is not higher.
const indexMemory = 256 << 10

// Tx is the one transaction in which everything is written. It is not safe for
// concurrent use. End it with Commit or Rollback.
type Tx struct {
	*postgres.Conn
	xid   string                        // known once Commit has begun
	fresh map[string]bool               // tables that this transaction has made and not filled yet
	last  []func(context.Context) error // what a rollback would not undo: done right before COMMIT
}

// Begin connects, sees that the server is fit, opens the transaction and takes
// the lock under which Flujo runs its migrations, so that a Flujo that starts
// now waits until the transaction's end. Timeouts of the role or the database
// do not hold in it; lockWait limits the waiting for each lock.
func Begin(ctx context.Context, url, schema string, lockWait time.Duration) (*Tx, error) {
	conn, err := postgres.Open(ctx, url, schema)
	if err != nil {
		return nil, err
	}
	conn.LockWait = lockWait
	t := &Tx{Conn: conn, fresh: map[string]bool{}}
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
	if err := t.start(ctx); err != nil {
		return err
	}
	return t.LockMigrations(ctx)
}

// start opens the transaction. Large values are compressed by lz4 where the
// server has it; the tables' own declarations stay Flujo's.
func (t *Tx) start(ctx context.Context) error {
	if err := t.Run(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE; "+t.Settings()); err != nil {
		return t.WrapError("begin the transaction", err)
	}
	lz4, err := t.LZ4(ctx)
	if err == nil && lz4 {
		err = t.Run(ctx, "SET LOCAL default_toast_compression = lz4")
	}
	if err == nil { // indexes are made of all rows at once
		err = t.Run(
			ctx,
			fmt.Sprintf(
				"SELECT set_config('maintenance_work_mem', '%[1]dkB', true) FROM pg_settings WHERE name = 'maintenance_work_mem' AND setting::bigint < %[1]d",
				indexMemory,
			),
		)
	}
	if err != nil {
		return t.WrapError("set how to load", err)
	}
	return nil
}

// CheckConstraints checks what a deferred constraint puts off until COMMIT.
func (t *Tx) CheckConstraints(ctx context.Context) error {
	if err := t.Run(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
		return t.WrapError("check deferred constraints", err)
	}
	return nil
}

// CommitUnknownError is returned by Commit when the connection was lost while
// the server committed, and it can't be asked how that ended.
type CommitUnknownError struct{ Err error }

func (e *CommitUnknownError) Error() string {
	return fmt.Sprintf(
		"the connection was lost during COMMIT (%v) and the server can't be asked whether it committed",
		e.Err,
	)
}

// Unwrap gives what ended the connection.
func (e *CommitUnknownError) Unwrap() error { return e.Err }

// Commit makes everything permanent, unless last, which is called right before,
// says no; then its error comes back. It is not interrupted by a signal. A
// connection that is lost in it leaves the outcome open: then the server is
// asked on a new one, and only if that fails too, *CommitUnknownError is
// returned.
func (t *Tx) Commit(last func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	defer t.End(ctx)
	for _, do := range t.last {
		if err := do(ctx); err != nil {
			return err
		}
	}
	if err := t.QueryRow(ctx, "SELECT pg_current_xact_id()::text").Scan(&t.xid); err != nil {
		return t.WrapError("ask for the transaction's number", err)
	}
	if err := last(); err != nil {
		t.Rollback() // said to the server, and waited for
		return err
	}
	err := t.Run(ctx, "COMMIT")
	if err == nil {
		return nil
	}
	if postgres.Code(err) != "" && !t.IsClosed() {
		return t.WrapError("commit", err)
	}
	committed, askErr := t.committed(ctx)
	switch {
	case askErr != nil:
		return &CommitUnknownError{Err: err}
	case committed:
		return nil
	}
	return t.WrapError("commit", err)
}

// committed asks on a new connection how the transaction ended.
func (t *Tx) committed(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := t.Reconnect(ctx)
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
	ctx, cancel := postgres.CleanupContext()
	defer cancel()
	if !t.IsClosed() {
		_ = t.Run(ctx, "ROLLBACK") // the first error is the one to tell
	}
	t.End(ctx)
}
