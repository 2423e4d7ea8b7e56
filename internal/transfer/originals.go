package transfer

import (
	"context"
	"io"
	"slices"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
)

// keepOriginals puts what does not arrive as it is into the table of originals,
// and tells Found of it; without write it does only the latter.
func (m *migration) keepOriginals(ctx context.Context, write bool) error {
	if !write {
		return m.tellFindings(ctx, m.Found)
	}
	if err := m.tx.MakeOriginals(ctx, m.schema); err != nil {
		return err
	}
	o := m.originals(ctx, m.Found)
	if m.digest {
		o.digest = mapping.NewDigest(&mapping.Originals)
	}
	defer o.close()
	_, err := m.tx.Copy(ctx, &mapping.Originals, o)
	m.report.Originals = o.kept
	m.sum(mapping.Originals.Name, o.digest)
	return err
}

// tellFindings calls found for every finding; it may be nil.
func (r *reading) tellFindings(ctx context.Context, found func(mapping.Finding)) error {
	if found == nil {
		return nil
	}
	o := r.originals(ctx, found)
	defer o.close()
	for {
		if _, err := o.Append(nil); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// originals reads the tables again of which something does not arrive as it is.
func (r *reading) originals(ctx context.Context, found func(mapping.Finding)) *originals {
	o := &originals{ctx: ctx, r: r, found: found}
	for i := range r.layout.Plans {
		plan := &r.layout.Plans[i]
		if slices.ContainsFunc(r.found.Changes, func(c report.Change) bool { return c.Table == plan.Table.Name }) {
			o.plans = append(o.plans, plan)
		}
	}
	return o
}

// originals gives a tuple of mapping.Originals for every cell that did not
// arrive as it was, table after table. It implements sink.Tuples.
type originals struct {
	ctx       context.Context
	r         *reading
	found     func(mapping.Finding) // may be nil
	plans     []*mapping.Plan       // still to be read
	converter *mapping.Converter
	rows      rowReader
	row       []mapping.Value  // whose changes are being given
	changes   []mapping.Change // still to be given
	scratch   []byte
	kept      int64
	digest    *mapping.Digest // may be nil
}

// Append implements sink.Tuples.
func (o *originals) Append(dst []byte) ([]byte, error) {
	for len(o.changes) == 0 {
		if err := o.read(); err != nil {
			return dst, err
		}
	}
	c := o.changes[0]
	o.changes = o.changes[1:]
	o.kept++
	out := mapping.AppendOriginal(dst, o.converter.Plan.Table.Name, o.converter.Key(o.row), o.row[0].Int, c)
	if o.digest != nil {
		o.digest.Add(out[len(dst):])
	}
	return out, nil
}

// read converts the next row once more and notes what does not arrive of it.
func (o *originals) read() error {
	if o.rows == nil {
		if len(o.plans) == 0 {
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
	o.tell()
	return nil
}

// close ends the reading of a table where one is read.
func (o *originals) close() {
	if o.rows != nil {
		o.rows.Close()
	}
}

func (o *originals) open() error {
	plan := o.plans[0]
	o.plans = o.plans[1:]
	rows, err := o.r.snapshot.Rows(o.ctx, plan.Table.Name, plan.Columns)
	if err != nil {
		return err
	}
	o.rows, o.converter = rows, o.r.converter(o.ctx, plan)
	return nil
}

// tell calls found for the row: once where it has no place, else for each cell.
func (o *originals) tell() {
	if o.found == nil || len(o.changes) == 0 {
		return
	}
	f := mapping.Finding{Table: o.converter.Plan.Table.Name, Key: o.converter.Key(o.row), RowID: o.row[0].Int}
	if why := o.converter.Why(); why != 0 {
		f.Reason, f.Aside = why, true
		o.found(f)
		return
	}
	for _, c := range o.changes {
		f.Column, f.Reason, f.Note = c.Column, c.Reason, c.Note
		o.found(f)
	}
}
