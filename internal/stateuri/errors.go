package stateuri

import "errors"

// The errors of this package. None of them, nor anything wrapped around them
// here, holds any part of the address that was given: it may hold a password
// at any place when it is malformed.
var (
	// ErrNotSet is returned when no setting says where the state is.
	ErrNotSet = errors.New("no address is set: give a Postgres URL or a SQLite file")

	// ErrMalformed is returned when an address cannot be read without guessing.
	ErrMalformed = errors.New("malformed Postgres address")

	// ErrNotPostgres is returned for an address of some other kind of database.
	ErrNotPostgres = errors.New("not a Postgres address: its scheme must be postgresql or postgres")

	// ErrNotSQLite is returned for an address which does not name a SQLite file.
	ErrNotSQLite = errors.New("not a SQLite file: give a path or sqlite:///path")

	// ErrSchema is returned for a schema name that cannot stand in search_path.
	ErrSchema = errors.New("unusable schema name")

	// ErrPath is returned for a file path that no sqlite:/// address can name to Flujo.
	ErrPath = errors.New("unusable SQLite path")
)
