package stateuri

import (
	"fmt"
	"slices"
	"strings"
)

// Known holds connection settings that do not come from the URL, but from PG*
// variables, a service file or defaults. The caller takes it from the pgconn.Config of
// the same URL. Cutover adds the settings that the URL lacks, so that a machine
// without them can use the address. There is intentionally no password.
type Known struct {
	Host     string
	Port     uint16
	User     string
	Database string
	SSLMode  string // PGSSLMODE
}

// Cutover returns the address that Flujo needs, given a PostgreSQL URL or a
// keyword/value string, or known alone if databaseURL is "".
//
// The scheme becomes postgresql://, without a driver suffix. User, password, database
// and TCP hosts are moved before the '?' and percent-encoded. Unix sockets are moved
// to host=. Other parameters are kept in their order. options ends with
// -c search_path=SCHEMA,public. A parameter search_path is removed, because it would
// override options. sslmode=require is added if a host is not local and there is no
// sslmode; with sslrootcert=system it is verify-full, the only mode that libpq then
// accepts. Parameters are read as libpq reads them: outside of options, a '+' is a
// plus sign and is written as %2B. Cutover never adds a password.
//
// Cutover of its own result, with the same known and schema, returns the same address.
//
// notes say what was added, changed or needs attention. They contain no password. The
// errors are ErrNotSet, ErrMalformed, ErrNotPostgres and ErrSchema; they contain no
// part of databaseURL.
func Cutover(databaseURL string, known Known, schema string) (a Address, notes []string, err error) {
	setting, err := searchPath(schema)
	if err != nil {
		return Address{}, nil, err
	}
	if strings.TrimSpace(databaseURL) == "" && known == (Known{}) {
		return Address{}, nil, ErrNotSet
	}
	s, driver, err := parseSettings(databaseURL)
	if err != nil {
		return Address{}, nil, err
	}
	e := edit{settings: s}
	if driver != "" {
		e.notef("driver suffix +%s removed from the scheme: asyncpg only accepts postgresql://", driver)
	}
	if err := e.fill(known); err != nil {
		return Address{}, nil, err
	}
	e.addSearchPath(setting)
	if err := e.addTLS(known.SSLMode); err != nil {
		return Address{}, nil, err
	}
	e.warn()
	text, err := e.render()
	if err != nil {
		return Address{}, nil, err
	}
	return newAddress(text), e.notes, nil
}

// edit is an address that is being changed, and the notes about the changes.
type edit struct {
	settings
	notes []string
}

func (e *edit) notef(format string, args ...any) {
	e.notes = append(e.notes, fmt.Sprintf(format, args...))
}

// fill adds the settings of known that the address lacks. The port of known belongs
// to one host, so it is not added to a list of hosts.
func (e *edit) fill(known Known) error {
	if strings.ContainsRune(known.Host+known.User+known.Database, 0) {
		return fmt.Errorf("%w: a connection setting contains a NUL character: remove it", ErrMalformed)
	}
	var filled []string
	take := func(key, value string) {
		if e.get(key) == "" && value != "" {
			e.set(key, value)
			filled = append(filled, fmt.Sprintf("%s %s", key, value))
		}
	}
	take("user", known.User)
	take("host", known.Host)
	if known.Port != defaultPort && known.Port != 0 && !strings.Contains(e.get("host"), ",") {
		take("port", fmt.Sprint(known.Port))
	}
	take("database", known.Database)
	if len(filled) > 0 {
		e.notef("%s added from the connection settings (PG* variables, service file or defaults)",
			strings.Join(filled, ", "))
	}
	if e.get("host") == "" && e.get("port") != "" {
		return fmt.Errorf("%w: a port is set without a host: set the host too", ErrMalformed)
	}
	return nil
}

// addSearchPath appends setting to options, and removes what would override it.
func (e *edit) addSearchPath(setting string) {
	for _, p := range slices.Clone(e.settings) {
		if strings.EqualFold(p.key, "search_path") {
			e.remove(p.key)
			e.notef("parameter search_path removed: it would override options")
		}
	}
	before := e.get("options")
	after := withSetting(before, setting)
	if before != after && setsSearchPath(before) {
		e.notef("options already set search_path: %s was added after it and overrides it", setting)
	}
	e.set("options", after)
}

// addTLS adds sslmode if a host is not local and the address has none. known is the
// sslmode of the connection settings; "" if they have none.
func (e *edit) addTLS(known string) error {
	e.renameSSL()
	hosts, err := e.hosts()
	if err != nil {
		return err
	}
	remote := slices.IndexFunc(hosts, func(h hostPort) bool { return !isLocal(h.host) })
	if remote < 0 {
		return nil
	}
	host := hosts[remote].host
	if e.get("sslmode") == "" && known != "" {
		e.remove("sslmode")
		e.set("sslmode", known)
		e.notef("sslmode=%s added from the connection settings (PGSSLMODE)", known)
	}
	switch mode := e.get("sslmode"); mode {
	case "":
		mode = "require"
		if e.get("sslrootcert") == "system" {
			mode = "verify-full" // the only mode that libpq accepts with it
		}
		e.remove("sslmode")
		e.set("sslmode", mode)
		e.notef("sslmode=%s added: host %s is not local", mode, host)
	case "disable", "allow", "prefer":
		e.notef("sslmode=%s not changed: the connection to host %s may be unencrypted", mode, host)
	}
	return nil
}

// renameSSL replaces the parameter ssl of other drivers with sslmode.
func (e *edit) renameSSL() {
	mode := e.get("ssl")
	if mode == "true" {
		mode = "require"
	}
	if !slices.Contains(sslModes, mode) {
		return
	}
	if e.get("sslmode") == "" {
		e.remove("sslmode")
		e.settings[e.index("ssl")] = param{"sslmode", mode}
		e.notef("parameter ssl replaced with sslmode=%s", mode)
		return
	}
	e.remove("ssl")
	e.notef("parameter ssl removed: sslmode is set too")
}
