package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/postgres"

	"github.com/jackc/pgx/v5"
)

// commitWait limits the wait for the server's answer to COMMIT, which may wait for a
// synchronous standby.
const commitWait = 10 * time.Minute

// Commit calls last and then commits. It returns nil if the transaction is committed, a
// *CommitUnknownError if that is not known, and another error if it is not committed: that
// of last, or one of the server's. warnings are what the server said about the commit, for
// example that a synchronous standby may lack it.
//
// Commit takes no context, so a signal does not interrupt it. If the connection is lost
// during COMMIT, Commit asks the server on new connections, until OutcomeWait is over.
func (t *Tx) Commit(last func() error) (warnings []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), commitWait)
	defer cancel()
	defer func() {
		ctx, cancel := postgres.CleanupContext()
		defer cancel()
		t.End(ctx)
	}()
	for _, do := range t.last {
		if err := do(ctx); err != nil {
			return nil, err
		}
	}
	var xid string
	var standby bool // COMMIT waits for one
	const query = `SELECT pg_current_xact_id()::text, current_setting('synchronous_standby_names') <> ''
		AND current_setting('synchronous_commit') NOT IN ('off', 'local')`
	if err := t.QueryRow(ctx, query).Scan(&xid, &standby); err != nil {
		return nil, t.WrapError("read the transaction id", err)
	}
	if err := last(); err != nil {
		t.Rollback()
		return nil, err
	}
	t.OnWarning = func(text string) { warnings = append(warnings, text) }
	results, err := t.PgConn().Exec(ctx, "COMMIT").ReadAll()
	switch {
	case err == nil && results[0].CommandTag.String() == "ROLLBACK":
		return nil, &clierr.Error{Kind: clierr.Failed, Message: "commit: the transaction had failed before"}
	case err == nil:
		return warnings, nil
	case postgres.Code(err) != "" && !t.IsClosed():
		return nil, t.WrapError("commit", err)
	}
	if err := t.outcome(xid, err); err != nil {
		return nil, err
	}
	warnings = append(warnings, fmt.Sprintf("the connection was lost during COMMIT (%v); "+
		"the server was asked on a new one, and the transaction is committed", postgres.ServerError(err)))
	if standby {
		warnings = append(warnings, "the transaction might not have been replicated to the synchronous standby, "+
			"for which COMMIT waits on this server")
	}
	return warnings, nil
}

// outcome asks the server what became of the transaction whose COMMIT ended with lost. It
// returns nil if the transaction is committed.
func (t *Tx) outcome(xid string, lost error) error {
	ctx, cancel := context.WithTimeout(context.Background(), t.OutcomeWait)
	defer cancel()
	unknown := &CommitUnknownError{Lost: postgres.ServerError(lost)}
	inProgress := false
	for {
		status, err := t.status(ctx, xid)
		silent := ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded)
		switch {
		case err != nil && !inProgress && (!silent || unknown.Asked == nil): // an answer says more than none
			unknown.Asked = withoutHint(err)
		case status == "committed":
			return nil
		case status == "aborted":
			return t.WrapError("commit", lost)
		case status != "":
			inProgress = true
			unknown.Asked = fmt.Errorf("the transaction is %s in process %d of the server, as if COMMIT waited for "+
				"a synchronous standby: wait until that process has ended", status, t.PgConn().PID())
		}
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return unknown
		}
	}
}

// withoutHint returns an error without its hint: to run again is no advice if the
// transaction may be committed.
func withoutHint(err error) error {
	e, ok := errors.AsType[*clierr.Error](err)
	if !ok {
		return err
	}
	plain := *e
	plain.Hint, plain.Advice = "", clierr.Advice{}
	return &plain
}

// status returns the state of a transaction: committed, aborted or in progress. It asks
// only the server of the transaction: a standby that is asked in its place, or that has
// become the primary, may not have received what was committed.
func (t *Tx) status(ctx context.Context, xid string) (status string, err error) {
	conn, err := t.Reconnect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	here, err := readPlace(ctx, conn)
	switch {
	case err != nil:
		return "", postgres.ServerError(err)
	case here.standby:
		return "", errors.New("a standby answers at the address")
	case !here.same(t.place):
		return "", errors.New("another server answers at the address")
	}
	err = conn.QueryRow(ctx, "SELECT coalesce(pg_xact_status($1::text::xid8), '')", xid).Scan(&status)
	switch {
	case postgres.Code(err) == postgres.InvalidParameterValue:
		return "aborted", nil // in the future: the server restarted, and has no trace of the transaction
	case err != nil:
		return "", postgres.ServerError(err)
	case status == "":
		return "", errors.New("the server no longer knows the transaction")
	}
	return status, nil
}

// place is the server and the database in which transaction ids have a meaning.
type place struct {
	postgres.Origin
	timeline string // changes when a standby becomes the primary; "" if unknown
	standby  bool
}

func (p place) same(other place) bool {
	return p.Equal(other.Origin) && (p.timeline == "" || other.timeline == "" || p.timeline == other.timeline)
}

// readPlace reads the place of a connection that is not in a transaction.
func readPlace(ctx context.Context, conn *pgx.Conn) (p place, err error) {
	if err := conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&p.standby); err != nil || p.standby {
		return p, err
	}
	if p.Origin, err = (&postgres.Conn{Conn: conn}).Origin(ctx); err != nil {
		return p, err
	}
	p.timeline = readTimeline(ctx, conn)
	return p, ctx.Err()
}

// readTimeline returns the timeline of a primary, or "" if it cannot be read, as on some
// managed servers. The connection must not be in a transaction, which an error would end.
func readTimeline(ctx context.Context, conn *pgx.Conn) (timeline string) {
	const query = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"
	if conn.QueryRow(ctx, query).Scan(&timeline) != nil {
		return ""
	}
	return timeline
}

// CommitUnknownError is returned by Commit if the connection was lost during COMMIT and
// the server did not say whether it committed.
type CommitUnknownError struct {
	Lost  error // what ended the connection
	Asked error // why the server did not say
}

func (e *CommitUnknownError) Error() string {
	return fmt.Sprintf(
		"it is not known whether the server committed: the connection was lost during COMMIT (%v), "+
			"and the server did not say: %v",
		e.Lost,
		e.Asked,
	)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
