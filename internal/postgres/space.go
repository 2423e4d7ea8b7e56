package postgres

import (
	"context"
	"errors"
	"path/filepath"
)

var errNoDataDirectory = errors.New("the role may not read data_directory")

// Space is the free disk space of a tablespace.
type Space struct {
	Bytes      int64
	Tablespace string
}

// FreeSpace returns the free disk space of the tablespaces that hold the schema's
// tables, or will hold those that do not exist: of several the one with the least.
// known is false if the server runs on another machine or in a container, or if the role
// may not read data_directory.
func (c *Conn) FreeSpace(ctx context.Context) (least Space, known bool) {
	if !c.TLS().Local || !c.isLocalServer(ctx) {
		return Space{}, false
	}
	folders, err := c.tablespaces(ctx)
	if err != nil {
		return Space{}, false
	}
	for name, folder := range folders {
		bytes, ok := availableBytes(folder)
		if !ok {
			return Space{}, false
		}
		if !known || bytes < least.Bytes {
			least, known = Space{Bytes: bytes, Tablespace: name}, true
		}
	}
	return least, known
}

// tablespaces returns the folders of the tablespaces by their names. A table whose
// catalog entry names none is in the database's; a new one is in default_tablespace.
func (c *Conn) tablespaces(ctx context.Context) (folders map[string]string, err error) {
	var data string // NULL without pg_read_all_settings
	err = c.QueryRow(ctx, "SELECT coalesce((SELECT setting FROM pg_settings WHERE name = 'data_directory'), '')").
		Scan(&data)
	if err != nil {
		return nil, err
	}
	folders = map[string]string{}
	var name, location string
	err = c.Each(
		ctx,
		`WITH d AS (SELECT dattablespace AS id FROM pg_database WHERE datname = current_database()),
		t AS (SELECT coalesce(nullif(c.reltablespace, 0), d.id) AS id
			FROM d, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind = 'r')
		SELECT s.spcname::text, pg_tablespace_location(s.oid) FROM pg_tablespace s WHERE s.oid IN (
			SELECT id FROM t
			UNION ALL SELECT coalesce(
				(SELECT oid FROM pg_tablespace WHERE spcname = current_setting('default_tablespace')), d.id)
			FROM d WHERE (SELECT count(*) FROM t) < cardinality($2::text[]))`,
		[]any{c.Schema, tableNames()},
		[]any{&name, &location},
		func() { folders[name] = location },
	)
	for name, folder := range folders {
		switch {
		case filepath.IsAbs(folder):
		case data == "":
			return nil, errNoDataDirectory
		default: // pg_default, or a tablespace within the data directory
			folders[name] = filepath.Join(data, folder)
		}
	}
	return folders, err
}
