package stateuri

import "strings"

// NamesPostgres reports whether text is a postgresql:// or postgres:// URL, with or
// without a driver suffix.
func NamesPostgres(text string) bool { return newAddress(strings.TrimSpace(text)).IsPostgres() }

// NamesOther reports whether text is a URL of another kind of database, such as sqlite:// or
// mysql://. The URL of another kind of driver, such as jdbc:postgresql://, is none.
func NamesOther(text string) bool {
	scheme, _, _ := cutScheme(strings.TrimSpace(text))
	return scheme != "" && !strings.Contains(scheme, "postgres")
}

// SearchPathSchema returns the schema that the search_path of a PostgreSQL URL begins
// with, as a parameter or in options, or "" if it sets none.
func SearchPathSchema(text string) string {
	s, err := parse(text)
	if err != nil {
		return ""
	}
	path, _ := optionsSearchPath(s.values.Get("options"))
	for name, values := range s.values {
		if strings.EqualFold(name, "search_path") { // it overrides options
			path = values[0]
		}
	}
	if schemas := PathSchemas(path, s.values.Get("user")); schemas != nil {
		return schemas[0]
	}
	return ""
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
	others, _ := withoutSettings(s.values.Get("options"), "search_path")
	s.values.Set("options", others)
	s.addSearchPath(schema, setting)
	return newAddress(s.render()), nil
}

// WithoutOptions returns an address that Cutover made without the parameter options.
// others reports whether options set anything besides search_path.
func (a Address) WithoutOptions() (bare Address, others bool, err error) {
	s, err := parse(a.Reveal())
	if err != nil {
		return Address{}, false, err
	}
	rest, _ := withoutSettings(s.values.Get("options"), "search_path")
	s.values.Del("options")
	return newAddress(s.render()), rest != "", nil
}
