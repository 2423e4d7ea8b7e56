package transfer

import (
	"context"
	"io"

	"flujo-port/internal/mapping"
	"flujo-port/internal/source"
)

// keys are the keys that rows of a table in the file have in PostgreSQL: where
// the file guarantees unique keys only those that had to be changed, otherwise
// all of them.
type keys struct {
	kind  source.KeyKind
	first map[string]holder
}

// holder is the row that has a key.
type holder struct {
	rowid int64
	plain bool // its key is what it becomes
}

// before reports whether of two rows with one key h has it: the one whose key
// did not have to be changed, then the first.
func (h holder) before(other holder) bool {
	if h.plain != other.plain {
		return h.plain
	}
	return h.rowid < other.rowid
}

// sameKeys finds the rows whose key becomes another row's key in PostgreSQL:
// a BLOB and a text of the same bytes, texts that differ only in bytes that are
// not UTF-8, and whatever a file without a primary key holds. The first row
// with a key has it; one whose key is the text itself comes before one whose
// key had to be changed.
//
// Where the file guarantees unique keys only the odd ones are held in memory,
// otherwise all of them.
func (r *reading) sameKeys(ctx context.Context, plan *mapping.Plan) (map[int64]mapping.Reason, error) {
	column := plan.KeyColumn()
	if !plan.InFile || column == "" {
		return nil, nil
	}
	table := plan.Table.Name
	kind, err := r.snapshot.KeyKind(ctx, table, column)
	if err != nil || kind == source.RowIDKey {
		return nil, err
	}
	rows, err := r.snapshot.Keys(ctx, table, column)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	aside := map[int64]mapping.Reason{}
	first := map[string]holder{}
	r.keys[table] = &keys{kind: kind, first: first}
	for {
		row, err := rows.Next()
		if err == io.EOF {
			return aside, nil
		}
		if err != nil {
			return nil, err
		}
		this := holder{rowid: row[0].Int, plain: plan.PlainKey(row[1])}
		if plan.KeyFlaw(row[1]) != 0 || this.plain && kind == source.UniqueKey {
			continue
		}
		key := plan.KeyOf(row[1])
		if other, taken := first[key]; taken {
			if this.before(other) { // the scan may come by an index
				this, other = other, this
			}
			aside[this.rowid] = mapping.SameKey
			first[key] = other
			continue
		}
		if kind == source.UniqueKey {
			taken, err := r.snapshot.Holds(ctx, table, column, plan.PlainValue(key))
			if err != nil {
				return nil, err
			}
			if taken {
				aside[this.rowid] = mapping.SameKey
				continue
			}
		}
		first[key] = this
	}
}

// held reports whether a row of a table in the file has the run_id, as
// PostgreSQL has it. Where the file is known to hold no text that is just that,
// absent says so.
func (r *reading) held(ctx context.Context, table, run string, absent bool) (bool, error) {
	k := r.keys[table]
	if k == nil {
		return false, nil
	}
	if _, ok := k.first[run]; ok || absent || k.kind == source.FreeKey {
		return ok, nil
	}
	return r.snapshot.Holds(ctx, table, "run_id", mapping.TextValue(run))
}

// isPlain reports whether a run_id is what it becomes in PostgreSQL.
func isPlain(run mapping.Value) bool {
	return run.Class == mapping.Text && mapping.KeyText(run) == string(run.Bytes)
}
