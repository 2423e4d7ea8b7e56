package pgtest

import (
	"bytes"
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// proxied returns a database with a table t, and a proxy to its server.
func proxied(t *testing.T) (db string, p *Proxy) {
	t.Helper()
	db = Database(t)
	mustExec(t, db, "CREATE TABLE t (n int)")
	return db, NewProxy(t, Upstream(t, db))
}

// insert adds rows to table t in a transaction, by COPY.
func insert(url string, rows int) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"t"}, []string{"n"},
			pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return []any{i}, nil }))
		return err
	})
}

func wantRows(t *testing.T, db string, want int) {
	t.Helper()
	var got int
	if err := queryRow(db, "SELECT count(*) FROM t", &got); err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("%d rows, want %d", got, want)
	}
}

func isCommit(typ byte, payload []byte) bool {
	return typ == 'Q' && strings.EqualFold(string(bytes.TrimRight(payload, "\x00")), "commit")
}

func TestProxyPasses(t *testing.T) {
	db, p := proxied(t)
	for _, mode := range []string{"disable", "prefer"} {
		url := WithParameter(t, p.Rewrite(db), "sslmode", mode)
		if err := insert(url, 10_000); err != nil {
			t.Fatalf("sslmode=%s: %v", mode, err)
		}
	}
	p.Wait()
	wantRows(t, db, 20_000)
}

func TestProxyCutsBefore(t *testing.T) {
	db, p := proxied(t)
	var seen atomic.Int32
	for name, cut := range map[string]Match{
		"copy data": func(typ byte, _ []byte) bool { return typ == 'd' },
		"commit":    isCommit,
	} {
		p.OnClientMessage(func(typ byte, payload []byte) bool {
			if !cut(typ, payload) {
				return false
			}
			seen.Add(1)
			p.OnClientMessage(nil)
			return true
		})
		if err := insert(p.Rewrite(db), 10); err == nil {
			t.Errorf("%s: the client noticed nothing", name)
		}
		p.Wait()
		wantRows(t, db, 0)
	}
	if seen.Load() != 2 {
		t.Errorf("%d cuts, want 2", seen.Load())
	}
}

func TestProxyCutsAfterCommit(t *testing.T) {
	db, p := proxied(t)
	p.CutAfterClientMessage(isCommit)
	if err := insert(p.Rewrite(db), 10); err == nil {
		t.Error("the client noticed nothing")
	}
	p.Wait()
	wantRows(t, db, 10)
}

func TestProxyCutsAfterBytes(t *testing.T) {
	db, p := proxied(t)
	p.CutAfterClientBytes(100_000)
	if err := insert(p.Rewrite(db), 100_000); err == nil {
		t.Error("the client noticed nothing")
	}
	p.Wait()
	wantRows(t, db, 0)
	if err := insert(p.Rewrite(db), 100_000); err != nil {
		t.Errorf("a cut by bytes happens once, and then: %v", err)
	}
}

func TestProxyCutsNow(t *testing.T) {
	db, p := proxied(t)
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, p.Rewrite(db))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	p.Cut()
	if err := conn.Ping(ctx); err == nil {
		t.Error("the client noticed nothing")
	}
	p.Wait()
}

func TestProxyRewritesParameter(t *testing.T) {
	db, p := proxied(t)
	p.RewriteServerParameter("server_version", "12.22")
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, p.Rewrite(db))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if got := conn.PgConn().ParameterStatus("server_version"); got != "12.22" {
		t.Errorf("server_version %q", got)
	}
	if got := conn.PgConn().ParameterStatus("server_encoding"); got != "UTF8" {
		t.Errorf("server_encoding %q", got)
	}
}

func TestProxyActsAsPooler(t *testing.T) {
	db, p := proxied(t)
	through := WithParameter(t, p.Rewrite(db), "options", "-c search_path=flujo")
	through = WithParameter(t, through, "application_name", "mine")
	for _, pooler := range []bool{false, true} {
		if pooler {
			p.ActAsPooler()
		}
		conn := connect(t, through)
		var path, name string
		var pid uint32
		err := conn.QueryRow(t.Context(), `SELECT current_setting('search_path'), current_setting('application_name'),
			pg_backend_pid()`).Scan(&path, &name, &pid)
		if err != nil {
			t.Fatal(err)
		}
		if (path == "flujo") == pooler || name != "mine" {
			t.Errorf("pooler %v: search_path %s, application_name %q", pooler, path, name)
		}
		if announced := conn.PgConn().PID(); (announced != pid) != pooler {
			t.Errorf("pooler %v: backend %d, announced as %d", pooler, pid, announced)
		}
	}
}

func TestProxyForwardsCancel(t *testing.T) {
	db, p := proxied(t)
	wantCancel(t, connect(t, p.Rewrite(db)))
	p.ActAsPooler()
	wantCancel(t, connect(t, p.Rewrite(db)))
}

// connect returns a connection that is closed when the test ends.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the test's context has ended
	return conn
}

// wantCancel fails unless a statement can be cancelled.
func wantCancel(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	ctx := t.Context()
	finished := make(chan struct{})
	cancelled := make(chan struct{})
	go func() { // the first may come before the query
		defer close(cancelled)
		for {
			select {
			case <-finished:
				return
			default:
				_ = conn.PgConn().CancelRequest(ctx)
			}
		}
	}()
	_, err := conn.Exec(ctx, "SELECT pg_sleep(60)", pgx.QueryExecModeSimpleProtocol)
	close(finished)
	<-cancelled
	wantCode(t, err, "57014")
}

func TestProxyDropsCancels(t *testing.T) {
	db, p := proxied(t)
	p.DropCancels()
	conn := connect(t, p.Rewrite(db))
	if err := conn.PgConn().CancelRequest(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A server that had received the request would have canceled one of these by now.
	for range 20 {
		if _, err := conn.Exec(t.Context(), "SELECT pg_sleep(0.005)"); err != nil {
			t.Fatal(err)
		}
	}
}
