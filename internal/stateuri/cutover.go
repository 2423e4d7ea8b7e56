package stateuri

import (
	"fmt"
	"slices"
	"strings"
)

// Known is what the connection settings say beyond the URL itself: PG*
// variables, a service file, defaults. Take it from the pgconn.Config of the
// same URL. It fills what the URL leaves out, so that a machine without these
// settings can use the address. There is no password here on purpose.
type Known struct {
	Host     string
	Port     uint16
	User     string
	Database string
	SSLMode  string // PGSSLMODE
}

// Cutover makes the address that Flujo needs from a Postgres URL or a
// keyword/value string, or from known alone when databaseURL is "".
//
// The scheme becomes postgresql://, without driver suffix. User, password,
// database and TCP hosts stand in their places before the '?', percent-encoded,
// wherever they stood before; Unix sockets stand in host=. Other parameters are
// kept in their order. options ends with -c search_path=SCHEMA,public; a
// parameter search_path is dropped, since the server lets it win over options.
// sslmode=require is added when a host is not local and there is no sslmode
// (verify-full with sslrootcert=system, where libpq takes no other). Parameters
// are read as libpq reads them: outside of options a + is a plus, written %2B.
// A password that databaseURL does not hold is never added.
//
// Cutover of what Cutover returns, with the same known and schema, is the same.
//
// notes says in whole clauses what was added, changed or will need attention,
// and holds no password. The errors are ErrNotSet, ErrMalformed, ErrNotPostgres
// and ErrSchema; they hold no part of databaseURL.
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
		e.notef("driver suffix +%s dropped from the scheme: asyncpg takes postgresql:// alone", driver)
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

// edit is an address on its way to Flujo, with what is to be told about it.
type edit struct {
	settings
	notes []string
}

func (e *edit) notef(format string, args ...any) {
	e.notes = append(e.notes, fmt.Sprintf(format, args...))
}

// fill takes from known what the address leaves out. The port of known belongs
// to one host; a list of hosts keeps its own.
func (e *edit) fill(known Known) error {
	if strings.ContainsRune(known.Host+known.User+known.Database, 0) {
		return fmt.Errorf("%w: a connection setting holds a NUL: remove it", ErrMalformed)
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
		e.notef(
			"%s taken from the connection settings around the URL (PG* variables, service file or defaults)",
			strings.Join(filled, ", "),
		)
	}
	if e.get("host") == "" && e.get("port") != "" {
		return fmt.Errorf("%w: a port without a host: name the host too", ErrMalformed)
	}
	return nil
}

// addSearchPath sees to it that nothing wins over setting.
func (e *edit) addSearchPath(setting string) {
	for _, p := range slices.Clone(e.settings) {
		if strings.EqualFold(p.key, "search_path") {
			e.remove(p.key)
			e.notef("parameter search_path dropped: the server would let it win over options")
		}
	}
	before := e.get("options")
	after := withSetting(before, setting)
	if before != after && setsSearchPath(before) {
		e.notef("options already set search_path: %s stands after it and wins", setting)
	}
	e.set("options", after)
}

// addTLS asks for encryption where a host is not local and nothing is said;
// known is the sslmode of the settings around the address, "" without one.
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
		e.notef("sslmode=%s taken from the connection settings around the URL (PGSSLMODE)", known)
	}
	switch mode := e.get("sslmode"); mode {
	case "":
		mode = "require"
		if e.get("sslrootcert") == "system" {
			mode = "verify-full" // libpq takes no other with it
		}
		e.remove("sslmode")
		e.set("sslmode", mode)
		e.notef("sslmode=%s added: host %s is not local", mode, host)
	case "disable", "allow", "prefer":
		e.notef("sslmode=%s kept: the connection to host %s may be unencrypted", mode, host)
	}
	return nil
}

// renameSSL writes the ssl parameter of other drivers as sslmode.
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
		e.notef("parameter ssl written as sslmode=%s", mode)
		return
	}
	e.remove("ssl")
	e.notef("parameter ssl dropped: sslmode is given too")
}
