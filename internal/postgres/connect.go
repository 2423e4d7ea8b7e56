// Package postgres holds what the program knows of a PostgreSQL server and
// reads from it: connections, the server's version and settings, the shapes of
// Flujo's tables, locks, and the meaning of the server's errors. It does not
// write.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/fileio"
	"flujo-port/internal/stateuri"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// applicationName is the name of the connections in pg_stat_activity.
const applicationName = "flujo-port"

// Config parses a connection string: a URL, or "" if the PG* variables hold all
// settings. Parameters for other clients are dropped, also those of a service. Several
// hosts are refused, since a migration goes to one primary. The error is a clierr.Usage
// and never contains any part of the string, which may hold a password.
func Config(conn string) (*pgx.ConnConfig, error) {
	if err := checkFiles(conn); err != nil {
		return nil, err
	}
	config, err := pgx.ParseConfig(conn)
	if err == nil && hasSeveralHosts(config) {
		return nil, &clierr.Error{
			Kind:    clierr.Usage,
			Message: "the PostgreSQL address, PGHOST or the service file lists several hosts",
			Hint:    "name only the primary server",
		}
	}
	if err == nil {
		if err := checkNames(config); err != nil {
			return nil, err
		}
		maps.DeleteFunc(config.RuntimeParams, func(name, _ string) bool { return stateuri.IsClientParameter(name) })
		return config, nil
	}
	return nil, configError(err)
}

// checkFiles returns a clierr.Usage if a file that pgx reads, such as that of PGPASSFILE, is
// something else, such as a named pipe, for which it would wait without end. The null
// device is empty, and stands for no file.
func checkFiles(conn string) error {
	files := map[string]string{}
	for _, name := range []string{"PGPASSFILE", "PGSERVICEFILE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"} {
		files[name] = os.Getenv(name)
	}
	if u, err := url.Parse(conn); err == nil {
		for _, name := range []string{"passfile", "servicefile", "sslrootcert", "sslcert", "sslkey"} {
			files[name] = u.Query().Get(name)
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		for _, name := range []string{
			".pgpass", ".pg_service.conf",
			".postgresql/root.crt", ".postgresql/postgresql.crt", ".postgresql/postgresql.key",
		} {
			files["~/"+name] = filepath.Join(home, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := files[name]
		if path == "" || path == os.DevNull || path == "system" { // the system's certificates
			continue
		}
		if irregular, ok := errors.AsType[*fileio.NotRegularError](fileio.CheckRegular(path)); ok {
			return &clierr.Error{
				Kind:    clierr.Usage,
				Message: name,
				Err:     irregular,
				Hint:    "name a regular file, or " + os.DevNull + " for none",
			}
		}
	}
	return nil
}

// checkNames returns a clierr.Usage if a whole address, or credentials, are in the place
// of a name, as in PGHOST=postgresql://… The names are printed, so a password must not
// be in them. The same is true of a value that is a variable that was not expanded, or ***.
func checkNames(config *pgx.ConnConfig) error {
	for _, p := range []struct{ name, value, variable string }{
		{"host", config.Host, "PGHOST"}, {"user", config.User, "PGUSER"}, {"database", config.Database, "PGDATABASE"},
	} {
		if stateuri.MayContainPassword(p.value) || p.name == "host" && isCredentials(p.value) {
			return &clierr.Error{
				Kind:    clierr.Usage,
				Message: fmt.Sprintf("the name of the %s is an address (hidden, may contain a password)", p.name),
				Hint:    fmt.Sprintf("check %s, the service file and the address", p.variable),
			}
		}
	}
	for _, p := range []struct{ name, value, variable string }{
		{"host", config.Host, "PGHOST"}, {"user", config.User, "PGUSER"}, {"database", config.Database, "PGDATABASE"},
		{"password", config.Password, "PGPASSWORD, .pgpass"},
	} {
		switch {
		case stateuri.IsPlaceholder(p.value):
			return &clierr.Error{
				Kind:    clierr.Usage,
				Message: fmt.Sprintf("the %s is a variable that was not expanded, such as ${NAME}", p.name),
				Hint:    fmt.Sprintf("check %s, the service file and the address", p.variable),
			}
		case stateuri.IsMasked(p.value):
			return &clierr.Error{
				Kind:    clierr.Usage,
				Message: fmt.Sprintf("the %s is ***, which is what addresses are printed with", p.name),
				Hint:    fmt.Sprintf("check %s, the service file and the address", p.variable),
				Advice:  clierr.Advice{Topic: clierr.RevealPassword},
			}
		}
	}
	if strings.Contains(config.User, ":") && config.Password == "" {
		return &clierr.Error{
			Kind:    clierr.Usage,
			Message: "the name of the user contains a colon (hidden, may contain a password)",
			Hint:    "percent-encode user and password each on its own, and not the colon between them",
		}
	}
	return nil
}

// isCredentials reports whether the name of a host is neither an address nor a folder, and
// has a colon or an @, as user:password and password@host have.
func isCredentials(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil && !strings.HasPrefix(host, "/") && strings.ContainsAny(host, ":@")
}

// hasSeveralHosts reports whether config would try another server if the first
// one does not answer. With sslmode=prefer, the same host without TLS is among
// the fallbacks.
func hasSeveralHosts(config *pgx.ConnConfig) bool {
	return slices.ContainsFunc(config.Fallbacks, func(f *pgconn.FallbackConfig) bool {
		return f.Host != config.Host || f.Port != config.Port
	})
}

// Dial opens a connection. A watch ends it if the server no longer answers, and says what
// it waits for (see [ReportWaits]). When the ctx of a statement ends, the server is
// asked to cancel the statement, and the connection stays open for the
// rollback.
func Dial(ctx context.Context, conn string) (*pgx.Conn, error) { return dial(ctx, conn, nil) }

// dial is Dial, with a function that is called for each notice; it may be nil.
func dial(ctx context.Context, conn string, notice pgconn.NoticeHandler) (*pgx.Conn, error) {
	config, err := Config(conn)
	if err != nil {
		return nil, err
	}
	config.OnNotice = notice
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = applicationName
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 30 * time.Second
	}
	config.RuntimeParams["client_encoding"] = "UTF8" // overrides the settings of role and address
	// No statement is prepared by name, since poolers may not support it.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: 10 * time.Second}
	}
	asking := config.Copy()
	var metered *meter
	var connected atomic.Bool
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if connected.Load() { // a cancel request
			return dial(ctx, network, address)
		}
		if metered != nil { // the connection without TLS, after that with TLS failed
			metered.stop()
			metered = nil
		}
		inner, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		metered = newMeter(inner)
		return metered, nil
	}
	report, _ := ctx.Value(waitsKey{}).(waitFunc)
	begun := time.Now()
	c, err := establish(ctx, config, limits.silence, report)
	if err != nil {
		if pgconn.Timeout(err) && errors.Is(cause(err), context.DeadlineExceeded) {
			err = timeoutError{accepted: metered != nil, after: time.Since(begun)}
		}
		return nil, connectError(config, err)
	}
	connected.Store(true)
	w := &watch{watchLimits: limits, conn: metered, report: report}
	process := c.PgConn().PID()
	asking.OnNotice = nil
	w.ask = func(ctx context.Context) (activity, bool) { return askActivity(ctx, asking, process) }
	go w.run()
	return c, nil
}

// establish opens a connection. If that takes longer than silence, it calls report, unless that is nil.
func establish(
	ctx context.Context, config *pgx.ConnConfig, silence time.Duration, report waitFunc,
) (*pgx.Conn, error) {
	if report != nil {
		timer := time.AfterFunc(silence, func() { report("the server has not answered", silence) })
		defer timer.Stop()
	}
	return pgx.ConnectConfig(ctx, config)
}
