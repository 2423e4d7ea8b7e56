package clierr

import "testing"

func TestSuggest(t *testing.T) {
	t.Parallel()
	names := []string{"sslmode", "sslcert", "schema", "user", "TimeZone", "connect_timeout", "json", "check"}
	for given, want := range map[string]string{
		"sslmode": "sslmode", "sslmod": "sslmode", "SSLMODE": "sslmode", "ssl_mode": "sslmode", "sslmdoe": "sslmode",
		"chekc": "check", "hceck": "check", "cehkc": "", "jsno": "json", "sjno": "",
		"shema": "schema", "schemas": "schema", "usr": "user", "timezone": "TimeZone",
		"conect_timeot": "connect_timeout",
		"jsn":           "json", "js": "", "x": "", "": "", "hunter": "", "password": "", "ssl": "",
	} {
		if got := Suggest(given, names); got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
	}
}
