package mapping

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"flujo-port/internal/sqlite"
)

// Options are the settings of a conversion.
type Options struct {
	// NaiveZone is the time zone of timestamps without one; nil means UTC.
	NaiveZone *time.Location
	// JSONDepth is the number of levels to which the server accepts nested JSON.
	JSONDepth int
}

// ZoneName returns the name of the time zone of timestamps without one.
func (o *Options) ZoneName() string {
	if o.NaiveZone == nil {
		return "UTC"
	}
	return o.NaiveZone.String()
}

// InferTimeFunc infers the timestamp of a column of a row, and returns where it was
// found. row is that of Converter.Append, and must not be retained.
type InferTimeFunc func(table, column string, row []sqlite.Value) (at Time, from string, err error)

// Converter converts rows of a state file's table to tuples. It is not safe for
// concurrent use.
type Converter struct {
	Mapping *TableMapping
	Options Options
	Types   *Types
	// Rejected are the rows that are rejected for reasons outside of the row, by
	// rowid.
	Rejected map[int64]Reason
	// InferTime infers missing timestamps; it must not be nil.
	InferTime InferTimeFunc

	// Naive and Rounded are counts of accepted rows, by column.
	Naive   map[string]int64 // timestamps without a time zone
	Rounded map[string]*Loss // floats that were rounded to float4

	changes      []Change
	rejectReason Reason
	rejectColumn string         // the first because of which the row is rejected
	naiveColumns []string       // the row's columns that have a timestamp without a time zone
	losses       []roundingLoss // of the row
}

// roundingLoss is the relative change of one float in a real column.
type roundingLoss struct {
	column   string
	relative float64
}

// Loss summarizes the rounding of a column to float4.
type Loss struct {
	Count   int64
	Largest float64 // the largest relative change
}

// WidenError is returned by Converter.Append if an integer column must become bigint.
// The table must then be copied again.
type WidenError struct{ Table, Column string }

func (e *WidenError) Error() string {
	return "column " + e.Table + "." + e.Column + " must be bigint"
}

// Tuples is a sequence of tuples of one table.
type Tuples interface {
	// Append appends the next tuple, in the binary COPY format and with all columns
	// of the table, to dst and returns the extended slice. After the last tuple it
	// returns io.EOF.
	Append(dst []byte) ([]byte, error)
}

// Append converts a row and appends it to dst as one tuple of PostgreSQL's binary COPY
// format (https://www.postgresql.org/docs/current/sql-copy.html), with all columns
// of the table. row is the rowid, followed by the values of the mapping's Columns.
// If the row is rejected, accepted is false and nothing is appended. The error is a
// *WidenError or the error of InferTime.
func (c *Converter) Append(dst []byte, row []sqlite.Value) (out []byte, accepted bool, err error) {
	start := len(dst)
	c.changes, c.naiveColumns, c.losses = c.changes[:0], c.naiveColumns[:0], c.losses[:0]
	c.rejectReason, c.rejectColumn = c.Rejected[row[rowID].Int], ""
	if c.rejectReason != 0 {
		c.rejectColumn = c.Mapping.Table.PrimaryKey
	}
	// Growing dst in small steps would allocate several times its size.
	size := 16 * len(row)
	for i := range row {
		size += len(row[i].Bytes)
	}
	dst = slices.Grow(dst, size)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(c.Mapping.Fields)))
	for i := range c.Mapping.Fields {
		if dst, err = c.appendField(dst, &c.Mapping.Fields[i], row); err != nil {
			return dst[:start], false, err
		}
	}
	for _, at := range c.Mapping.unmapped {
		if v := row[at]; v.Class != sqlite.Null {
			c.change(c.Mapping.Columns[at-1], UnmappedColumn, v)
		}
	}
	if c.rejectReason != 0 {
		c.rejectRow(row)
		return dst[:start], false, nil
	}
	c.count()
	return dst, true, nil
}

// count adds an accepted row to Naive and Rounded.
func (c *Converter) count() {
	for _, column := range c.naiveColumns {
		if c.Naive == nil {
			c.Naive = map[string]int64{}
		}
		c.Naive[column]++
	}
	for _, r := range c.losses {
		if c.Rounded == nil {
			c.Rounded = map[string]*Loss{}
		}
		loss := c.Rounded[r.column]
		if loss == nil {
			loss = &Loss{}
			c.Rounded[r.column] = loss
		}
		loss.Count++
		loss.Largest = max(loss.Largest, r.relative)
	}
}

// Changes returns the changes of the last row that was passed to Append; for a
// rejected row these are all of its cells. They are valid until the next Append.
func (c *Converter) Changes() []Change { return c.changes }

// Rejection returns the reasons why the last row that was passed to Append is
// rejected; 0 if it is accepted.
func (c *Converter) Rejection() Reason { return c.rejectReason }

// RejectedBy returns the first column because of which the last row is rejected, and its
// value in the state file; Null if the state file has no such column.
func (c *Converter) RejectedBy(row []sqlite.Value) (column string, value sqlite.Value) {
	if at := slices.Index(c.Mapping.Columns, c.rejectColumn); at >= 0 {
		value = row[at+1]
	}
	return c.rejectColumn, value
}

// Key returns the primary key of a row as PostgreSQL has it, as text.
func (c *Converter) Key(row []sqlite.Value) string { return c.Mapping.KeyOf(c.keyValue(row)) }

func (c *Converter) keyValue(row []sqlite.Value) sqlite.Value {
	if c.Mapping.key == absent {
		return sqlite.Value{}
	}
	return row[c.Mapping.key]
}

// KeyText returns the text of a text key in PostgreSQL; "" for NULL.
func KeyText(v sqlite.Value) string {
	if v.Class == sqlite.Null {
		return ""
	}
	text, _ := appendText(nil, v)
	return string(text)
}

// appendField appends the length and the bytes of one field.
func (c *Converter) appendField(dst []byte, f *Field, row []sqlite.Value) ([]byte, error) {
	v := f.value
	if f.from != absent {
		v = row[f.from]
	}
	length := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	field, null, reason, err := c.convert(dst, f, v, row)
	if err != nil {
		return dst, err
	}
	if null && f.NotNull && reason&rejections == 0 {
		if v.Class == sqlite.Null {
			reason |= MissingValue
		}
		c.reject(f, reason)
	}
	c.reject(f, reason&rejections)
	size := uint32(math.MaxUint32) // -1: NULL
	if null {
		field = dst
	} else {
		size = uint32(len(field) - len(dst))
	}
	if reason != 0 && reason&TimeInferred == 0 {
		c.change(f.Name, reason, v)
	}
	binary.BigEndian.PutUint32(field[length:], size)
	return field, nil
}

// reject adds reasons to reject the row, which may be none.
func (c *Converter) reject(f *Field, reason Reason) {
	if reason != 0 && c.rejectReason == 0 {
		c.rejectColumn = f.Name
	}
	c.rejectReason |= reason
}

func (c *Converter) change(column string, reason Reason, original sqlite.Value) {
	c.changes = append(c.changes, Change{Column: column, Reason: reason, Original: original})
}

// rejectRow makes every cell of a rejected row a change.
func (c *Converter) rejectRow(row []sqlite.Value) {
	why := slices.Clone(c.changes)
	c.changes = c.changes[:0]
	for i, name := range c.Mapping.Columns {
		reason := c.rejectReason
		for _, w := range why {
			if w.Column == name || w.Column == c.Mapping.filledFrom(i+1) {
				reason |= w.Reason
			}
		}
		c.change(name, reason, row[i+1])
	}
}

// convert appends the binary form of v for the field's column to dst, or reports
// that the field is NULL.
func (c *Converter) convert(
	dst []byte, f *Field, v sqlite.Value, row []sqlite.Value,
) (field []byte, null bool, reason Reason, err error) {
	if v.Class == sqlite.Null && f.Kind != KindTime {
		if f.Name == c.Mapping.Table.PrimaryKey {
			return dst, true, NullKey, nil
		}
		return dst, true, 0, nil
	}
	switch f.Kind {
	case KindText:
		field, reason = c.appendTextField(dst, f, v)
	case KindInt:
		return c.appendInt(dst, f, v)
	case KindFloat4, KindFloat8:
		field, null, reason = c.appendFloat(dst, f, v)
	case KindBool:
		field, reason = appendBool(dst, v)
	case KindTime:
		return c.appendTime(dst, f, v, row)
	case KindJSON:
		field, null, reason = c.appendJSON(dst, f, v)
	case KindVector:
		field, reason = c.appendVector(dst, v)
	}
	return field, null, reason, nil
}

// KeyOf returns the text of a key of the mapped table in PostgreSQL.
func (p *TableMapping) KeyOf(v sqlite.Value) string {
	if p.integerKey() {
		if whole, reason := wholeNumber(v); reason&(NotANumber|OutOfRange) == 0 {
			return sqlite.IntegerValue(whole).String()
		}
	}
	return KeyText(v)
}

// KeyFlaw returns the reasons why v cannot be a key of the mapped table; 0 if it can.
func (p *TableMapping) KeyFlaw(v sqlite.Value) Reason {
	switch {
	case v.Class == sqlite.Null:
		return NullKey
	case p.integerKey():
		_, reason := wholeNumber(v)
		return reason & (NotANumber | OutOfRange)
	}
	return TextKeyFlaw(v)
}

// TextKeyFlaw returns the reasons why v cannot be a text key; 0 if it can.
func TextKeyFlaw(v sqlite.Value) (flaw Reason) {
	if v.Class == sqlite.Null {
		return NullKey
	}
	text, reason := appendText(nil, v)
	if reason&NULRemoved != 0 {
		flaw |= NULInKey
	}
	if len(text) > longestIndexed {
		flaw |= TextTooLong
	}
	return flaw
}

// PlainKey reports whether a key is stored unchanged, so that no other key of its
// storage class can become equal to it.
func (p *TableMapping) PlainKey(v sqlite.Value) bool {
	if p.integerKey() {
		return v.Class == sqlite.Integer
	}
	if v.Class != sqlite.Text {
		return false
	}
	_, reason := appendText(nil, v)
	return reason == 0
}

// PlainValue returns the plain key whose text in PostgreSQL is key.
func (p *TableMapping) PlainValue(key string) sqlite.Value {
	if p.integerKey() {
		v := sqlite.TextValue(key)
		whole, _ := wholeNumber(v)
		return sqlite.IntegerValue(whole)
	}
	return sqlite.TextValue(key)
}

func (p *TableMapping) integerKey() bool {
	for _, f := range p.Fields {
		if f.Name == p.Table.PrimaryKey {
			return f.Kind == KindInt
		}
	}
	return false
}
