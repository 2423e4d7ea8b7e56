package stateuri

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// defaultPort is the port that libpq, pgx and asyncpg use by default.
const defaultPort = 5432

// plainKey matches the name of a parameter. Other text may be part of a password that
// was not percent-encoded.
var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.$-]*$`)

// param is one connection parameter, decoded.
type param struct{ key, value string }

// settings are the parameters of an address, under pgx's names. Each key occurs once,
// at the position at which it was first set.
type settings []param

// canonicalKey returns pgx's name for a parameter.
func canonicalKey(key string) string {
	if key == "dbname" {
		return "database"
	}
	return key
}

func (s settings) index(key string) int {
	return slices.IndexFunc(s, func(p param) bool { return p.key == key })
}

func (s settings) get(key string) string {
	if i := s.index(key); i >= 0 {
		return s[i].value
	}
	return ""
}

func (s *settings) set(key, value string) {
	if i := s.index(key); i >= 0 {
		(*s)[i].value = value
		return
	}
	*s = append(*s, param{key, value})
}

func (s *settings) remove(key string) {
	*s = slices.DeleteFunc(*s, func(p param) bool { return p.key == key })
}

// parseSettings parses a PostgreSQL URL or a keyword/value string. driver is the
// driver suffix of the scheme, if any.
func parseSettings(text string) (s settings, driver string, err error) {
	if isURL(text) {
		u, err := splitPostgresURL(text)
		if err != nil {
			return nil, "", err
		}
		s, err = u.settings()
		if err != nil {
			return nil, "", err
		}
		_, driver = cutDriver(u.scheme)
	} else if s, err = keywordSettings(text); err != nil {
		return nil, "", err
	}
	_, err = s.hosts()
	return s, driver, err
}

func keywordSettings(text string) (settings, error) {
	pairs, err := parseKeywords(text)
	if err != nil {
		return nil, err
	}
	var s settings
	for _, p := range pairs {
		if p.key == "user" && p.value == "" {
			continue // as in libpq, an empty user does not override an earlier one
		}
		s.set(canonicalKey(p.key), p.value)
	}
	return s, nil
}

// hostPort is the address of one server. A port of 0 is the default port.
type hostPort struct {
	host string
	port uint16
}

// hosts returns the hosts with their ports. A single port applies to all hosts. The
// result is nil if neither is set.
func (s settings) hosts() ([]hostPort, error) {
	if s.get("host") == "" && s.get("port") == "" {
		return nil, nil
	}
	names := strings.Split(s.get("host"), ",")
	ports := strings.Split(s.get("port"), ",")
	if len(ports) > 1 && len(ports) != len(names) {
		return nil, fmt.Errorf("%w: %d ports for %d hosts: specify one port, or one for each host",
			ErrMalformed, len(ports), len(names))
	}
	list := make([]hostPort, len(names))
	for i, name := range names {
		text := ports[min(i, len(ports)-1)]
		port, err := strconv.ParseUint(text, 10, 16)
		if text != "" && (err != nil || port == 0) {
			return nil, fmt.Errorf("%w: a port is not a number from 1 to 65535 "+
				"(or the password contains a / that must be written as %%2F)", ErrMalformed)
		}
		if err := checkHost(name, len(names) > 1); err != nil {
			return nil, err
		}
		list[i] = hostPort{name, uint16(port)}
	}
	return list, nil
}

// checkHost returns an error for a host that asyncpg, libpq or pgx does not accept.
func checkHost(name string, inList bool) error {
	switch {
	case name == "" && inList:
		return fmt.Errorf("%w: a host in the list of hosts is empty: specify or remove it", ErrMalformed)
	case isSocket(name):
		return nil
	case strings.ContainsAny(name, " \t\n\r\v\f"):
		return fmt.Errorf("%w: a host contains white space: remove it", ErrMalformed)
	case strings.Contains(name, ":"):
		if _, err := netip.ParseAddr(name); err != nil {
			return fmt.Errorf("%w: a host with a colon is not an IPv6 address: write [address]:port", ErrMalformed)
		}
	}
	return nil
}

// isSocket reports whether host is the directory of a Unix socket.
func isSocket(host string) bool { return strings.HasPrefix(host, "/") }

// isLocal reports whether host is this machine.
func isLocal(host string) bool {
	if host == "" || isSocket(host) || strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
