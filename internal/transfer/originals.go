package transfer

import (
	"context"
	"io"
	"slices"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/sqlite"
)

// writeOriginals stores the original values of changed cells and rejected rows,
// and calls OnFinding for each finding. If write is false, it stores nothing.
func (m *migration) writeOriginals(ctx context.Context, write bool) error {
	if !write {
		return m.reportFindings(ctx, m.OnFinding)
	}
	if err := m.tx.EnsureOriginals(ctx, m.sinkSchema); err != nil {
		return err
	}
	o := m.newOriginalTuples(ctx, m.OnFinding)
	if m.withDigest {
		o.digest = mapping.NewDigest(&mapping.Originals)
	}
	defer o.close()
	_, err := m.tx.Copy(ctx, &mapping.Originals, o)
	m.report.Originals = o.count
	m.addDigest(mapping.Originals.Name, o.digest)
	return err
}

// reportFindings calls found for each finding. found may be nil.
func (r *extraction) reportFindings(ctx context.Context, found func(mapping.Finding)) error {
	if found == nil {
		return nil
	}
	o := r.newOriginalTuples(ctx, found)
	defer o.close()
	for {
		if _, err := o.Append(nil); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// newOriginalTuples returns the original values of all changes. It reads the
// tables with changes again, and calls found for each finding; found may be nil.
// The caller closes it.
func (r *extraction) newOriginalTuples(ctx context.Context, found func(mapping.Finding)) *originalTuples {
	o := &originalTuples{ctx: ctx, extraction: r, onFinding: found}
	for i := range r.format.Mappings {
		tm := &r.format.Mappings[i]
		if slices.ContainsFunc(r.findings.Changes, func(c report.Change) bool { return c.Table == tm.Table.Name }) {
			o.mappings = append(o.mappings, tm)
		}
	}
	return o
}

// originalTuples yields a tuple of mapping.Originals for each cell that was changed
// or belongs to a rejected row, table by table. It implements sink.Tuples.
type originalTuples struct {
	ctx        context.Context
	extraction *extraction
	onFinding  func(mapping.Finding)   // may be nil
	mappings   []*mapping.TableMapping // tables that were not read yet
	converter  *mapping.Converter
	rows       rowReader
	row        []sqlite.Value   // the current row
	changes    []mapping.Change // its remaining changes
	scratch    []byte
	count      int64
	digest     *mapping.Digest // may be nil
}

// Append implements sink.Tuples.
func (o *originalTuples) Append(dst []byte) ([]byte, error) {
	for len(o.changes) == 0 {
		if err := o.read(); err != nil {
			return dst, err
		}
	}
	c := o.changes[0]
	o.changes = o.changes[1:]
	o.count++
	out := mapping.AppendOriginal(dst, o.converter.Mapping.Table.Name, o.converter.Key(o.row), o.row[0].Int, c)
	if o.digest != nil {
		o.digest.Add(out[len(dst):])
	}
	return out, nil
}

// read converts the next row again and sets its changes.
func (o *originalTuples) read() error {
	if o.rows == nil {
		if len(o.mappings) == 0 {
			return io.EOF
		}
		if err := o.open(); err != nil {
			return err
		}
	}
	row, err := o.rows.Next()
	if err == io.EOF {
		o.rows.Close()
		o.rows = nil
		return nil
	}
	if err != nil {
		return err
	}
	if o.scratch, _, err = o.converter.Append(o.scratch[:0], row); err != nil {
		return err
	}
	o.row, o.changes = row, o.converter.Changes()
	o.report()
	return nil
}

// close closes the current table.
func (o *originalTuples) close() {
	if o.rows != nil {
		o.rows.Close()
	}
}

func (o *originalTuples) open() error {
	tm := o.mappings[0]
	o.mappings = o.mappings[1:]
	rows, err := o.extraction.snapshot.Rows(o.ctx, tm.Table.Name, tm.Columns)
	if err != nil {
		return err
	}
	o.rows, o.converter = rows, o.extraction.converter(o.ctx, tm)
	return nil
}

// report calls onFinding once for a rejected row, otherwise for each changed cell.
func (o *originalTuples) report() {
	if o.onFinding == nil || len(o.changes) == 0 {
		return
	}
	f := mapping.Finding{Table: o.converter.Mapping.Table.Name, Key: o.converter.Key(o.row), RowID: o.row[0].Int}
	if why := o.converter.Rejection(); why != 0 {
		f.Reason, f.Rejected = why, true
		o.onFinding(f)
		return
	}
	for _, c := range o.changes {
		f.Column, f.Reason, f.Note = c.Column, c.Reason, c.Note
		o.onFinding(f)
	}
}
