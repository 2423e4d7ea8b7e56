package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"regexp"
	"strings"
	"syscall"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/sqltext"
	"flujo-port/internal/stateuri"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// configError converts an error of pgx.ParseConfig, which may quote a password, to a
// clierr.Usage that quotes nothing.
func configError(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return &clierr.Error{
			Kind:    clierr.Usage,
			Message: "cannot read a file that the connection settings name",
			Err:     path,
			Hint:    "check sslrootcert, sslcert, sslkey and the PGSSL* variables",
		}
	}
	text := err.Error()
	text = text[strings.LastIndex(text, "`: ")+1:] // without the address
	for _, known := range []struct{ part, message, hint string }{
		{"unable to find service", "the service file does not have the service",
			"check PGSERVICE or the parameter service, and PGSERVICEFILE or ~/.pg_service.conf"},
		{"failed to read service file", "cannot read the service file", "check PGSERVICEFILE or ~/.pg_service.conf"},
		{"sslmode is invalid", "sslmode is not one of disable, allow, prefer, require, verify-ca and verify-full",
			"check the address, PGSSLMODE and the service file"},
		{`both "sslcert"`, "sslcert and sslkey are not both set", "set both, or none of them"},
		{"unable to add CA", "the file of sslrootcert has no certificate", "check sslrootcert and PGSSLROOTCERT"},
		{"sslpassword", "the key of sslkey is encrypted", "set sslpassword or PGSSLPASSWORD"},
		{"unable to decrypt key", "sslpassword is not the password of the key", "check sslpassword and PGSSLPASSWORD"},
		{"sslkey", "the file of sslkey is not a key", "check sslkey and PGSSLKEY"},
		{"unable to load cert", "the certificate and key of the client cannot be used", "check sslcert and sslkey"},
		{"invalid port", "the port is not a number from 1 to 65535", "check the address, PGPORT and the service file"},
		{"sslcertmode", "sslcertmode has an unknown value", "use disable, allow or require"},
		{"connect_timeout", "connect_timeout is not a number of seconds", "check the address and PGCONNECT_TIMEOUT"},
		{"target_session_attrs", "target_session_attrs has an unknown value",
			"check the address and PGTARGETSESSIONATTRS"},
		{"channel_binding", "channel_binding has an unknown value", "use disable, prefer or require"},
		{"require_auth", "require_auth has an unknown value", "check the address and PGREQUIREAUTH"},
		{"protocol_version", "min_protocol_version or max_protocol_version has an unknown value", "remove it"},
	} {
		if strings.Contains(text, known.part) {
			return &clierr.Error{Kind: clierr.Usage, Message: known.message, Hint: known.hint}
		}
	}
	if _, err := pgx.ParseConfig(""); err != nil {
		return &clierr.Error{
			Kind:    clierr.Usage,
			Message: "the PG* variables or the service file are invalid (hidden, may contain a password)",
			Hint:    "check PGSERVICE, PGSSLMODE, PGPORT and PGCONNECT_TIMEOUT",
		}
	}
	return &clierr.Error{
		Kind:    clierr.Usage,
		Message: "the PostgreSQL address is malformed (hidden, may contain a password)",
		Hint: "write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE, " +
			"with @ : / % # in the password percent-encoded",
	}
}

// connectError converts the error of a failed connection to a clierr.Error, which is a
// clierr.Failed only if the same settings may work later. The causes come from the
// server or the network, and pgx puts no password into them.
func connectError(config *pgx.ConnConfig, err error) error {
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	e := &clierr.Error{
		Message: fmt.Sprintf(
			"connect to PostgreSQL at %s:%d, database %q, as %q",
			config.Host,
			config.Port,
			config.Database,
			config.User,
		),
		Err: cause(err),
	}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		e.Err = ServerError(withoutValues(config.RuntimeParams, pgErr))
		e.Kind, e.Hint = refusal(config, pgErr)
		if strings.Contains(pgErr.Message, optionsRefused) && strings.Contains(pgErr.Message, "options") {
			e.Err = &optionsRefusedError{e.Err}
		}
		return e
	}
	e.Kind, e.Hint = networkFailure(config, err)
	return e
}

// timeoutError is the error of a connection that was not established in time. It is a context.DeadlineExceeded.
type timeoutError struct {
	accepted bool // by the server, or by what is in front of it
	after    time.Duration
}

func (e timeoutError) Error() string {
	if e.accepted {
		return fmt.Sprintf("the connection was accepted, but the server has not answered within %s",
			e.after.Round(time.Second))
	}
	return fmt.Sprintf("no answer within %s", e.after.Round(time.Second))
}

// Is reports whether the target is context.DeadlineExceeded, for [errors.Is].
func (timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// refusal returns the kind and the hint of an error that a server or a pooler sent
// instead of a session.
func refusal(config *pgx.ConnConfig, e *pgconn.PgError) (clierr.Kind, string) {
	switch class := e.Code[:min(2, len(e.Code))]; {
	case e.Code == "28P01":
		return clierr.Usage, authenticationHint(config)
	case e.Code == "28000":
		return clierr.Usage, authorizationHint(config, e)
	case class == "F0":
		return clierr.Usage, "the server's own configuration is not complete: have its administrator correct it, " +
			"such as ssl_ca_file, which pg_hba.conf needs to check the certificates of clients"
	case e.Code == "3D000":
		return clierr.Usage, "name an existing database in the address, or create it"
	case e.Code == "08P01", e.Code == "XX000", e.Code == NotSupported:
		return poolerRefusal(config, e)
	case e.Code == InsufficientPrivilege && e.Routine != "CheckMyDatabase" &&
		strings.Contains(e.Message, "parameter"):
		return clierr.Usage, "the role may not set that parameter: remove it from the address, options and PGOPTIONS"
	case e.Code == InsufficientPrivilege:
		return clierr.Refused, fmt.Sprintf(
			"have an owner of the database grant it: GRANT CONNECT ON DATABASE %s TO %s",
			sqltext.Ident(config.Database),
			sqltext.Ident(config.User),
		)
	case e.Code == "55000":
		return clierr.Usage, "the database permits no connections: name another one, or have ALLOW_CONNECTIONS set"
	case e.Code == UndefinedObject, e.Code == "55P02", e.Code == "58P01", class == "22", class == "42":
		return clierr.Usage, "remove or correct that setting: " +
			"it is in the address, its options, PGOPTIONS, or a setting of the role or database"
	case class == "53":
		return clierr.Failed, "wait until other sessions end, or raise the connection limit of the server, " +
			"the database or the role, then run again"
	case e.Code == "57P03":
		return clierr.Failed, "the server is starting up, shutting down or recovering: wait, then run again"
	}
	return clierr.Failed, "run again when the server accepts connections"
}

// withoutValues returns the refusal of a setting with *** for what it quotes of the
// settings, since whatever stands in the place of a setting may be a password. The names
// of settings remain.
func withoutValues(settings map[string]string, e *pgconn.PgError) *pgconn.PgError {
	switch class := e.Code[:min(2, len(e.Code))]; {
	case class == "22", class == "42", class == "08", e.Code == "55P02", e.Code == "58P01":
	default:
		return e
	}
	hidden := *e
	for name, value := range settings {
		texts := []string{value}
		if name == "options" {
			texts = optionValues(value)
		}
		for _, text := range texts {
			quoted := regexp.MustCompile(`(^|\W)` + regexp.QuoteMeta(text) + `(\W|$)`)
			for _, part := range []*string{&hidden.Message, &hidden.Detail, &hidden.Where} {
				*part = quoted.ReplaceAllString(*part, "${1}***${2}")
			}
		}
	}
	return &hidden
}

// optionSetting matches the name of a setting in a word of options.
var optionSetting = regexp.MustCompile(`^(?:-c|--)?[A-Za-z_][\w.$-]*=`)

// optionValues returns the texts in options that are not the names of settings.
func optionValues(options string) (values []string) {
	for _, word := range stateuri.SplitOptions(options) {
		value := word[len(optionSetting.FindString(word)):]
		if value == word {
			value = strings.TrimPrefix(strings.TrimPrefix(word, "-c"), "--")
		}
		if value != "" {
			values = append(values, value)
		}
	}
	return values
}

func authenticationHint(config *pgx.ConnConfig) string {
	hint := "check the user, the password in the address, PGPASSWORD or .pgpass, and the server's pg_hba.conf"
	if config.Password == "" {
		hint = "no password was given: if the server requires one, put it into the address, PGPASSWORD or .pgpass; " +
			"else check the user and the server's pg_hba.conf"
	}
	if config.TLSConfig == nil && !strings.HasPrefix(config.Host, "/") {
		hint += "; if the server requires TLS, use sslmode=require"
	}
	return hint
}

// authorizationHint returns the hint of an invalid authorization, which a server sends before it asks for a password,
// or for another method than a password. Poolers send it for everything.
func authorizationHint(config *pgx.ConnConfig, e *pgconn.PgError) string {
	switch e.Routine {
	case "InitializeSessionUserId":
		return "name a role that exists and may log in, or have it created: CREATE ROLE … LOGIN, or ALTER ROLE … LOGIN"
	case "auth_failed":
		return "the server's pg_hba.conf demands another proof of the user than a password: name the role that it " +
			"accepts for this user of the system or this certificate, or have pg_hba.conf changed"
	case "ClientAuthentication":
		hint := "have an entry for this role, database and machine added to the server's pg_hba.conf"
		if config.TLSConfig == nil && !strings.HasPrefix(config.Host, "/") {
			hint += "; if the server requires TLS, use sslmode=require"
		}
		return hint
	}
	return authenticationHint(config)
}

// optionsRefused is what PgBouncer says about the startup parameter options, or a
// setting in it that it does not pass on.
const optionsRefused = "unsupported startup parameter"

// optionsRefusedError is the error of a pooler that refuses the startup parameter options.
type optionsRefusedError struct{ error }

// poolerRefusal returns the kind and the hint of an error with a SQLSTATE that poolers
// use for everything, and servers for the protocol.
func poolerRefusal(config *pgx.ConnConfig, e *pgconn.PgError) (clierr.Kind, string) {
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(strings.ToLower(e.Message), part) {
				return true
			}
		}
		return false
	}
	switch {
	case has(optionsRefused):
		return clierr.Usage, "a pooler refuses that parameter: connect to the server directly, remove the parameter, " +
			"or add it to ignore_startup_parameters of PgBouncer"
	case has("no such database", "database does not exist"):
		return clierr.Usage, "name a database that the pooler has"
	case has("no such user", "login rejected", "authentication", "tenant", "password"):
		return clierr.Usage, authenticationHint(config)
	case has("ssl required", "tls required"):
		return clierr.Usage, "use sslmode=require"
	case e.Code == NotSupported, e.Code == "08P01" && has("unsupported", "invalid"):
		return clierr.Usage, "it is not a PostgreSQL server that this program can use: check host and port"
	}
	return clierr.Failed, "run again when the server accepts connections"
}

// networkFailure returns the kind and the hint of an error that no server sent.
func networkFailure(config *pgx.ConnConfig, err error) (clierr.Kind, string) {
	text := err.Error()
	has := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(text, part) {
				return true
			}
		}
		return false
	}
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	dns, notResolved := errors.AsType[*net.DNSError](err)
	switch {
	case certificate:
		return clierr.Usage, "the server's certificate is not accepted: sslrootcert must name the certificate of its " +
			"authority, and with sslmode=verify-full the host must be a name in the certificate"
	case has("server refused TLS connection") && config.ChannelBinding == "require":
		return clierr.Usage, "channel_binding=require needs TLS, which the server does not offer: enable it there, " +
			"or remove channel_binding (PGCHANNELBINDING) and use sslmode=disable if the network is trusted"
	case has("server refused TLS connection"):
		return clierr.Usage, "the server does not offer TLS: enable it there, or use sslmode=disable " +
			"if the network is trusted"
	case has("remote error: tls"):
		return clierr.Usage, "the server ended the TLS handshake: check sslcert and sslkey, and its TLS settings"
	case record, has("unknown message type", "invalid body length", "unexpected message"):
		return clierr.Usage, "it is not a PostgreSQL server: check host and port"
	case has("channel binding", "require_auth", "sslcertmode"):
		return clierr.Usage, "the server does not meet channel_binding, require_auth or sslcertmode of the address"
	case errors.Is(err, pgconn.ErrReadOnlyConnection), errors.Is(err, pgconn.ErrReadWriteConnection),
		errors.Is(err, pgconn.ErrPrimaryConnection), errors.Is(err, pgconn.ErrStandbyConnection):
		return clierr.Refused, "the server is not what target_session_attrs demands: connect to the primary"
	case notResolved && dns.IsNotFound:
		return clierr.Usage, "the host does not exist: check its name in the address or PGHOST"
	case errors.Is(err, fs.ErrPermission):
		return clierr.Usage, "this user may not open the socket: check its permissions"
	case errors.Is(err, syscall.EINVAL) && strings.HasPrefix(config.Host, "/"):
		return clierr.Usage, "the path of a Unix socket may have about 100 bytes: use a shorter folder"
	case errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(config.Host, "/"):
		return clierr.Failed, "no server has a socket in that folder: name its host or folder, " +
			"or start it, then run again"
	}
	return clierr.Failed, "check that the server is running and can be reached from here, then run again"
}

// cause returns the innermost error. pgx wraps the errors of all addresses that
// it tried; cause returns that of the last one.
func cause(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if all := joined.Unwrap(); len(all) > 0 {
			return cause(all[len(all)-1])
		}
	}
	if inner := errors.Unwrap(err); inner != nil {
		return cause(inner)
	}
	return err
}
