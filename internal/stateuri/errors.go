package stateuri

import "errors"

// The errors of this package. Neither they nor the errors that wrap them contain any
// part of the address, because a malformed address may have a password anywhere.
var (
	// ErrNotSet is returned if no address is set.
	ErrNotSet = errors.New("no address is set: specify a PostgreSQL URL or a SQLite file")

	// ErrMalformed is returned if an address is invalid or ambiguous.
	ErrMalformed = errors.New("malformed PostgreSQL address")

	// ErrNotPostgres is returned for the address of another kind of database.
	ErrNotPostgres = errors.New("not a PostgreSQL address: its scheme must be postgresql or postgres")

	// ErrNotSQLite is returned for an address that does not name a SQLite file.
	ErrNotSQLite = errors.New("not a SQLite file: specify a path or sqlite:///path")

	// ErrSchema is returned for a schema name that search_path cannot contain.
	ErrSchema = errors.New("unusable schema name")

	// ErrPath is returned for a path that Flujo cannot read from a sqlite:/// address.
	ErrPath = errors.New("unusable SQLite path")
)
