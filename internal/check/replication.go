package check

import (
	"context"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/postgres"
)

// replication names who else receives or writes the rows of Flujo's tables. A role that may not read that is told so.
func (c *checker) replication(ctx context.Context) error {
	r, err := c.conn.Replication(ctx)
	if postgres.Code(err) == postgres.InsufficientPrivilege {
		c.warning(
			"replication",
			"ask the database's administrator whether a publication or a subscription contains Flujo's tables",
			"not known: the role may not read the catalog: %v",
			postgres.ServerError(err),
		)
		return nil
	}
	if err != nil {
		return err
	}
	if len(r.Subscriptions) > 0 {
		c.warning(
			"replication",
			"disable them before the migration: ALTER SUBSCRIPTION … DISABLE",
			"subscriptions write to Flujo's tables: %s",
			clierr.Names(r.Subscriptions),
		)
	}
	if len(r.Publications) > 0 {
		slots := "no subscriber has a replication slot in this database"
		if len(r.Slots) > 0 {
			slots = "logical replication slots: " + strings.Join(r.Slots, ", ")
		}
		c.warning(
			"replication",
			"a subscriber stops at rows of a table that it does not have",
			"the migration's rows will be published by %s; %s",
			clierr.Names(r.Publications),
			slots,
		)
		c.advise(clierr.InitSubscriber, "")
	}
	if len(r.Subscriptions)+len(r.Publications) == 0 {
		c.ok("replication", "no publication or subscription contains Flujo's tables")
	}
	return nil
}
