package stateuri

import (
	"regexp"
	"strings"
)

// NamesPostgres reports whether text is a postgresql:// or postgres:// URL, with or
// without a driver suffix.
func NamesPostgres(text string) bool { return newAddress(strings.TrimSpace(text)).IsPostgres() }

// NamesOther reports whether text is a URL of another kind of database, such as sqlite:// or
// mysql://. The URL of another kind of driver, such as jdbc:postgresql://, is none.
func NamesOther(text string) bool {
	scheme, _, _ := cutScheme(strings.TrimSpace(text))
	return scheme != "" && !strings.Contains(scheme, "postgres")
}

// searchPathValue matches a setting of search_path in options, and its first schema.
var searchPathValue = regexp.MustCompile(`(?i)(?:^|\s)(?:-c\s*|--)search[-_]path\s*=\s*` +
	`(?:"((?:[^"]|"")*)"|([^,\s"]*))`)

// SearchPathSchema returns the schema that search_path in the options of a PostgreSQL URL
// begins with, or "" if there is none.
func SearchPathSchema(text string) string {
	s, err := parse(text)
	if err != nil {
		return ""
	}
	all := searchPathValue.FindAllStringSubmatch(s.values.Get("options"), -1)
	if len(all) == 0 {
		return ""
	}
	last := all[len(all)-1]
	return strings.ReplaceAll(escaped.ReplaceAllString(last[1], "$1"), `""`, `"`) + strings.ToLower(last[2])
}

// WithSearchPath returns an address that Cutover made with another search_path: schema,
// then more, then public.
func (a Address) WithSearchPath(schema string, more ...string) (Address, error) {
	setting, err := searchPath(schema, more...)
	if err != nil {
		return Address{}, err
	}
	s, err := parse(a.Reveal())
	if err != nil {
		return Address{}, err
	}
	s.values.Set("options", s.otherOptions())
	s.addSearchPath(setting)
	return newAddress(s.render()), nil
}

// WithoutOptions returns an address that Cutover made without the parameter options.
// others reports whether options set anything besides search_path.
func (a Address) WithoutOptions() (bare Address, others bool, err error) {
	s, err := parse(a.Reveal())
	if err != nil {
		return Address{}, false, err
	}
	others = s.otherOptions() != ""
	s.values.Del("options")
	return newAddress(s.render()), others, nil
}

// lastSearchPath matches what addSearchPath appends to options.
var lastSearchPath = regexp.MustCompile(`(?s)(?:^| )-c search_path=(?:\\.|[^\s\\])*$`)

// otherOptions returns options without the search_path at its end.
func (s *settings) otherOptions() string {
	return lastSearchPath.ReplaceAllString(s.values.Get("options"), "")
}
