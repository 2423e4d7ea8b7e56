package extract

import (
	"context"
	"io"
	"slices"

	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/sqlite"
)

// EachFinding reads the tables with changes again and calls found once for each
// rejected row, and once for each changed cell of other rows. If found returns an
// error, EachFinding returns it.
func (r *Result) EachFinding(ctx context.Context, found func(mapping.Finding) error) error {
	o := r.Originals(ctx, found)
	defer o.Close()
	_, err := Discard{}.Copy(ctx, &mapping.Originals, o)
	return err
}

// OriginalsDigest returns the digest of the original values without their origin. Config.WithDigests must be set. It
// reads the tables with changes again, and calls found, which may be nil, as EachFinding does.
func (r *Result) OriginalsDigest(
	ctx context.Context, found func(mapping.Finding) error,
) (d rowdigest.Digest, err error) {
	o := r.Originals(ctx, found)
	o.omitOrigin = true
	return o.digest()
}

// OriginalsWithoutRowIDs is OriginalsDigest, without calls, of everything but the rowids of rows with a text key.
func (r *Result) OriginalsWithoutRowIDs(ctx context.Context) (rowdigest.Digest, error) {
	o := r.Originals(ctx, nil)
	o.omitRowIDs = true
	return o.digest()
}

// digest reads all tuples and returns their digest.
func (o *Originals) digest() (d rowdigest.Digest, err error) {
	defer o.Close()
	if _, err := (Discard{}).Copy(o.ctx, &mapping.Originals, o); err != nil {
		return d, err
	}
	return o.hasher.Digest(), nil
}

// Originals returns the original values of all changed cells and rejected rows. It
// reads the tables with changes again, and calls found, which may be nil, as
// EachFinding does. The caller closes the result.
func (r *Result) Originals(ctx context.Context, found func(mapping.Finding) error) *Originals {
	o := &Originals{ctx: ctx, result: r, onFinding: found}
	if r.extraction.config.WithDigests {
		o.hasher = rowdigest.NewHasher(&mapping.Originals)
	}
	for i := range r.extraction.config.Format.Mappings {
		tm := &r.extraction.config.Format.Mappings[i]
		changed := func(c report.Change) bool { return c.Table == tm.Table.Name }
		if slices.ContainsFunc(r.Findings.Changes, changed) {
			o.mappings = append(o.mappings, tm)
		}
	}
	return o
}

// Originals yields a tuple of mapping.Originals for each cell that was changed or
// belongs to a rejected row, table by table. It implements mapping.Tuples.
type Originals struct {
	ctx       context.Context
	result    *Result
	onFinding func(mapping.Finding) error // may be nil
	mappings  []*mapping.TableMapping     // tables that were not read yet
	tuples    *tuples                     // of the current table; nil between tables
	row       []sqlite.Value              // the current row
	changes   []mapping.Change            // its remaining changes
	scratch   []byte
	count     int64
	hasher    *rowdigest.Hasher // may be nil
	// omitOrigin leaves out of the tuples the receipt, the keys of rows with an id from a
	// sequence, which a merge may change, and the rowids of others, which are no content. So
	// they are those of any file with the same content.
	omitOrigin bool
	omitRowIDs bool // leaves out only the rowids of rows with a text key
}

// Count returns the number of tuples so far.
func (o *Originals) Count() int64 { return o.count }

// Digest returns the digest of the tuples so far. It is computed only if
// Config.WithDigests is set; otherwise ok is false.
func (o *Originals) Digest() (d rowdigest.Digest, ok bool) {
	if o.hasher == nil {
		return d, false
	}
	return o.hasher.Digest(), true
}

// Append implements mapping.Tuples.
func (o *Originals) Append(dst []byte) ([]byte, error) {
	for len(o.changes) == 0 {
		if err := o.read(); err != nil {
			return dst, err
		}
	}
	c := o.changes[0]
	o.changes = o.changes[1:]
	o.count++
	converter := o.tuples.converter
	receipt, table := o.result.extraction.config.Receipt, converter.Mapping.Table
	key, rowid := converter.Key(o.row), o.row[0].Int
	serial := table.Serial() != ""
	if o.omitOrigin {
		receipt = 0
	}
	if o.omitOrigin && serial {
		key = ""
	}
	if (o.omitOrigin || o.omitRowIDs) && !serial {
		rowid = 0
	}
	out := mapping.AppendOriginal(dst, receipt, table.Name, key, rowid, c)
	if o.hasher != nil {
		o.hasher.Add(out[len(dst):])
	}
	return out, nil
}

// read converts the next row again and sets its changes.
func (o *Originals) read() error {
	if o.tuples == nil {
		if len(o.mappings) == 0 {
			return io.EOF
		}
		if err := o.open(); err != nil {
			return err
		}
	}
	row, err := o.tuples.rows.Next()
	if err == io.EOF {
		o.Close()
		return nil
	}
	if err != nil {
		return err
	}
	converter := o.tuples.converter
	if o.scratch, _, err = converter.Append(o.scratch[:0], row); err != nil {
		return err
	}
	o.row, o.changes = row, converter.Changes()
	return o.report()
}

// Close closes the current table.
func (o *Originals) Close() {
	if o.tuples != nil {
		o.tuples.Close()
		o.tuples = nil
	}
}

func (o *Originals) open() (err error) {
	e := o.result.extraction
	s := e.stages(o.mappings[0], &o.result.known)[0]
	o.mappings = o.mappings[1:]
	o.tuples, err = e.tuplesOf(o.ctx, s, o.result.Types)
	return err
}

// report calls onFinding once for a rejected row, otherwise for each changed cell.
func (o *Originals) report() error {
	if o.onFinding == nil || len(o.changes) == 0 {
		return nil
	}
	converter := o.tuples.converter
	f := mapping.Finding{Table: converter.Mapping.Table.Name, Key: converter.Key(o.row), RowID: o.row[0].Int}
	if why := converter.Rejection(); why != 0 {
		f.Reason, f.Rejected, f.Cells = why, true, o.changes
		return o.onFinding(f)
	}
	for _, c := range o.changes {
		f.Column, f.Reason, f.Note = c.Column, c.Reason, c.Note
		if err := o.onFinding(f); err != nil {
			return err
		}
	}
	return nil
}
