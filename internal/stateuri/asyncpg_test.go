package stateuri

import (
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// asyncpgView holds the settings that asyncpg reads from an address.
type asyncpgView struct {
	hosts                    []string
	ports                    []int
	user, password, database string
	sslmode                  string
	settings                 map[string]string // sent to the server
}

// readAsAsyncpg parses an address by asyncpg's rules, which differ from libpq's: '#'
// ends the address, the first '@' ends the credentials, '+' in the query is a space, an
// empty value is ignored, and the authority takes precedence over the query.
func readAsAsyncpg(t testing.TB, address string) asyncpgView {
	t.Helper()
	rest, ok := strings.CutPrefix(address, "postgresql://")
	if !ok {
		t.Fatalf("scheme of %q", address)
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	netloc, path, _ := strings.Cut(rest, "/")
	auth, hostspec, hasAuth := strings.Cut(netloc, "@")
	if !hasAuth {
		auth, hostspec = "", netloc
	}
	user, password, _ := strings.Cut(auth, ":")
	v := asyncpgView{
		user: unquote(t, user), password: unquote(t, password), database: unquote(t, path),
		settings: map[string]string{},
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatalf("query of %q: %v", address, err)
	}
	for key, list := range values {
		if last := list[len(list)-1]; last != "" {
			v.settings[key] = last
		}
	}
	take := func(key string) string {
		value := v.settings[key]
		delete(v.settings, key)
		return value
	}
	v.sslmode = take("sslmode")
	ports, hosts := take("port"), take("host")
	if hostspec != "" {
		v.readHosts(t, hostspec)
	} else if hosts != "" {
		v.hosts = strings.Split(hosts, ",")
		for port := range strings.SplitSeq(ports, ",") {
			n, _ := strconv.Atoi(port)
			v.ports = append(v.ports, n)
		}
		if ports != "" && len(v.ports) != len(v.hosts) {
			t.Fatalf("%q: %d ports for %d hosts", address, len(v.ports), len(v.hosts))
		}
	}
	return v
}

func (v *asyncpgView) readHosts(t testing.TB, list string) {
	t.Helper()
	for spec := range strings.SplitSeq(list, ",") {
		if spec == "" {
			t.Fatalf("asyncpg fails on the empty host in %q", list)
		}
		host, port, _ := strings.Cut(spec, ":")
		if spec[0] == '[' {
			host, port, _ = strings.Cut(spec[1:], "]")
			port = strings.TrimPrefix(port, ":")
		}
		n, _ := strconv.Atoi(port)
		v.hosts, v.ports = append(v.hosts, unquote(t, host)), append(v.ports, n)
	}
}

func unquote(t testing.TB, s string) string {
	t.Helper()
	text, err := url.PathUnescape(s)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
