package stateuri

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// render returns the settings as a postgresql:// URL that asyncpg, libpq and pgx read
// in the same way. TCP hosts are in the authority and Unix sockets in the parameters,
// because asyncpg prefers the authority and libpq the parameters.
func (s settings) render() (string, error) {
	hosts, err := s.hosts()
	if err != nil {
		return "", err
	}
	sockets := slices.ContainsFunc(hosts, func(h hostPort) bool { return isSocket(h.host) })
	var b strings.Builder
	b.WriteString("postgresql://")
	b.WriteString(s.userinfo())
	if !sockets {
		b.WriteString(authority(hosts))
	}
	if database := s.get("database"); database != "" {
		b.WriteString("/" + encode(database, ""))
	}
	separator := "?"
	for _, p := range s.query(hosts, sockets) {
		fmt.Fprintf(&b, "%s%s=%s", separator, encode(p.key, ""), encode(p.value, "/:"))
		separator = "&"
	}
	return b.String(), nil
}

// userinfo returns user and password, followed by '@'; "" without a user.
func (s settings) userinfo() string {
	user, password := s.get("user"), s.get("password")
	switch {
	case password != "":
		return encode(user, "") + ":" + encode(password, "") + "@"
	case user != "":
		return encode(user, "") + "@"
	}
	return ""
}

// authority returns the hosts and their ports as they are written in a URL.
func authority(hosts []hostPort) string {
	var list []string
	for _, h := range hosts {
		text := encode(h.host, "")
		if strings.Contains(h.host, ":") {
			text = "[" + encode(h.host, ":") + "]"
		}
		if h.port != 0 {
			text += ":" + strconv.Itoa(int(h.port))
		}
		list = append(list, text)
	}
	return strings.Join(list, ",")
}

// query returns the parameters after the '?'. The hosts are among them if one is a
// socket.
func (s settings) query(hosts []hostPort, sockets bool) []param {
	var rest settings
	for _, p := range s {
		switch p.key {
		case "user", "password", "database", "port":
		case "host":
			if !sockets {
				continue
			}
			rest.set("host", p.value)
			if ports := portList(hosts); ports != "" {
				rest.set("port", ports)
			}
		default:
			rest.set(p.key, p.value)
		}
	}
	return rest
}

// portList returns a port for every host, as asyncpg requires, or "" if no host has a
// port.
func portList(hosts []hostPort) string {
	hasPort := false
	var list []string
	for _, h := range hosts {
		hasPort = hasPort || h.port != 0
		if h.port == 0 {
			h.port = defaultPort
		}
		list = append(list, strconv.Itoa(int(h.port)))
	}
	if !hasPort {
		return ""
	}
	return strings.Join(list, ",")
}
