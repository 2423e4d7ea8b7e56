package sink

import (
	"context"
	"fmt"
	"strings"

	"flujo-port/internal/fault"
	"flujo-port/internal/mapping"
)

// ProbeAddress opens a connection by a cutover address and sees that
// unqualified names find Flujo's tables where they were put. Before the commit
// only the search_path can be seen; rows is then -1. After it runs must be the
// schema's and hold that many rows.
func ProbeAddress(ctx context.Context, address, schema string, rows int64) error {
	conn, err := connect(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	refuse := func(format string, args ...any) error {
		return &fault.Error{
			Kind: fault.Refused, What: "through the cutover address " + fmt.Sprintf(format, args...),
			Do: "a pooler in the way may drop the options parameter: connect to the server itself, or set search_path on the role",
		}
	}
	if rows < 0 {
		var path string
		if err := conn.QueryRow(ctx, "SELECT current_setting('search_path')").Scan(&path); err != nil {
			return err
		}
		first, _, _ := strings.Cut(path, ",")
		if first != schema && first != ident(schema) {
			return refuse("search_path is %q and does not begin with schema %q", path, schema)
		}
		return nil
	}
	var found string
	var n int64
	err = conn.QueryRow(ctx, `SELECT coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = to_regclass($1)), '')`, mapping.Runs).Scan(&found)
	if err != nil {
		return err
	}
	if found != schema {
		return refuse("table %q is found in schema %q, not %q", mapping.Runs, found, schema)
	}
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM "+mapping.Runs).Scan(&n); err != nil {
		return err
	}
	if n != rows {
		return refuse("table %q has %d rows, not the %d that were committed", mapping.Runs, n, rows)
	}
	return nil
}
