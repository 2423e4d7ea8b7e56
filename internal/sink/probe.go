package sink

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
)

// probe inserts a row into a table with a serial column, as Flujo will, sees
// that it gets the id next, and undoes it. restart is what puts the sequence
// to next inside of the savepoint, so that the probe leaves it as it was; ""
// where it is for the caller to put it there again.
func (t *Tx) probe(ctx context.Context, table *mapping.Table, restart string, next int64) error {
	step := fmt.Sprintf("insert a row into %q on trial", table.Name)
	if err := t.Run(ctx, "SAVEPOINT flujo_port_probe; "+restart); err != nil {
		return t.WrapError(step, err)
	}
	run := "flujo-port probe " + rand.Text()
	if _, err := t.Exec(ctx, t.insertLeast(&mapping.Tables[0]), run); err != nil {
		return t.refusedInsert(step, err)
	}
	var id int64
	if err := t.QueryRow(ctx, fmt.Sprintf("%s RETURNING %s::bigint", t.insertLeast(table), postgres.Ident(table.Serial())), run).Scan(&id); err != nil {
		return t.refusedInsert(step, err)
	}
	if err := t.Run(ctx, "ROLLBACK TO flujo_port_probe; RELEASE flujo_port_probe"); err != nil {
		return t.WrapError(step, err)
	}
	if id == next {
		return nil
	}
	return &clierr.Error{
		Kind: clierr.Mismatch, Message: fmt.Sprintf("%s: it got the id %d, and the next one is %d", step, id, next),
		Hint: fmt.Sprintf("look for what changes the default or the sequence of %s.%s", table.Name, table.Serial()),
	}
}

// refusedInsert says what it means that Flujo could not insert.
func (t *Tx) refusedInsert(step string, err error) error {
	if code := postgres.Code(err); !strings.HasPrefix(code, "23") {
		return t.WrapError(step, err)
	}
	return &clierr.Error{
		Kind: clierr.Mismatch, Message: step, Err: postgres.ServerError(err),
		Hint: "Flujo's next insert would fail like this: look for constraints, triggers or another writer on that table",
	}
}

// insertLeast writes the INSERT of a row of Flujo's that has no more than it
// must; $1 is its run_id.
func (t *Tx) insertLeast(table *mapping.Table) string {
	var names, values []string
	for _, c := range table.Columns {
		if !c.NotNull || c.Serial {
			continue
		}
		value := map[mapping.Kind]string{mapping.KindText: "'probe'", mapping.KindTime: "now()", mapping.KindJSON: "'{}'"}[c.Kind]
		switch {
		case c.Name == "run_id":
			value = "$1"
		case value == "":
			value = "0"
		}
		names, values = append(names, postgres.Ident(c.Name)), append(values, value)
	}
	return fmt.Sprintf(
		"INSERT INTO %s (%s) VALUES (%s)",
		t.Name(table.Name),
		strings.Join(names, ", "),
		strings.Join(values, ", "),
	)
}
