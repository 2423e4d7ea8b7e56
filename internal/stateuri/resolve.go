package stateuri

import "strings"

// Resolve returns the address that results from Flujo's configuration. An explicit
// FLUJO_STATE_URI takes precedence and is returned unchanged. Otherwise the result
// depends on databaseURL. For a sqlite URL it is the address of sqlitePath, which must
// be absolute; the file that the URL names is ignored. For a PostgreSQL URL it is the
// result of Cutover, with its notes.
//
// Resolve returns ErrNotSet if neither is set, ErrPath if Flujo cannot read sqlitePath
// from an address, and the errors of Cutover.
func Resolve(explicit, databaseURL string, known Known, schema, sqlitePath string) (Address, []string, error) {
	if explicit != "" {
		return newAddress(explicit), nil, nil
	}
	if strings.TrimSpace(databaseURL) == "" {
		return Address{}, nil, ErrNotSet
	}
	if !newAddress(databaseURL).IsSQLite() {
		return Cutover(databaseURL, known, schema)
	}
	a := Rollback(sqlitePath)
	if a.IsZero() {
		return Address{}, nil, ErrPath
	}
	return a, nil, nil
}
