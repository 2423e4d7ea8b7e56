package sink

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sqltext"

	"github.com/jackc/pgx/v5/pgconn"
)

// probe inserts a row into a table with a serial column, as Flujo will, checks
// that it gets the id next, and rolls back to a savepoint. restart is the
// statement that sets the sequence, run inside of the savepoint so that the
// probe leaves the sequence unchanged. If it is "", the caller has to set the
// sequence again.
func (t *Tx) probe(ctx context.Context, table *mapping.Table, restart string, next int64) error {
	step := fmt.Sprintf("insert a test row into table %q", table.Name)
	run := "flujo-port probe " + rand.Text()
	results, err := t.PgConn().Exec(ctx, strings.Join([]string{
		"SAVEPOINT flujo_port_probe; " + restart,
		t.insertLeast(&mapping.Tables[0], run),
		fmt.Sprintf("%s RETURNING %s::bigint", t.insertLeast(table, run), sqltext.Ident(table.Serial())),
		"ROLLBACK TO flujo_port_probe; RELEASE flujo_port_probe",
	}, ";")).ReadAll()
	if err != nil {
		return t.refusedInsert(step, err)
	}
	got := "no id" // a trigger may skip the row
	if id := returned(results); id == strconv.FormatInt(next, 10) {
		return nil
	} else if id != "" {
		got = "the id " + id
	}
	return &clierr.Error{
		Kind:    clierr.Mismatch,
		Message: fmt.Sprintf("%s: it got %s, but the next id is %d", step, got, next),
		Hint: fmt.Sprintf("check the default and the sequence of %s.%s, and triggers on the table",
			table.Name, table.Serial()),
	}
}

// returned returns the one value that statements returned, or "" if they returned none.
func returned(results []*pgconn.Result) string {
	for _, r := range results {
		for _, row := range r.Rows {
			return string(row[0])
		}
	}
	return ""
}

// refusedInsert converts the error of a test insert: a violated constraint is a
// clierr.Mismatch, since Flujo's inserts would fail too.
func (t *Tx) refusedInsert(step string, err error) error {
	if code := postgres.Code(err); !strings.HasPrefix(code, "23") {
		return t.WrapError(step, err)
	}
	return &clierr.Error{
		Kind: clierr.Mismatch, Message: step, Err: postgres.ServerError(err),
		Hint: "Flujo's next insert would fail with the same error: " +
			"check the table for constraints, triggers and other writers",
	}
}

// insertLeast returns the INSERT of a row with values for the required columns
// alone.
func (t *Tx) insertLeast(table *mapping.Table, run string) string {
	var names, values []string
	for _, c := range table.Columns {
		if !c.NotNull || c.Serial {
			continue
		}
		value := "0"
		switch {
		case c.Name == "run_id":
			value = sqltext.Literal(run)
		case c.Kind == mapping.KindText:
			value = "'probe'"
		case c.Kind == mapping.KindTime:
			value = "now()"
		case c.Kind == mapping.KindJSON:
			value = "'{}'"
		}
		names, values = append(names, sqltext.Ident(c.Name)), append(values, value)
	}
	return fmt.Sprintf(
		"INSERT INTO %s (%s) VALUES (%s)",
		t.Name(table.Name),
		strings.Join(names, ", "),
		strings.Join(values, ", "),
	)
}
