package stateuri

import (
	"slices"
	"testing"
)

func TestPathSchemas(t *testing.T) {
	for path, want := range map[string][]string{
		"flujo":                            {"flujo"},
		"flujo,public":                     {"flujo", "public"},
		" Flujo , PUBLIC ":                 {"flujo", "public"},
		`"$user", public`:                  {"app", "public"},
		`$USER,"Flujo"`:                    {"app", "Flujo"},
		`"a,b", "c "" d",e`:                {"a,b", `c " d`, "e"},
		`""`:                               {""},
		"ÄB,ä":                             {"Äb", "ä"},
		"":                                 nil,
		" ":                                nil,
		"a,":                               nil,
		",a":                               nil,
		"a b":                              nil,
		`"a`:                               nil,
		`"a""`:                             nil,
		"a\t,\n\"b\"":                      {"a", "b"},
		`""""`:                             {`"`},
		`pg_catalog, "pg_temp" , "x""y"`:   {"pg_catalog", "pg_temp", `x"y`},
		searchPathValue("a,b", "c", "b a"): {"a,b", "c", "b a", "public"},
	} {
		if got := PathSchemas(path, "app"); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
}
