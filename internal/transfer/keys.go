package transfer

import (
	"context"
	"io"

	"flujo-port/internal/mapping"
	"flujo-port/internal/source"
)

// tableKeys are the keys that rows of a table in the file have in PostgreSQL: where
// the file guarantees unique keys only those that had to be changed, otherwise
// all of them.
type tableKeys struct {
	kind   source.KeyKind
	owners map[string]keyOwner
}

// keyOwner is the row that has a key.
type keyOwner struct {
	rowid int64
	plain bool // its key is what it becomes
}

// precedes reports whether of two rows with one key h has it: the one whose key
// did not have to be changed, then the first.
func (h keyOwner) precedes(other keyOwner) bool {
	if h.plain != other.plain {
		return h.plain
	}
	return h.rowid < other.rowid
}

// findDuplicateKeys finds the rows whose key becomes another row's key in PostgreSQL:
// a BLOB and a text of the same bytes, texts that differ only in bytes that are
// not UTF-8, and whatever a file without a primary key holds. The first row
// with a key has it; one whose key is the text itself comes before one whose
// key had to be changed.
//
// Where the file guarantees unique keys only the odd ones are held in memory,
// otherwise all of them.
func (r *extraction) findDuplicateKeys(
	ctx context.Context,
	tm *mapping.TableMapping,
) (map[int64]mapping.Reason, error) {
	column := tm.KeyColumn()
	if !tm.InFile || column == "" {
		return nil, nil
	}
	table := tm.Table.Name
	kind, err := r.snapshot.KeyKind(ctx, table, column)
	if err != nil || kind == source.RowIDKey {
		return nil, err
	}
	rows, err := r.snapshot.Keys(ctx, table, column)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	rejected := map[int64]mapping.Reason{}
	first := map[string]keyOwner{}
	r.keys[table] = &tableKeys{kind: kind, owners: first}
	for {
		row, err := rows.Next()
		if err == io.EOF {
			return rejected, nil
		}
		if err != nil {
			return nil, err
		}
		this := keyOwner{rowid: row[0].Int, plain: tm.PlainKey(row[1])}
		if tm.KeyFlaw(row[1]) != 0 || this.plain && kind == source.UniqueKey {
			continue
		}
		key := tm.KeyOf(row[1])
		if other, taken := first[key]; taken {
			if this.precedes(other) { // the scan may come by an index
				this, other = other, this
			}
			rejected[this.rowid] = mapping.DuplicateKey
			first[key] = other
			continue
		}
		if kind == source.UniqueKey {
			taken, err := r.snapshot.Holds(ctx, table, column, tm.PlainValue(key))
			if err != nil {
				return nil, err
			}
			if taken {
				rejected[this.rowid] = mapping.DuplicateKey
				continue
			}
		}
		first[key] = this
	}
}

// hasKey reports whether a row of a table in the file has the run_id, as
// PostgreSQL has it. Where the file is known to hold no text that is just that,
// absent says so.
func (r *extraction) hasKey(ctx context.Context, table, run string, absent bool) (bool, error) {
	k := r.keys[table]
	if k == nil {
		return false, nil
	}
	if _, ok := k.owners[run]; ok || absent || k.kind == source.FreeKey {
		return ok, nil
	}
	return r.snapshot.Holds(ctx, table, "run_id", mapping.TextValue(run))
}

// isPlain reports whether a run_id is what it becomes in PostgreSQL.
func isPlain(run mapping.Value) bool {
	return run.Class == mapping.Text && mapping.KeyText(run) == string(run.Bytes)
}
