package stateuri

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestParametersSetAside(t *testing.T) {
	for query, want := range map[string]string{
		"":                                       "",
		"keepalives=1&keepalives_idle=30":        "keepalives keepalives_idle",
		"gssencmode=disable":                     "gssencmode",
		"fallback_application_name=app":          "fallback_application_name",
		"schema=public":                          "schema",
		"currentSchema=public&ApplicationName=x": "ApplicationName currentSchema",
		"pgbouncer=true&connection_limit=1":      "connection_limit pgbouncer",
		"prepared_statement_cache_size=0":        "prepared_statement_cache_size",
		"pool_size=5&max_overflow=1":             "max_overflow pool_size",
		"sslcrl=/crl.pem":                        "sslcrl",
		"connect_timeout=5&target_session_attrs=any&channel_binding=prefer": "", // pgx acts upon them
		"tcp_user_timeout=1000&work_mem=8MB&TimeZone=UTC&app.tenant=x":      "", // settings of the server
		"sslmode=require&ssl=true&keepalives=":                              "",
		"supa=base-pooler.x":                                                "supa",
	} {
		_, aside, err := PostgresURL("postgresql://u:hunter2@h/db?" + query)
		if err != nil || strings.Join(aside, " ") != want {
			t.Errorf("%s: %q, %v; want %q", query, aside, err, want)
		}
	}
}

func TestUnknownParameters(t *testing.T) {
	for query, want := range map[string]string{
		"sslmod=require":                       "unknown parameter sslmod: did you mean sslmode?",
		"SSLMODE=require":                      "unknown parameter SSLMODE: did you mean sslmode?",
		"conect_timeout=5":                     "did you mean connect_timeout?",
		"aplication_name=x":                    "did you mean application_name?",
		"statment_timeout=5s":                  "did you mean statement_timeout?",
		"pool_siz=4":                           "did you mean pool_size?",
		"frobnicate=1":                         "unknown parameter frobnicate: remove it",
		"jit=off&frobnicate=1":                 "unknown parameter frobnicate: remove it",
		"frob$nicate=1":                        "its name is hidden",
		"sslpassword=a&frobnicate=b":           "its name is hidden", // may be the end of the password
		"password=a&sslmode=disable&hunter2=b": "its name is hidden",
		strings.Repeat("x", 64) + "=1":         "its name is hidden",
	} {
		text := "postgresql://u:hunter2@h/db?" + query
		url, aside, err := PostgresURL(text)
		if url != "" || aside != nil || !errors.Is(err, ErrParameter) || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %q, %v", query, url, err)
		}
		if a, _, again := Cutover(text, Known{}, "flujo"); !a.IsZero() || again == nil || again.Error() != err.Error() {
			t.Errorf("%s: Cutover returns %v, %v", query, a, again)
		}
	}
}

func TestUnusableValues(t *testing.T) {
	for query, want := range map[string]string{
		"sslmode=no-verify":                     "sslmode must be one of disable, allow",
		"sslmode=hunter2":                       "sslmode must be one of",
		"ssl=hunter2":                           "parameter ssl has an unknown value",
		"gssencmode=require":                    "GSSAPI",
		"hostaddr=10.0.0.1&sslmode=verify-full": "remove hostaddr",
	} {
		_, _, err := PostgresURL("postgresql://u:p@h/db?" + query)
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", query, err)
		}
	}
	for text, want := range map[string]string{
		"postgresql://u@h/db?hostaddr=10.0.0.1":               "postgresql://u@10.0.0.1/db",
		"postgresql://u@/db?hostaddr=::1&sslmode=verify-full": "postgresql://u@[::1]/db?sslmode=verify-full",
		"postgresql://u@h/db?requiressl=1":                    "postgresql://u@h/db?sslmode=require",
		"postgresql://u@h/db?ssl=on":                          "postgresql://u@h/db?sslmode=require",
	} {
		if got, _, err := PostgresURL(text); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
}

// TestParameterLists checks that no name is in two lists, and that the lists are in
// lower case.
func TestParameterLists(t *testing.T) {
	all := slices.Concat(sharedParameters, asyncpgOnly, clientOnly, serverSettings)
	slices.Sort(all)
	for i, name := range all {
		if name != strings.ToLower(name) || i > 0 && name == all[i-1] {
			t.Errorf("%s", name)
		}
	}
}

// TestRepeatedParameters checks that an address with two values for one parameter is refused, in every form of it.
func TestRepeatedParameters(t *testing.T) {
	for query, name := range map[string]string{
		"sslmode=require&sslmode=disable":             "sslmode",
		"sslmode=require&sslmode=":                    "sslmode",
		"sslmode=require&sslmode=require":             "sslmode",
		"user=a&work_mem=1MB&user=hunter2":            "user",
		"password=hunter2&password=b":                 "password",
		"database=a&dbname=b":                         "dbname",
		"options=-c%20jit%3Doff&options=-c%20geqo=on": "options",
		"TimeZone=UTC&timezone=CET":                   "timezone",
		"search_path=flujo&search_path=public":        "search_path",
		"pool_size=5&max_overflow=1&pool_size=6":      "pool_size",
		"app.x=1&app.x=2":                             "app.x",
		"sslcrl=/a&sslcrl=/b":                         "sslcrl",
	} {
		text := "postgresql://u:p@h/db?" + query
		_, _, err := PostgresURL(text)
		if !errors.Is(err, ErrUnsupported) ||
			!strings.Contains(err.Error(), "parameter "+name+" is set more than once") ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", query, err)
		}
		if a, _, err := Cutover(text, Known{}, "flujo"); !errors.Is(err, ErrUnsupported) || !a.IsZero() {
			t.Errorf("%s: Cutover returns %v, %v", query, a, err)
		}
	}
	if _, _, err := PostgresURL("postgresql://u@h/db?user=v&app.x=1&app.y=1&ssl=true&sslmode=require"); err != nil {
		t.Error(err)
	}
}

// TestNamesOfParameters checks that a parameter whose name has other characters is named, unless it may be part of a
// password.
func TestNamesOfParameters(t *testing.T) {
	for query, want := range map[string]string{
		"x%20y=1":              "unknown parameter x%20y: remove it",
		"jit=off&x y=1":        "unknown parameter x y: remove it",
		"pool size=5":          "unknown parameter pool size: did you mean pool_size?",
		"2x=1":                 "unknown parameter 2x: remove it",
		"ssl-mode=require":     "unknown parameter ssl-mode: did you mean sslmode?",
		"password=a&x%20y=1":   "its name is hidden",
		"sslmode=require&a@=1": "",
		"x":                    "",
		"jit=off&x":            "",
		"a:b=1":                "",
	} {
		_, _, err := PostgresURL("postgresql://u:hunter2@h/db?" + query)
		malformed := want == "" && errors.Is(err, ErrMalformed)
		if !malformed && (want == "" || !errors.Is(err, ErrParameter) || !strings.Contains(err.Error(), want)) ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// TestAdviceOnUnknownParameters checks that nothing is advised that the server refuses as well.
func TestAdviceOnUnknownParameters(t *testing.T) {
	for _, name := range []string{"shared_buffers", "max_connections", "wal_level", "server_encoding", "frobnicate"} {
		_, _, err := PostgresURL("postgresql://u@h/db?" + name + "=1")
		if !errors.Is(err, ErrParameter) || !strings.Contains(err.Error(), "remove it") ||
			strings.Contains(err.Error(), "options") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRequirements checks what is said of security requirements that Flujo's driver cannot meet.
func TestRequirements(t *testing.T) {
	for query, want := range map[string]string{
		"channel_binding=require":        "channel_binding",
		"require_auth=scram-sha-256":     "require_auth",
		"require_auth=!password":         "require_auth",
		"sslcertmode=require":            "sslcertmode",
		"sslcrldir=/crl":                 "sslcrldir",
		"sslaccept=strict":               "sslaccept",
		"channel_binding=prefer":         "",
		"channel_binding=disable":        "",
		"sslcertmode=allow":              "",
		"sslaccept=accept_invalid_certs": "",
		"channel_binding=require&require_auth=scram-sha-256&keepalives=1": "channel_binding, require_auth",
	} {
		a, notes, err := Cutover("postgresql://u:p@h/db?sslmode=require&"+query, Known{}, "flujo")
		if err != nil {
			t.Fatal(err)
		}
		warned := slices.IndexFunc(notes, func(n string) bool { return strings.Contains(n, "cannot meet") })
		if want == "" && warned >= 0 || want != "" && (warned < 0 ||
			!strings.HasPrefix(notes[warned], want+" removed: Flujo's driver cannot meet")) {
			t.Errorf("%s: %q", query, notes)
		}
		for name := range strings.SplitSeq(query, "&") {
			name, _, _ = strings.Cut(name, "=")
			if strings.Contains(a.Reveal(), name) || strings.Count(strings.Join(notes, ";"), name) != 1 {
				t.Errorf("%s: %s, %q", query, a.Reveal(), notes)
			}
		}
	}
}

// TestUnusableSettings checks that settings with which Flujo would not work are in neither address, with a note, and
// that other settings stay.
func TestUnusableSettings(t *testing.T) {
	for query, names := range map[string]string{
		"client_encoding=latin1":                                      "client_encoding",
		"CLIENT_ENCODING=sql_ascii":                                   "client_encoding",
		"client_encoding=auto":                                        "client_encoding",
		"options=-c client_encoding=win1252":                          "client_encoding",
		"options=-cClient_Encoding=latin1 -c work_mem=5MB":            "client_encoding",
		"options=--client-encoding=latin1&work_mem=5MB":               "client_encoding",
		"options=-c standard_conforming_strings=off -c work_mem=5MB":  "standard_conforming_strings",
		"exit_on_error=on&options=-c exit_on_error=on":                "exit_on_error",
		"transaction_isolation=serializable&transaction_read_only=on": "transaction_isolation, transaction_read_only",
		"options=-c work_mem=5MB -ctransaction_deferrable=on":         "transaction_deferrable",
		"work_mem=5MB": "",
		"options=-c work_mem=5MB -c application_name=x\\ -c\\ client_encoding=latin1": "",
		"default_transaction_isolation=serializable&DateStyle=German":                 "",
	} {
		text := "postgresql://u:p@localhost/db?" + query
		url, _, err := PostgresURL(text)
		if err != nil {
			t.Fatal(err)
		}
		a, notes, err := Cutover(text, Known{}, "flujo")
		if err != nil {
			t.Fatal(err)
		}
		var removed []string
		for _, note := range notes {
			if name, _, found := strings.Cut(note, " removed: Flujo"); found {
				removed = append(removed, name)
			}
		}
		if got := strings.Join(removed, ", "); got != names {
			t.Errorf("%s: notes %q", query, notes)
		}
		for _, address := range []string{url, a.Reveal()} {
			for name := range strings.SplitSeq(names, ", ") {
				loose := strings.ReplaceAll(strings.ToLower(address), "-", "_")
				if name != "" && strings.Contains(loose, name) {
					t.Errorf("%s: %s", query, address)
				}
			}
			for _, kept := range []string{"work_mem", "application_name", "DateStyle", "default_transaction"} {
				if strings.Contains(query, kept) != strings.Contains(address, kept) {
					t.Errorf("%s: %s", query, address)
				}
			}
		}
	}
}
