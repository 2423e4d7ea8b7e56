package stateuri

import "strings"

// clientOnly are parameters that other clients handle themselves. asyncpg does not
// know them and sends them to the server, which rejects the connection.
var clientOnly = map[string]bool{
	"async_fallback": true, "channel_binding": true, "command_timeout": true,
	"connect_timeout": true, "connection_limit": true, "currentschema": true,
	"default_query_exec_mode": true, "description_cache_capacity": true,
	"fallback_application_name": true, "gssdelegation": true, "gssencmode": true,
	"hostaddr": true, "keepalives": true, "keepalives_count": true,
	"keepalives_idle": true, "keepalives_interval": true, "krbspn": true,
	"load_balance_hosts": true, "max_protocol_version": true,
	"min_protocol_version": true, "pgbouncer": true,
	"prepared_statement_cache_size": true, "prepared_statement_name_func": true,
	"pool_health_check_period": true, "pool_max_conn_idle_time": true,
	"pool_max_conn_lifetime": true, "pool_max_conn_lifetime_jitter": true,
	"pool_max_conns": true, "pool_min_conns": true, "pool_min_idle_conns": true,
	"pool_pre_ping": true, "pool_recycle": true, "pool_size": true,
	"pool_timeout": true, "require_auth": true, "requirepeer": true, "requiressl": true, "schema": true,
	"ssl": true, "sslcertmode": true, "sslcompression": true, "sslcrldir": true,
	"sslsni": true, "statement_cache_capacity": true, "statement_cache_size": true,
	"tcp_user_timeout": true,
}

// fileParams are parameters whose values are files on the machine that connects.
var fileParams = map[string]bool{
	"passfile": true, "service": true, "servicefile": true, "sslcert": true,
	"sslcrl": true, "sslkey": true, "sslrootcert": true,
}

// warn adds notes about parameters that do not work, or not on every machine.
func (e *edit) warn() {
	var rejected, files []string
	for _, p := range e.settings {
		key := strings.ToLower(p.key)
		switch {
		case clientOnly[key]:
			rejected = append(rejected, p.key)
		case fileParams[key] && p.value != "" && p.value != "system":
			files = append(files, p.key)
		}
	}
	if len(rejected) > 0 {
		e.notef("asyncpg sends %s to the server, which rejects the connection: remove from the URL",
			strings.Join(rejected, ", "))
	}
	if len(files) > 0 {
		e.notef("%s: every machine that uses the address needs the same file at the same path",
			strings.Join(files, ", "))
	}
	if e.get("password") == "" {
		e.notef("no password in the address: if the server requires one, " +
			"every machine that uses the address needs PGPASSWORD or a .pgpass file")
	}
}
