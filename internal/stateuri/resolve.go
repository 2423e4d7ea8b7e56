package stateuri

import "strings"

// Resolve gives the address that Flujo's configuration comes to. An explicit
// FLUJO_STATE_URI wins and is returned as it is, byte for byte. Else a sqlite
// databaseURL, whatever file it names, gives the address of sqlitePath, which
// must be absolute; and a Postgres databaseURL gives what Cutover makes of it,
// with its notes.
//
// It returns ErrNotSet when neither is set, ErrPath when no address can name
// sqlitePath, and Cutover's errors.
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
