package sink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5"
)

// TestCommitAnswerLost tests that the server is asked whether it committed.
func TestCommitAnswerLost(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	tx, _ := prepare(t, proxy.Rewrite(url))
	proxy.CutAfterClientMessage(isCommit)
	warnings, err := tx.Commit(func() error { return nil })
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "the transaction is committed") {
		t.Errorf("got warnings %q and error %v, but the transaction is committed", warnings, err)
	}
	wantOne(t, connect(t, url), "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'", "1")
}

// TestCommitNotReceived tests a server that was never told to commit.
func TestCommitNotReceived(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	tx, _ := prepare(t, proxy.Rewrite(url))
	proxy.OnClientMessage(isCommit)
	_, err := tx.Commit(func() error { return nil })
	wantError(t, err, clierr.Failed, "commit: ", "the connection was lost")
	if _, unknown := errors.AsType[*CommitUnknownError](err); unknown {
		t.Errorf("got error %v, but the server knows", err)
	}
	wantOne(t, connect(t, url), "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'", "0")
}

// TestCommitUnknown tests a server that can no longer be asked.
func TestCommitUnknown(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	for i, what := range []string{"the new connection", "the question"} {
		proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
		tx := begin(t, proxy.Rewrite(url))
		tx.OutcomeWait = time.Second
		check(t, tx.Run(background, fmt.Sprintf("CREATE SCHEMA s%d", i)))
		var committed atomic.Bool
		proxy.CutAfterClientMessage(func(typ byte, payload []byte) bool {
			if isCommit(typ, payload) {
				committed.Store(true)
			}
			return committed.Load() && (what == "the new connection" || typ != 'p') // 'p' is a password
		})
		_, err := tx.Commit(func() error { return nil })
		unknown, ok := errors.AsType[*CommitUnknownError](err)
		if !ok || unknown.Lost == nil || unknown.Asked == nil ||
			!strings.Contains(err.Error(), "it is not known whether the server committed") {
			t.Errorf("%s: got error %v", what, err)
		}
	}
}

// TestCommitWaitsForStandby tests a COMMIT that waits for a synchronous standby. However the wait ends, the rows are on
// the primary's disk.
func TestCommitWaitsForStandby(t *testing.T) {
	t.Parallel()
	const (
		cancel    = "SELECT pg_cancel_backend(%d)"
		terminate = "SELECT pg_terminate_backend(%d)"
	)
	for _, tc := range []struct {
		name string
		end  func(t *testing.T, other *pgx.Conn, pid uint32)
		says []string
	}{
		{"canceled", func(t *testing.T, other *pgx.Conn, pid uint32) {
			run(t, other, fmt.Sprintf(cancel, pid))
		}, []string{"might not have been replicated"}},
		{"terminated", func(t *testing.T, other *pgx.Conn, pid uint32) {
			run(t, other, fmt.Sprintf(terminate, pid))
		}, []string{"might not have been replicated", "the transaction is committed"}},
		{"crashed", func(t *testing.T, _ *pgx.Conn, pid uint32) {
			kill(t, pid)
		}, []string{"might not have been replicated", "the transaction is committed"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := waitingServer(t)
			tx, _ := prepare(t, url)
			pid := tx.PgConn().PID()
			other := connect(t, url)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				awaitOne(t, url, fmt.Sprintf(
					"SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = %d", pid), "SyncRep")
				tc.end(t, other, pid)
			}()
			warnings, err := tx.Commit(func() error { return nil })
			<-ended
			if err != nil {
				t.Fatalf("got error %v, but the transaction is committed", err)
			}
			all := strings.Join(warnings, "\n")
			for _, word := range tc.says {
				if !strings.Contains(all, word) {
					t.Errorf("the warnings do not say %q: %q", word, warnings)
				}
			}
			wantOne(t, connect(t, url), "SELECT count(*) FROM pg_namespace WHERE nspname = 'flujo'", "1")
		})
	}
}

// TestCommitWithoutStandby tests that nothing is said of a standby if the role's COMMIT waits for none.
func TestCommitWithoutStandby(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"off", "local"} {
		url := waitingServer(t)
		run(t, connect(t, url), "SET synchronous_commit = local", "ALTER SYSTEM SET synchronous_commit = "+setting,
			"SELECT pg_reload_conf()")
		awaitOne(t, url, "SELECT current_setting('synchronous_commit')", setting)
		proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
		tx, _ := prepare(t, proxy.Rewrite(url))
		proxy.CutAfterClientMessage(isCommit)
		warnings, err := tx.Commit(func() error { return nil })
		if all := strings.Join(warnings, "\n"); err != nil || !strings.Contains(all, "the transaction is committed") ||
			strings.Contains(all, "replicated") {
			t.Errorf("%s: got warnings %q and error %v", setting, warnings, err)
		}
	}
}

// TestCommitStillWaits tests a connection that is lost while the server's process goes on waiting: the outcome is not
// known, and the error names the process.
func TestCommitStillWaits(t *testing.T) {
	t.Parallel()
	url := waitingServer(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.DropCancels()
	tx, _ := prepare(t, proxy.Rewrite(url))
	tx.OutcomeWait = 10 * time.Second
	pid := tx.PgConn().PID()
	proxy.CutAfterClientMessage(isCommit)
	_, err := tx.Commit(func() error { return nil })
	if _, ok := errors.AsType[*CommitUnknownError](err); !ok || !strings.Contains(err.Error(), fmt.Sprint(pid)) ||
		!strings.Contains(err.Error(), "in progress") {
		t.Errorf("got error %v, want one that names process %d", err, pid)
	}
	run(t, connect(t, url), fmt.Sprintf("SELECT pg_cancel_backend(%d)", pid))
	awaitOne(t, url, "SELECT count(*)::text FROM pg_namespace WHERE nspname = 'flujo'", "1")
}

// TestCommitFailover tests that only the server of the transaction is believed: its standby does not know yet that the
// transaction is committed, and to another server the transaction id means another transaction.
func TestCommitFailover(t *testing.T) {
	t.Parallel()
	primary, standby := pgtest.PrimaryAndStandby(t)
	run(t, connect(t, standby), "SELECT pg_wal_replay_pause()")
	other := pgtest.StartFor(t)
	run(
		t,
		connect(t, other.URL("postgres")),
		"ALTER ROLE postgres PASSWORD '"+password(t, primary)+"'",
		"CREATE DATABASE standby",
		"DO $$ BEGIN FOR i IN 1..2000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$",
	)
	for n, tc := range []struct{ upstream, says string }{
		{pgtest.Upstream(t, standby), "a standby answers at the address"},
		{other.Addr(), "another server answers at the address"},
	} {
		proxy := pgtest.NewProxy(t, pgtest.Upstream(t, primary))
		tx := begin(t, proxy.Rewrite(primary))
		tx.OutcomeWait = 5 * time.Second
		check(t, tx.Run(background, fmt.Sprintf("CREATE SCHEMA s%d", n)))
		proxy.CutAfterClientMessage(func(typ byte, payload []byte) bool {
			if isCommit(typ, payload) {
				proxy.Redirect(tc.upstream)
				return true
			}
			return false
		})
		_, err := tx.Commit(func() error { return nil })
		if _, ok := errors.AsType[*CommitUnknownError](err); !ok || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("got error %v, want %q", err, tc.says)
		}
		awaitOne(t, primary, fmt.Sprintf("SELECT count(*)::text FROM pg_namespace WHERE nspname = 's%d'", n), "1")
	}
}

// TestCommitAnswerThenSilence tests that an answer is named, and not that later attempts got none.
func TestCommitAnswerThenSilence(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer func() { _ = silent.Close() }()
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.DropCancels()
	tx := begin(t, pgtest.WithParameter(t, proxy.Rewrite(url), "connect_timeout", "1"))
	tx.OutcomeWait = 3 * time.Second
	check(t, tx.Run(background, "CREATE SCHEMA s"))
	var asked bool
	proxy.RefuseSessions(func(map[string]string) (code, message string) {
		if asked {
			return "", ""
		}
		asked = true
		return "57P03", "the database system is starting up"
	})
	proxy.CutAfterClientMessage(func(typ byte, payload []byte) bool {
		if !isCommit(typ, payload) {
			return false
		}
		proxy.Redirect(silent.Addr().String())
		return true
	})
	_, err = tx.Commit(func() error { return nil })
	if _, ok := errors.AsType[*CommitUnknownError](err); !ok || !strings.Contains(err.Error(), "is starting up") {
		t.Errorf("got error %v, want one that says what the server answered", err)
	}
}

func password(t testing.TB, url string) string {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	check(t, err)
	return config.Password
}

// TestCommitLostInCrash tests a server that crashes after it answered nothing, and has no trace of the transaction
// afterwards.
func TestCommitLostInCrash(t *testing.T) {
	t.Parallel()
	url := pgtest.StartFor(t).URL("postgres")
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	tx, _ := prepare(t, proxy.Rewrite(url))
	pid := tx.PgConn().PID()
	proxy.OnClientMessage(func(typ byte, payload []byte) bool {
		if isCommit(typ, payload) {
			kill(t, pid)
			return true
		}
		return false
	})
	_, err := tx.Commit(func() error { return nil })
	wantError(t, err, clierr.Failed, "commit: ")
	if _, unknown := errors.AsType[*CommitUnknownError](err); unknown {
		t.Errorf("got error %v, but the server knows", err)
	}
	awaitOne(t, url, "SELECT count(*)::text FROM pg_namespace WHERE nspname = 'flujo'", "0")
}

// TestCommitIsDurable tests that a transaction is still there if the server crashes right after it answered COMMIT,
// although the server has synchronous_commit = off, as those of the tests do. A stronger setting is not changed.
func TestCommitIsDurable(t *testing.T) {
	t.Parallel()
	url := pgtest.StartFor(t).URL("postgres")
	for n := range 3 {
		victim := connect(t, url)
		tx := begin(t, url)
		if got := one(t, tx.Conn.Conn, "SELECT current_setting('synchronous_commit')"); got != "local" {
			t.Errorf("synchronous_commit is %s", got)
		}
		check(t, tx.Run(background, fmt.Sprintf("CREATE SCHEMA s%d", n)))
		if _, err := tx.Commit(func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		observer := connect(t, url)
		kill(t, victim.PgConn().PID())
		for !observer.IsClosed() { // until the server ends all its processes
			_, _ = observer.Exec(background, "SELECT 1")
		}
		awaitOne(t, url, fmt.Sprintf("SELECT count(*)::text FROM pg_namespace WHERE nspname = 's%d'", n), "1")
	}
	tx := begin(t, pgtest.WithParameter(t, url, "synchronous_commit", "remote_apply"))
	defer tx.Rollback()
	if got := one(t, tx.Conn.Conn, "SELECT current_setting('synchronous_commit')"); got != "remote_apply" {
		t.Errorf("synchronous_commit is %s", got)
	}
}

// waitingServer starts a server on which each COMMIT of a change waits for a standby that does not exist.
func waitingServer(t *testing.T) (url string) {
	t.Helper()
	return pgtest.StartFor(t, pgtest.WithSettings("synchronous_standby_names=nobody", "synchronous_commit=on")).
		URL("postgres")
}

// kill ends a process of a server as a crash does: the server then ends all of them, recovers, and accepts connections
// again.
func kill(t testing.TB, pid uint32) {
	t.Helper()
	process, err := os.FindProcess(int(pid))
	check(t, err)
	check(t, process.Kill())
}

// awaitOne returns when the query, asked on connections of its own, returns want, which the server brings about by
// itself.
func awaitOne(t testing.TB, url, query, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(background, time.Minute)
	defer cancel()
	got := ""
	for tick := time.Tick(20 * time.Millisecond); got != want; <-tick {
		conn, err := pgx.Connect(ctx, url)
		if err == nil {
			err = conn.QueryRow(ctx, query).Scan(&got)
			_ = conn.Close(ctx)
		}
		if ctx.Err() != nil {
			t.Errorf("%s: got %s and error %v, want %s", query, got, err, want)
			return
		}
	}
}
