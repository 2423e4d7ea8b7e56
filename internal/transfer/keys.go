package transfer

import (
	"context"
	"io"

	"flujo-port/internal/mapping"
	"flujo-port/internal/source"
	"flujo-port/internal/sqlite"
)

// tableKeys are the keys that rows of a table have in PostgreSQL: only changed
// keys if the file guarantees unique keys, otherwise all keys.
type tableKeys struct {
	kind   source.KeyKind
	owners map[string]keyOwner
}

// keyOwner is the row that has a key.
type keyOwner struct {
	rowid int64
	plain bool // its key is not changed in PostgreSQL
}

// precedes reports whether h owns a key that h and other share: the row whose key
// is unchanged, or else the first row.
func (h keyOwner) precedes(other keyOwner) bool {
	if h.plain != other.plain {
		return h.plain
	}
	return h.rowid < other.rowid
}

// findDuplicateKeys returns, by rowid, the rows whose key equals another row's key
// in PostgreSQL: a BLOB and a text of the same bytes, texts that differ only in
// invalid UTF-8, and duplicates in a file without a primary key. The owner of a
// key (see precedes) is not included.
//
// If the file guarantees unique keys, only changed keys are held in memory,
// otherwise all keys.
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
			if this.precedes(other) { // an index scan need not be in rowid order
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

// hasKey reports whether a row of a table in the file has the given run_id in
// PostgreSQL. absent means that the file has no such text, so that only changed
// keys are looked up.
func (r *extraction) hasKey(ctx context.Context, table, run string, absent bool) (bool, error) {
	k := r.keys[table]
	if k == nil {
		return false, nil
	}
	if _, ok := k.owners[run]; ok || absent || k.kind == source.FreeKey {
		return ok, nil
	}
	return r.snapshot.Holds(ctx, table, "run_id", sqlite.TextValue(run))
}

// isPlain reports whether a run_id is unchanged in PostgreSQL.
func isPlain(run sqlite.Value) bool {
	return run.Class == sqlite.Text && mapping.KeyText(run) == string(run.Bytes)
}
