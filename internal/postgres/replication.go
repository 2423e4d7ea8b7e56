package postgres

import "context"

// Replication is the logical replication of Flujo's tables.
type Replication struct {
	Publications  []string // publications that contain the tables, or will once they exist
	Slots         []string // logical replication slots of the database; a subscriber reads from each
	Subscriptions []string // enabled subscriptions that write to the tables
}

// Replication returns what is known of the logical replication of the schema's tables.
func (c *Conn) Replication(ctx context.Context) (r Replication, err error) {
	publications := `SELECT pubname::text FROM pg_publication WHERE puballtables
		UNION SELECT pubname::text FROM pg_publication_tables WHERE schemaname = $1 AND tablename = ANY ($2)`
	if c.Server.Version >= 150000 {
		publications += ` UNION SELECT p.pubname::text FROM pg_publication p
			JOIN pg_publication_namespace m ON m.pnpubid = p.oid
			JOIN pg_namespace n ON n.oid = m.pnnspid WHERE n.nspname = $1`
	}
	subscriptions, err := c.subscriptionsQuery(ctx)
	if err != nil {
		return r, err
	}
	for _, part := range []struct {
		sql string
		all *[]string
	}{
		{publications + " ORDER BY 1", &r.Publications},
		{`SELECT slot_name || CASE WHEN active THEN ' (active)' ELSE ' (not active)' END FROM pg_replication_slots
			WHERE slot_type = 'logical' AND database = current_database() AND $1::text IS NOT NULL
				AND $2::text[] IS NOT NULL ORDER BY 1`, &r.Slots},
		{subscriptions, &r.Subscriptions},
	} {
		var name string
		add := func() { *part.all = append(*part.all, name) }
		if err := c.Each(ctx, part.sql, []any{c.Schema, tableNames()}, []any{&name}, add); err != nil {
			return r, err
		}
	}
	return r, nil
}

// subscriptionsQuery returns the query for the subscriptions that write to the tables. A role that may not read
// pg_subscription, as a plain role until PostgreSQL 13, gets the ids of all, disabled ones included.
func (c *Conn) subscriptionsQuery(ctx context.Context) (string, error) {
	query := "SELECT DISTINCT r.srsubid::text FROM pg_subscription_rel r"
	var readable bool
	const mayRead = `SELECT bool_and(has_column_privilege('pg_subscription', name, 'SELECT'))
		FROM unnest(ARRAY['oid', 'subname', 'subenabled']) name`
	if err := c.QueryRow(ctx, mayRead).Scan(&readable); err != nil {
		return "", c.WrapError("read the role's privileges", err)
	}
	if readable {
		query = `SELECT DISTINCT s.subname::text FROM pg_subscription_rel r
			JOIN pg_subscription s ON s.oid = r.srsubid AND s.subenabled`
	}
	return query + ` JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = ANY ($2) ORDER BY 1`, nil
}
