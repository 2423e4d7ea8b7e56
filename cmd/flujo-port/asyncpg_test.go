package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"flujo-port/internal/pgtest"
)

// envAsyncpg is the environment variable with a Python that has asyncpg, the driver of Flujo. `make test-clients` sets
// it.
const envAsyncpg = "FLUJO_PORT_TEST_ASYNCPG"

// asyncpgProgram reads addresses from stdin and prints for each what asyncpg finds there.
const asyncpgProgram = `
import asyncio, asyncpg, json, sys

async def look(address):
    try:
        connection = await asyncpg.connect(address, timeout=30)
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}
    try:
        return {
            "path": await connection.fetchval("SHOW search_path"),
            "runs": await connection.fetchval("SELECT count(*) FROM runs"),
            "tls": await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"),
            "text": await connection.fetchval("SELECT $1 || 'a\\b'", "ä€😀"),
            "memory": await connection.fetchval("SHOW work_mem"),
        }
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}
    finally:
        await connection.close()

async def main():
    print(json.dumps([await look(address) for address in json.load(sys.stdin)]))

asyncio.run(main())
`

// asyncpgSession is what asyncpg finds in a session.
type asyncpgSession struct {
	Error, Path, Text, Memory string
	Runs                      int
	TLS                       bool
}

// lookByAsyncpg opens each address with asyncpg, with the environment of the program.
func lookByAsyncpg(t *testing.T, p *program, addresses []string) []asyncpgSession {
	t.Helper()
	python := os.Getenv(envAsyncpg)
	if python == "" {
		t.Skip("needs asyncpg: run `make test-clients`")
	}
	in, err := json.Marshal(addresses)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(python, "-c", asyncpgProgram)
	c.Env, c.Stdin, c.Stderr = p.env, bytes.NewReader(in), os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("asyncpg: %v", err)
	}
	var sessions []asyncpgSession
	if err := json.Unmarshal(out, &sessions); err != nil {
		t.Fatal(err)
	}
	return sessions
}

// migrateTo migrates the fixture to a database.
func migrateTo(t *testing.T, p *program, url string) {
	t.Helper()
	file := absolute(t, fixture)
	if _, stderr, code := p.run(t, "migrate", "--postgres", url, "--sqlite", file, "--without-pgvector"); code != 0 {
		t.Fatalf("migrate: exit %d: %s", code, stderr)
	}
}

// TestAsyncpgConnects tests that Flujo's driver connects by the address that the program makes of addresses for other
// clients, and finds Flujo's tables.
func TestAsyncpgConnects(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	p := newProgram(t)
	migrateTo(t, p, url)
	var given, printed []string
	for _, parameters := range []string{
		"", "connect_timeout=10", "channel_binding=prefer", "tcp_user_timeout=1000",
		"application_name=a b&work_mem=5MB",
		"options=-c work_mem=5MB", "options=-c search_path=other -cwork_mem=5MB", "WORK_MEM=5MB",
		"sslmode=prefer", "sslmode=allow", "ssl=prefer", "ssl=disable", "gssencmode=disable",
		"target_session_attrs=any",
		"keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3", "fallback_application_name=x",
		"load_balance_hosts=disable", "sslsni=1", "sslcompression=0", "sslnegotiation=postgres",
		"krbsrvname=postgres",
		"schema=public&pgbouncer=true&connection_limit=1&pool_timeout=10&socket_timeout=3", "sslaccept=strict",
		"pool_size=5&max_overflow=10&pool_recycle=300&pool_pre_ping=true", "prepared_statement_cache_size=0",
		"statement_cache_size=0&min_size=1&max_size=4&command_timeout=60", "default_query_exec_mode=exec",
		"pool_max_conns=4", "currentSchema=public&ApplicationName=j&tcpKeepAlive=true&prepareThreshold=0",
		"client_encoding=UTF8", "client_encoding=latin1", "CLIENT_ENCODING=sql_ascii", "client_encoding=auto",
		"options=-c client_encoding=latin1", "options=--client-encoding=win1252 -c work_mem=5MB",
		"standard_conforming_strings=off", "options=-c standard_conforming_strings=off", "exit_on_error=on",
		"transaction_isolation=serializable", "options=-c transaction_deferrable=on&transaction_read_only=on",
		"bytea_output=escape&IntervalStyle=iso_8601&quote_all_identifiers=on&array_nulls=off&row_security=off",
		"timezone=Europe/Berlin&DateStyle=German", "statement_timeout=30000&lock_timeout=5000",
		"default_transaction_isolation=repeatable read", "supa=base-pooler.x", "hostaddr=127.0.0.1",
	} {
		address := url
		for pair := range strings.SplitSeq(parameters, "&") {
			if name, value, found := strings.Cut(pair, "="); found {
				address = pgtest.WithParameter(t, address, name, value)
			}
		}
		for _, scheme := range []string{"postgresql", "postgres+asyncpg"} {
			address := scheme + strings.TrimPrefix(address, "postgresql")
			stdout, stderr, code := p.run(t, "uri", "cutover", "--reveal", "--connect", "--postgres", address)
			if code != 0 {
				t.Errorf("%s: uri: exit %d: %s", parameters, code, stderr)
				continue
			}
			given, printed = append(given, parameters), append(printed, strings.TrimSpace(stdout))
		}
	}
	for i, got := range lookByAsyncpg(t, p, printed) {
		if got.Error != "" || got.Path != "flujo,public" && got.Path != "flujo, public" || got.Runs != 60 ||
			got.Text != `ä€😀a\b` {
			t.Errorf("%s: %+v by %s", given[i], got, printed[i])
		}
		if strings.Contains(strings.ToLower(given[i]), "work_mem") && got.Memory != "5MB" {
			t.Errorf("%s: work_mem is %s", given[i], got.Memory)
		}
	}
}

// TestAsyncpgVerifiesTheServer tests that Flujo's driver connects by the addresses whose server has a certificate that
// is to be verified, by the system's certificates or by a file.
func TestAsyncpgVerifiesTheServer(t *testing.T) {
	t.Parallel()
	server := pgtest.StartFor(t, pgtest.WithTLS())
	url := server.URL("postgres")
	p := newProgram(t, "SSL_CERT_FILE="+server.RootCert())
	migrateTo(t, p, url)
	var given, printed []string
	for _, parameters := range [][2]string{
		{"require", ""}, {"verify-ca", ""}, {"verify-full", ""}, {"verify-full", "system"},
		{"verify-ca", server.RootCert()}, {"verify-full", server.RootCert()},
	} {
		address := pgtest.WithParameter(t, url, "sslmode", parameters[0])
		if parameters[1] != "" {
			address = pgtest.WithParameter(t, address, "sslrootcert", parameters[1])
		}
		stdout, stderr, code := p.run(t, "uri", "cutover", "--reveal", "--connect", "--postgres", address)
		if code != 0 {
			t.Errorf("%v: uri: exit %d: %s", parameters, code, stderr)
			continue
		}
		given, printed = append(given, fmt.Sprint(parameters)), append(printed, strings.TrimSpace(stdout))
	}
	for i, got := range lookByAsyncpg(t, p, printed) {
		if got.Error != "" || !got.TLS || got.Runs != 60 {
			t.Errorf("%s: %+v by %s", given[i], got, printed[i])
		}
	}
}
