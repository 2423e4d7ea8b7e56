package merge

import (
	"context"
	"fmt"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/receipt"
	"flujo-port/internal/sink"
	"flujo-port/internal/sqltext"
)

// tables are the tables of both sides: Flujo's in the target, and staging tables with
// the rows of the state file. Its methods are called in this order: decide, renumber
// for each table with a serial column, apply, check.
type tables struct {
	target   sink.Loader
	staging  sink.Loader      // shares the target's transaction
	receipts receipt.Receipts // of the files whose rows the target has
	receipt  int64            // the id of the receipt of the merge
	staged   side             // how decide read the staging tables
	final    string           // the table with the digests of the staged rows as apply inserts them
}

// The helper tables of a merge, in the staging schema.
const (
	unitsTarget     = "flujo_port_target"     // digests of the target's rows, by unit
	unitsFile       = "flujo_port_file"       // digests of the staged rows, by unit
	unitsRenumbered = "flujo_port_renumbered" // digests of the staged rows with their new ids, by unit
	unitsAfter      = "flujo_port_after"      // digests of the target's rows after apply, by unit
	unitsWon        = "flujo_port_won"        // units that are taken from staging
	unitsDecided    = "flujo_port_units"      // the file's units with their decisions
	unitsKept       = "flujo_port_kept"       // digests of the rows that are kept in the originals, by unit
	newIDs          = "flujo_port_ids"        // old and new ids of rows of units that are taken
	equalIDs        = "flujo_port_equal_ids"  // ids in the file and in the target of rows of equal units
	writersBefore   = "flujo_port_writers"    // keys and writers of rows of files, only while a column is widened
)

// helpers are all helper tables.
var helpers = []string{
	unitsTarget,
	unitsFile,
	unitsRenumbered,
	unitsAfter,
	unitsWon,
	unitsDecided,
	unitsKept,
	newIDs,
	equalIDs,
}

// The decisions about a unit.
const (
	unitAdded = "added" // only the state file has it
	unitEqual = "equal" // both sides are equal
	unitTaken = "taken" // the state file's was written later
	unitTied  = "tied"  // both were written at the same time and differ; the target's stays
	unitNewer = "newer" // the target's was written later and stays
)

// newTables returns empty staging tables: those of the last merge, or new ones. If row-level
// security may hide rows of the target, the error is a clierr.Refused.
func newTables(ctx context.Context, target sink.Loader, state *State, id int64) (*tables, error) {
	t := &tables{target: target, receipts: state.Receipts, receipt: id, final: unitsFile}
	if state.staging != nil {
		t.staging = *state.staging
		return t, t.staging.EmptyStaging(ctx)
	}
	var err error
	if t.staging, err = target.Tx.CreateStaging(ctx, target.Schema); err != nil {
		return nil, err
	}
	state.staging = &t.staging
	for _, table := range target.Schema.Tables() {
		_, key := table.Unit()
		if key == table.PrimaryKey {
			continue
		}
		err := t.run(ctx, fmt.Sprintf("create an index on staging table %q", table.Name),
			fmt.Sprintf("CREATE INDEX ON %s (%s)", t.name(table.Name), sqltext.Ident(key)))
		if err != nil {
			return nil, err
		}
	}
	return t, nil
}

// fill executes a query that fills a helper table, which it creates with the given
// columns or empties before. The table stays for the next merge, as staging tables do.
func (t *tables) fill(ctx context.Context, step, table, columns, sql string) error {
	create := "CREATE " + t.staging.Tx.Persistence() + "TABLE " + t.name(table) + " (" + columns + ")"
	exists, err := t.staging.Tx.HasTable(ctx, table)
	if err != nil {
		return err
	}
	if exists {
		create = "TRUNCATE " + t.name(table)
	}
	if sql != "" {
		sql = ";\nINSERT INTO " + t.name(table) + " " + sql + ";\nANALYZE " + t.name(table)
	}
	return t.run(ctx, step, create+sql)
}

// name returns the qualified and quoted name of a staging or helper table.
func (t *tables) name(table string) string { return t.staging.Tx.Name(table) }

// parts returns the named parts of a statement about a table: its names on both sides,
// its columns, and the helper tables.
func (t *tables) parts(table *mapping.Table) sqltext.Parts {
	kind, key := table.Unit()
	p := t.helperParts()
	p["table"] = table.Name
	p["target"] = t.target.Tx.Name(table.Name)
	p["staged"] = t.name(table.Name)
	p["kind"] = kind
	p["unitKey"] = key
	p["primaryKey"] = table.PrimaryKey
	if table.Serial() != "" {
		p["id"] = table.Serial()
	}
	return p
}

// helperParts returns the names of the helper tables, and the decisions.
func (t *tables) helperParts() sqltext.Parts {
	return sqltext.Parts{
		"unitsTarget":  t.name(unitsTarget),
		"unitsFile":    t.name(unitsFile),
		"unitsAfter":   t.name(unitsAfter),
		"unitsFinal":   t.name(t.final),
		"unitsWon":     t.name(unitsWon),
		"unitsKept":    t.name(unitsKept),
		"persistence":  t.staging.Tx.Persistence(),
		"unitsDecided": t.name(unitsDecided),
		"newIDs":       t.name(newIDs),
		"equalIDs":     t.name(equalIDs),
		"new":          sqltext.Literal(unitAdded),
		"equal":        sqltext.Literal(unitEqual),
		"taken":        sqltext.Literal(unitTaken),
		"tied":         sqltext.Literal(unitTied),
		"newer":        sqltext.Literal(unitNewer),
	}
}

// run executes statements in the transaction.
func (t *tables) run(ctx context.Context, step, sql string) error {
	if err := t.target.Tx.Run(ctx, sql); err != nil {
		return t.target.Tx.WrapError(step, err)
	}
	return nil
}

// exec executes a statement with arguments and returns the number of rows.
func (t *tables) exec(ctx context.Context, sql string, args ...any) (rows int64, err error) {
	tag, err := t.target.Tx.Exec(ctx, sql, args...)
	return tag.RowsAffected(), err
}

// conn is the connection of the transaction.
func (t *tables) conn() *postgres.Conn { return t.target.Tx.Conn }

// bigints returns the SQL of an array.
func bigints(all []int64) string {
	var list []string
	for _, one := range all {
		list = append(list, fmt.Sprint(one))
	}
	return "'{" + strings.Join(list, ",") + "}'::bigint[]"
}
