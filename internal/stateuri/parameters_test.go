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
		"pool_size=5&max_overflow=1&pool_size=6": "max_overflow pool_size",
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
