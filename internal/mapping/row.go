package mapping

import (
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// Options says how cells are converted.
type Options struct {
	// NaiveZone is where a time was written that names no zone.
	NaiveZone *time.Location
	// JSONDepth is how deep the server lets JSON be nested.
	JSONDepth int
}

// Witness finds a time for a column of a row that does not tell it itself, and
// says where it was found. row is as Converter.Append takes it.
type Witness func(table, column string, row []Value) (at Time, from string, err error)

// Converter makes tuples of a table's rows.
type Converter struct {
	Plan    *Plan
	Options Options
	Types   *Types
	// Aside are rows that have no place for a reason that they do not show
	// themselves, by rowid.
	Aside map[int64]Reason
	// Witness is asked for times; never nil.
	Witness Witness

	// What was counted so far of rows that have a place.
	Naive   map[string]int64 // times without a zone, by column
	Rounded map[string]*Loss // floats that were rounded to float4, by column

	changes []Change
	aside   Reason
	naive   []string  // columns of the row with a time without a zone
	losses  []rounded // of the row
}

// rounded is what a float of a row lost in a real column.
type rounded struct {
	column   string
	relative float64
}

// Loss is what rounding to float4 did to a column.
type Loss struct {
	Count   int64
	Largest float64 // the largest relative change
}

// WidenError is returned by Append when an integer column has to be bigint: the
// table is to be made anew and read again.
type WidenError struct{ Table, Column string }

func (e *WidenError) Error() string {
	return "column " + e.Table + "." + e.Column + " has to be bigint"
}

// Append appends row, a rowid and the plan's Columns, to dst as one tuple of
// PostgreSQL's binary COPY format
// (https://www.postgresql.org/docs/current/sql-copy.html), with all columns of
// the table. placed is false, and dst comes back as it was, for a row that
// has no place. The error is a *WidenError, or the witness's own.
func (c *Converter) Append(dst []byte, row []Value) (out []byte, placed bool, err error) {
	start := len(dst)
	c.changes, c.naive, c.losses, c.aside = c.changes[:0], c.naive[:0], c.losses[:0], c.Aside[row[rowID].Int]
	// What grows bit by bit leaves several times its size behind.
	size := 16 * len(row)
	for i := range row {
		size += len(row[i].Bytes)
	}
	dst = slices.Grow(dst, size)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(c.Plan.Fields)))
	for i := range c.Plan.Fields {
		if dst, err = c.appendField(dst, &c.Plan.Fields[i], row); err != nil {
			return dst[:start], false, err
		}
	}
	for _, at := range c.Plan.homeless {
		if v := row[at]; v.Class != Null {
			c.change(c.Plan.Columns[at-1], NoColumn, v)
		}
	}
	if c.aside != 0 {
		c.setAside(row)
		return dst[:start], false, nil
	}
	c.count()
	return dst, true, nil
}

// count adds what a row that has a place lost without an original.
func (c *Converter) count() {
	for _, column := range c.naive {
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

// Changes gives what did not arrive as it was of the row that was appended
// last; of a row without a place every cell. Good until the next Append.
func (c *Converter) Changes() []Change { return c.changes }

// Why gives the reasons why the row that was appended last has no place; 0 when
// it has one.
func (c *Converter) Why() Reason { return c.aside }

// Key gives the primary key of a row as PostgreSQL has it.
func (c *Converter) Key(row []Value) string { return c.Plan.KeyOf(c.keyValue(row)) }

func (c *Converter) keyValue(row []Value) Value {
	if c.Plan.key == absent {
		return Value{}
	}
	return row[c.Plan.key]
}

// KeyText gives the text that a key has in PostgreSQL.
func KeyText(v Value) string {
	if v.Class == Null {
		return ""
	}
	text, _ := appendText(nil, v)
	return string(text)
}

// appendField appends the length and the bytes of one field.
func (c *Converter) appendField(dst []byte, f *Field, row []Value) ([]byte, error) {
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
	if null && f.NotNull && reason&unplaceable == 0 {
		if v.Class == Null {
			reason |= NullValue
		}
		c.aside |= reason
	}
	c.aside |= reason & unplaceable
	size := uint32(math.MaxUint32) // -1: NULL
	if null {
		field = dst
	} else {
		size = uint32(len(field) - len(dst))
	}
	if reason != 0 && reason&GuessedTime == 0 {
		c.change(f.Name, reason, v)
	}
	binary.BigEndian.PutUint32(field[length:], size)
	return field, nil
}

func (c *Converter) change(column string, reason Reason, original Value) {
	c.changes = append(c.changes, Change{Column: column, Reason: reason, Original: original})
}

// setAside makes every cell of a row without a place a change.
func (c *Converter) setAside(row []Value) {
	why := slices.Clone(c.changes)
	c.changes = c.changes[:0]
	for i, name := range c.Plan.Columns {
		reason := c.aside
		for _, w := range why {
			if w.Column == name || w.Column == c.Plan.filledFrom(i+1) {
				reason |= w.Reason
			}
		}
		c.change(name, reason, row[i+1])
	}
}

// convert appends the binary form of v for the field's column to dst, or
// reports that it is NULL. What a time is taken from is noted here, since only
// here the row is at hand.
func (c *Converter) convert(dst []byte, f *Field, v Value, row []Value) (field []byte, null bool, reason Reason, err error) {
	if v.Class == Null && f.Kind != KindTime {
		if f.Name == c.Plan.Table.PrimaryKey {
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

// KeyOf gives the text that a key of the plan's table has in PostgreSQL.
func (p *Plan) KeyOf(v Value) string {
	if p.integerKey() {
		if whole, reason := wholeNumber(v); reason&(NoNumber|BeyondType) == 0 {
			return IntegerValue(whole).String()
		}
	}
	return KeyText(v)
}

// KeyFlaw says why a value can be no key of the plan's table; 0 when it can.
func (p *Plan) KeyFlaw(v Value) Reason {
	switch {
	case v.Class == Null:
		return NullKey
	case p.integerKey():
		_, reason := wholeNumber(v)
		return reason & (NoNumber | BeyondType)
	}
	return TextKeyFlaw(v)
}

// TextKeyFlaw says why a value can be no key that is text; 0 when it can.
func TextKeyFlaw(v Value) (flaw Reason) {
	if v.Class == Null {
		return NullKey
	}
	text, reason := appendText(nil, v)
	if reason&NUL != 0 {
		flaw |= NULInKey
	}
	if len(text) > longestIndexed {
		flaw |= TooLong
	}
	return flaw
}

// PlainKey reports whether a key becomes what it is, so that another one of
// its storage class cannot become the same.
func (p *Plan) PlainKey(v Value) bool {
	if p.integerKey() {
		return v.Class == Integer
	}
	if v.Class != Text {
		return false
	}
	_, reason := appendText(nil, v)
	return reason == 0
}

// PlainValue gives the plain key that becomes the given text.
func (p *Plan) PlainValue(key string) Value {
	if p.integerKey() {
		v := TextValue(key)
		whole, _ := wholeNumber(v)
		return IntegerValue(whole)
	}
	return TextValue(key)
}

func (p *Plan) integerKey() bool {
	for _, f := range p.Fields {
		if f.Name == p.Table.PrimaryKey {
			return f.Kind == KindInt
		}
	}
	return false
}
