package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"flujo-port/internal/clierr"

	"github.com/jackc/pgx/v5"
)

// preparedWait limits how long tryPrepared waits for another process behind a pooler.
const preparedWait = time.Second

// tryPrepared prepares a statement by name and executes it in the next transaction. Behind
// a pooler, another session occupies the server's process that prepared it meanwhile.
// untried reports whether the statement was executed by the only process that the pooler
// has, which says nothing.
func tryPrepared(
	ctx context.Context, conn *pgx.Conn, address string, pooled bool,
) (failure string, untried bool, err error) {
	name := "flujo_port_" + strings.ToLower(rand.Text())
	// The process that prepares the statement is the one that executes it in the same
	// transaction.
	if _, err := conn.Exec(ctx, beginTrial(conn)); err != nil {
		return "", false, err
	}
	_, err = conn.Prepare(ctx, name, "SELECT pg_backend_pid()")
	var first string
	if err == nil {
		first, err = execPrepared(ctx, conn, name)
	}
	if err != nil {
		failure, err = lost(err)
		return failure, false, err
	}
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		return "", false, err
	}
	var other string
	if pooled {
		var release func()
		other, release = occupyProcess(ctx, address)
		defer release()
	}
	second, err := execPrepared(ctx, conn, name)
	if err != nil {
		failure, err = lost(err)
		return failure, false, err
	}
	return "", pooled && second == first && (other == "" || other == first), nil
}

// occupyProcess has another session occupy a process of the server by a transaction, until
// release is called, but no longer than preparedWait. It returns that process, or "" if
// the pooler had none within that time.
func occupyProcess(ctx context.Context, address string) (process string, release func()) {
	wait, cancel := context.WithTimeout(ctx, preparedWait)
	other, err := Dial(wait, address)
	if err != nil {
		return "", cancel
	}
	// A cancel request would wait for the pooler.
	stop := context.AfterFunc(wait, func() { _ = other.PgConn().Conn().Close() })
	release = func() {
		if stop() {
			_ = other.Close(context.WithoutCancel(ctx))
		}
		cancel()
	}
	results, err := other.PgConn().Exec(ctx, beginTrial(other)+"; SELECT pg_backend_pid()").ReadAll()
	if err != nil || len(results) == 0 || len(results[len(results)-1].Rows) != 1 {
		return "", release
	}
	return string(results[len(results)-1].Rows[0][0]), release
}

// execPrepared returns the process that executed the prepared statement.
func execPrepared(ctx context.Context, conn *pgx.Conn, name string) (process string, err error) {
	result := conn.PgConn().ExecPrepared(ctx, name, nil, nil, nil).Read()
	if result.Err != nil {
		return "", result.Err
	}
	if len(result.Rows) != 1 {
		return "", errors.New("a prepared statement returned no row")
	}
	return string(result.Rows[0][0]), nil
}

// lost returns the text of an error that the server sent about a prepared statement.
func lost(err error) (failure string, other error) {
	if code := Code(err); code == "" || code[:2] == "57" {
		return "", err
	}
	return ServerError(err).Error(), nil
}

// usePreparing is the advice for a pooler that loses prepared statements.
const usePreparing = "use session pooling, or PgBouncer 1.21 or later with max_prepared_statements, or connect to " +
	"the server directly"

// CheckPrepared returns a clierr.Refused if Flujo's statements would fail in sessions
// like this one.
func (t AddressTrial) CheckPrepared() error {
	if t.Unprepared == "" {
		return nil
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: "Flujo's driver prepares statements by name, and the pooler of the cutover address loses them " +
			"between transactions, so most of Flujo's calls would fail: " + t.Unprepared,
		Hint: usePreparing,
	}
}

// PreparedUnknown returns what is not known of prepared statements, with advice, or two
// empty texts.
func (t AddressTrial) PreparedUnknown() (message, hint string) {
	if !t.Untried {
		return "", ""
	}
	return "not known whether the pooler of the cutover address keeps the statements that Flujo's driver prepares: " +
			"it had no second process of the server for the trial", "let its pool have at least two, and run check; " +
			"if it loses them, " + usePreparing
}
