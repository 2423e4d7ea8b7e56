// Package pgtest is a throwaway PostgreSQL for tests, benchmarks and the demo.
// The program itself never imports it.
//
// A test package says once
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
// and each test asks for what it needs:
//
//	url := pgtest.Database(t)                   // an empty database of its own
//	reader := pgtest.Role(t, url, "")           // the same database, as a plain role
//	standby := pgtest.Standby(t)                // a database that cannot be written
//	server, err := pgtest.Start()               // a server of its own, to stop at will
//	server, err := pgtest.Start(pgtest.WithTLS()) // that takes TLS connections too
//	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url)) // a connection that breaks when told
//
// The shared server starts with the first test that asks and ends with the
// process, however the process ends. So does its temporary folder, where
// t.TempDir leads.
//
// Set FLUJO_PORT_TEST_POSTGRES to the address of a server of your own, and none
// is started: databases and roles named flujo_port_test_… are made there and
// dropped again. Its URLs may lack a query, a password or a host, so tests
// change them by WithParameter, WithUser and the like. Only Start, Standby and
// PrimaryAndStandby still start their own.
package pgtest
