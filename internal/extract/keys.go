package extract

import (
	"context"
	"io"

	"flujo-port/internal/mapping"
	"flujo-port/internal/source"
	"flujo-port/internal/sqlite"
)

// keyIndex holds the keys that rows of a table have in PostgreSQL: only changed keys
// if the file guarantees unique keys, otherwise all keys.
type keyIndex struct {
	kind     source.KeyKind
	owners   map[string]keyOwner
	rejected map[int64]mapping.Reason // rows whose key another row owns, by rowid
}

// keyOwner is the row that has a key.
type keyOwner struct {
	rowid int64
	plain bool // its key is not changed in PostgreSQL
}

// precedes reports whether h owns a key that h and other share: the row whose key is
// unchanged, or else the first row.
func (h keyOwner) precedes(other keyOwner) bool {
	if h.plain != other.plain {
		return h.plain
	}
	return h.rowid < other.rowid
}

// duplicates returns, by rowid, the rows whose key equals another row's key in
// PostgreSQL, except its owner (see precedes).
func (k *keyIndex) duplicates() map[int64]mapping.Reason {
	if k == nil {
		return nil
	}
	return k.rejected
}

// indexKeys finds the rows of a table whose key equals another row's key in
// PostgreSQL: a BLOB and a text of the same bytes, texts that differ only in invalid
// UTF-8, and duplicates in a file without a primary key. It returns nil if there can
// be none.
//
// If the file guarantees unique keys, only changed keys are held in memory,
// otherwise all keys.
func (e *Extraction) indexKeys(ctx context.Context, tm *mapping.TableMapping) (*keyIndex, error) {
	column := tm.KeyColumn()
	if !tm.InFile || column == "" {
		return nil, nil
	}
	table := tm.Table.Name
	kind, err := e.snapshot.KeyKind(ctx, table, column)
	if err != nil || kind == source.RowIDKey {
		return nil, err
	}
	rows, err := e.snapshot.Keys(ctx, table, column)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	k := &keyIndex{kind: kind, owners: map[string]keyOwner{}, rejected: map[int64]mapping.Reason{}}
	for {
		row, err := rows.Next()
		if err == io.EOF {
			return k, nil
		}
		if err != nil {
			return nil, err
		}
		this := keyOwner{rowid: row[0].Int, plain: tm.PlainKey(row[1])}
		if tm.KeyFlaw(row[1]) != 0 || this.plain && kind == source.UniqueKey {
			continue
		}
		key := tm.KeyOf(row[1])
		if other, taken := k.owners[key]; taken {
			if this.precedes(other) { // an index scan need not be in rowid order
				this, other = other, this
			}
			k.rejected[this.rowid] = mapping.DuplicateKey
			k.owners[key] = other
			continue
		}
		if kind == source.UniqueKey {
			taken, err := e.snapshot.Holds(ctx, table, column, tm.PlainValue(key))
			if err != nil {
				return nil, err
			}
			if taken {
				k.rejected[this.rowid] = mapping.DuplicateKey
				continue
			}
		}
		k.owners[key] = this
	}
}

// hasKey reports whether a row of a table in the file has the given run_id in
// PostgreSQL. absent means that the file has no such text, so that only changed keys
// are looked up.
func (e *Extraction) hasKey(ctx context.Context, k *known, table, run string, absent bool) (bool, error) {
	keys := k.keys[table]
	if keys == nil {
		return false, nil
	}
	if _, ok := keys.owners[run]; ok || absent || keys.kind == source.FreeKey {
		return ok, nil
	}
	return e.snapshot.Holds(ctx, table, "run_id", sqlite.TextValue(run))
}

// isPlain reports whether a run_id is unchanged in PostgreSQL.
func isPlain(run sqlite.Value) bool {
	return run.Class == sqlite.Text && mapping.KeyText(run) == string(run.Bytes)
}
