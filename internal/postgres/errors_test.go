package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/pgtest"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestServerError(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{"message", &pgconn.PgError{Message: "no such table", Code: "42P01"}, "no such table (SQLSTATE 42P01)"},
		{
			"all", fmt.Errorf("copy: %w", &pgconn.PgError{
				Message: "duplicate key", Code: "23505", Detail: "Key (id)=(7) exists.", Where: "COPY steps, line 3",
			}),
			"duplicate key (SQLSTATE 23505): Key (id)=(7) exists [COPY steps, line 3]",
		},
		{"another error", io.EOF, "EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := ServerError(tc.err).Error(); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestCode(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"":      io.EOF,
		"42501": fmt.Errorf("step: %w", &pgconn.PgError{Code: "42501"}),
	} {
		if got := Code(err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := Code(nil); got != "" {
		t.Errorf("got %q for no error", got)
	}
}

func TestWrapError(t *testing.T) {
	t.Parallel()
	conn := &Conn{Server: Server{Role: "app"}}
	for _, tc := range []struct {
		name string
		err  error
		kind clierr.Kind
		hint string
	}{
		{"connection lost", io.ErrUnexpectedEOF, clierr.Failed, "the connection was lost"},
		{"not supported", &pgconn.PgError{Code: NotSupported}, clierr.Refused, "does not permit"},
		{
			"copy into hidden rows", &pgconn.PgError{Code: NotSupported, Routine: "DoCopy"}, clierr.Refused,
			"row-level security",
		},
		{
			"hidden rows", &pgconn.PgError{Code: InsufficientPrivilege, Routine: "check_enable_rls"}, clierr.Refused,
			"row-level security",
		},
		{"privilege", &pgconn.PgError{Code: InsufficientPrivilege}, clierr.Refused, `role "app" lacks`},
		{
			"privilege on a schema", &pgconn.PgError{
				Code: InsufficientPrivilege, Message: "permission denied for schema must be owner of",
			},
			clierr.Refused, `role "app" lacks`,
		},
		{
			"ownership", &pgconn.PgError{Code: InsufficientPrivilege, Message: "must be owner of table runs"},
			clierr.Refused, "only its owner",
		},
		{
			"tablespace", &pgconn.PgError{
				Code: InsufficientPrivilege, Message: `permission denied for tablespace a"b`,
			},
			clierr.Refused, `run GRANT CREATE ON TABLESPACE "a""b" TO "app"`,
		},
		{
			"statement pooling", &pgconn.PgError{
				Code: protocolViolation, Message: "transaction blocks not allowed in statement pooling mode",
			},
			clierr.Refused, "pooler in statement mode",
		},
		{"protocol violation", &pgconn.PgError{Code: protocolViolation}, clierr.Failed, ""},
		{"read-only", &pgconn.PgError{Code: ReadOnlyTransaction}, clierr.Refused, "connect to the primary"},
		{"data", &pgconn.PgError{Code: NumericOutOfRange}, clierr.Refused, "rejected that row"},
		{"constraint", &pgconn.PgError{Code: "23505"}, clierr.Refused, "rejected that row"},
		{"limit", &pgconn.PgError{Code: "54000"}, clierr.Refused, "rejected that row"},
		{"disk full", &pgconn.PgError{Code: "53100"}, clierr.Failed, "ran out of resources"},
		{"no memory", &pgconn.PgError{Code: "53200"}, clierr.Failed, "ran out of resources"},
		{"too many locks", &pgconn.PgError{Code: "53200", Hint: "Erhöhen Sie max_locks_per_transaction."},
			clierr.Failed, "raise max_locks_per_transaction"},
		{"another code", &pgconn.PgError{Code: "XX000"}, clierr.Failed, ""},
		{"server ends", &pgconn.PgError{Code: "57P01"}, clierr.Failed, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := conn.WrapError("copy table", fmt.Errorf("pgx: %w", tc.err))
			e, ok := err.(*clierr.Error)
			if !ok || e.Kind != tc.kind || e.Message != "copy table" || e.Err == nil {
				t.Fatalf("got error %#v", err)
			}
			if !strings.Contains(e.Hint, tc.hint) || (e.Hint == "") != (tc.hint == "") {
				t.Errorf("got the hint %q, want %q", e.Hint, tc.hint)
			}
			if own := e.Advice.Topic == clierr.OwnByInit; own != (tc.name == "ownership") {
				t.Errorf("got the advice %+v", e.Advice)
			}
		})
	}
	if err := conn.WrapError("copy", fmt.Errorf("pgx: %w", context.Canceled)); err != context.Canceled {
		t.Errorf("got error %v, want that of the context alone", err)
	}
}

// TestWrapErrorOfServer tests errors that a server sends.
func TestWrapErrorOfServer(t *testing.T) {
	t.Parallel()
	url, owner := flujo(t)
	role := pgtest.Role(t, url, "")
	run(t, owner, "GRANT USAGE ON SCHEMA flujo TO PUBLIC", "GRANT SELECT ON flujo.steps TO PUBLIC",
		"ALTER TABLE flujo.steps ENABLE ROW LEVEL SECURITY")
	for _, tc := range []struct {
		name, url, sql string
		kind           clierr.Kind
		parts          []string
	}{
		{"privilege", role, "SELECT * FROM flujo.runs", clierr.Refused, []string{"42501", roleOf(t, role)}},
		{
			"hidden rows", role, "SET row_security = off; SELECT * FROM flujo.steps", clierr.Refused,
			[]string{"disable row-level security"},
		},
		{
			"read-only", url, "BEGIN READ ONLY; DELETE FROM flujo.runs", clierr.Refused, []string{"25006", "primary"},
		},
		{
			"constraint", url, "INSERT INTO flujo.traces VALUES ('none', '{}', now())", clierr.Refused,
			[]string{"23503", "Key (run_id)=(none)", "rejected that row"},
		},
		{"syntax", url, "SELEC", clierr.Failed, []string{"42601"}},
		{
			"ended by an administrator", url, "SELECT pg_terminate_backend(pg_backend_pid())", clierr.Failed,
			[]string{"57P01"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			conn := open(t, tc.url)
			wantError(t, conn.WrapError("try", conn.Run(background, tc.sql)), tc.kind, append(tc.parts, "try: ")...)
		})
	}
}

// TestWrapErrorSendsNothing tests that WrapError uses no connection, so that it never waits.
func TestWrapErrorSendsNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	conn := open(t, proxy.Rewrite(url))
	proxy.OnClientMessage(func(typ byte, _ []byte) bool {
		t.Errorf("a message of type %c was sent", typ)
		return true
	})
	for _, err := range []error{
		&pgconn.PgError{Code: LockNotAvailable}, &pgconn.PgError{Code: InsufficientPrivilege}, io.EOF, context.Canceled,
	} {
		if conn.WrapError("step", err) == nil {
			t.Errorf("%v: got no error", err)
		}
	}
	timeout, ok := errors.AsType[*LockTimeoutError](conn.WrapError("step", &pgconn.PgError{Code: LockNotAvailable}))
	if !ok || timeout.BlockedBy != "" {
		t.Errorf("got %+v", timeout)
	}
	proxy.OnClientMessage(nil)
}
