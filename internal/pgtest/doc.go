// Package pgtest starts throwaway PostgreSQL servers for tests, benchmarks and
// the demo. The program itself never imports it.
//
// A test package calls Main once
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
// and each test asks for what it needs:
//
//	url := pgtest.Database(t)                   // an empty database of its own
//	reader := pgtest.Role(t, url, "")           // the same database, as a new role
//	standby := pgtest.Standby(t)                // a read-only database
//	server := pgtest.StartFor(t)                // a server of its own, which it may stop
//	server := pgtest.StartFor(t, pgtest.WithTLS()) // a server that accepts TLS connections
//	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url)) // a proxy that breaks connections
//
// The first test that needs the shared server starts it. It ends with the
// process, even if the process is killed. So does the process's temporary
// folder, in which t.TempDir makes folders.
//
// If FLUJO_PORT_TEST_POSTGRES is set to the address of a server, the tests use
// that server instead. They create databases and roles named flujo_port_test_…
// there and drop them. Its URLs may lack a query, a password or a host, so tests
// change them by WithParameter, WithUser and the like. Only Start, Standby and
// PrimaryAndStandby still start servers of their own.
package pgtest
