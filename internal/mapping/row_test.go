package mapping

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"flujo-port/internal/pgtest"
	"flujo-port/internal/sqlite"
)

// splitTuple returns the fields of a tuple of binary COPY, nil for NULL.
func splitTuple(t testing.TB, b []byte) [][]byte {
	t.Helper()
	take := func(n int) []byte {
		if len(b) < n {
			t.Fatalf("the tuple ends %d bytes early", n-len(b))
		}
		piece := b[:n]
		b = b[n:]
		return piece
	}
	fields := make([][]byte, binary.BigEndian.Uint16(take(2)))
	for i := range fields {
		if n := int32(binary.BigEndian.Uint32(take(4))); n >= 0 {
			fields[i] = slices.Clip(take(int(n)))
		} else if n != -1 {
			t.Fatalf("field %d has length %d", i, n)
		}
	}
	if len(b) > 0 {
		t.Fatalf("%d bytes after the tuple", len(b))
	}
	return fields
}

// decode reads a field as pgx does.
func decode[T any](t testing.TB, oid uint32, field []byte) T {
	t.Helper()
	var v T
	if err := pgtype.NewMap().Scan(oid, pgtype.BinaryFormatCode, field, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// sameValue reports whether two cells are identical.
func sameValue(a, b sqlite.Value) bool {
	return a.Class == b.Class && a.Int == b.Int && math.Float64bits(a.Real) == math.Float64bits(b.Real) &&
		string(a.Bytes) == string(b.Bytes)
}

// sameChanges fails the test unless the changes are equal, in this order.
func sameChanges(t testing.TB, got, want []Change) {
	t.Helper()
	same := func(a, b Change) bool {
		return a.Column == b.Column && a.Reason == b.Reason && a.Note == b.Note && sameValue(a.Original, b.Original)
	}
	if !slices.EqualFunc(got, want, same) {
		t.Errorf("the changes are\n%v, not\n%v", showChanges(got), showChanges(want))
	}
}

func showChanges(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s: %s %s %s %s\n", c.Column, c.Original.Class, c.Original, c.Reason, c.Note)
	}
	return b.String()
}

// mappingOf returns the mapping of a table with these columns in a file.
func mappingOf(t testing.TB, table string, columns ...string) *TableMapping {
	t.Helper()
	format, err := DetectFormat(map[string][]string{table: columns})
	if err != nil {
		t.Fatal(err)
	}
	return format.Mapping(table)
}

// mappingOfAllColumns returns the mapping of a table that has all of its columns in a file.
func mappingOfAllColumns(t testing.TB, table string) *TableMapping {
	t.Helper()
	return mappingOf(
		t,
		table,
		names(Tables[slices.IndexFunc(Tables, func(t Table) bool { return t.Name == table })].Columns)...)
}

// onlyColumn returns the mapping of a table with a key and one column of the given
// kind.
func onlyColumn(kind Kind, required bool) *TableMapping {
	table := &Table{Name: "cells", PrimaryKey: "id", Columns: []Column{
		notNull(textColumn("id")), {Name: "cell", Kind: kind, NotNull: required},
	}}
	p, _ := newTableMapping(table, names(table.Columns), true)
	return &p
}

// newConverter returns a converter for the mapping that infers no timestamps.
func newConverter(t testing.TB, p *TableMapping) *Converter {
	return &Converter{
		Mapping: p, Options: Options{NaiveZone: time.UTC, JSONDepth: 10_000}, Types: NewTypes(false),
		InferTime: func(table, column string, _ []sqlite.Value) (Time, string, error) {
			t.Errorf("a time for %s.%s is asked for", table, column)
			return Time{}, "", nil
		},
	}
}

// appendRow appends a row that must be accepted, and returns its fields.
func appendRow(t testing.TB, c *Converter, row ...sqlite.Value) [][]byte {
	t.Helper()
	out, accepted, err := c.Append([]byte("before"), row)
	if err != nil || !accepted || c.Rejection() != 0 {
		t.Fatalf("accepted %v, why %q, error %v", accepted, c.Rejection(), err)
	}
	tuple, ok := strings.CutPrefix(string(out), "before")
	if !ok {
		t.Fatalf("what was there before is gone: %q", out)
	}
	return splitTuple(t, []byte(tuple))
}

// rejected appends a row that must be rejected for the given reason. It checks that
// nothing was appended, and that every cell of the row is a change.
func rejected(t testing.TB, c *Converter, why Reason, row ...sqlite.Value) {
	t.Helper()
	out, accepted, err := c.Append([]byte("before"), row)
	if err != nil || accepted {
		t.Fatalf("accepted %v, error %v", accepted, err)
	}
	if string(out) != "before" {
		t.Errorf("%q came back", out)
	}
	if c.Rejection() != why {
		t.Errorf("the row is rejected for %q, not for %q", c.Rejection(), why)
	}
	changes := c.Changes()
	if len(changes) != len(c.Mapping.Columns) || len(row) != len(c.Mapping.Columns)+1 {
		t.Fatalf("%d changes, %d columns, %d cells", len(changes), len(c.Mapping.Columns), len(row))
	}
	for i, change := range changes {
		if change.Column != c.Mapping.Columns[i] || !sameValue(change.Original, row[i+1]) || change.Reason&why != why {
			t.Errorf(
				"%s of %s is stored as %s of %s for %q",
				row[i+1],
				c.Mapping.Columns[i],
				change.Original,
				change.Column,
				change.Reason,
			)
		}
	}
}

func TestAppendAppends(t *testing.T) {
	t.Parallel()
	c := newConverter(t, onlyColumn(KindInt, false))
	var buf []byte
	for i := range int64(3) {
		var accepted bool
		var err error
		if buf, accepted, err = c.Append(buf, []sqlite.Value{integer(i), text("k"), integer(i)}); err != nil ||
			!accepted {
			t.Fatal(accepted, err)
		}
	}
	const size = 2 + 4 + 1 + 4 + 4
	if len(buf) != 3*size {
		t.Fatalf("%d bytes, not %d", len(buf), 3*size)
	}
	for i := range 3 {
		fields := splitTuple(t, buf[i*size:(i+1)*size])
		if n := decode[int32](t, pgtype.Int4OID, fields[1]); n != int32(i) {
			t.Errorf("tuple %d holds %d", i, n)
		}
	}
}

// TestAppendForgets checks that the results for one row are not part of those for the
// next.
func TestAppendForgets(t *testing.T) {
	t.Parallel()
	c := newConverter(t, onlyColumn(KindInt, true))
	id, bad, odd, good := text("k"), text("x"), real(1.5), integer(1)
	rejected(t, c, NotANumber, integer(1), id, bad)
	appendRow(t, c, integer(2), id, odd)
	sameChanges(t, c.Changes(), []Change{{Column: "cell", Reason: Rounded, Original: odd}})
	appendRow(t, c, integer(3), id, good)
	sameChanges(t, c.Changes(), nil)
}

// TestAppendSeveralChanges checks that exactly the changed columns are reported.
func TestAppendSeveralChanges(t *testing.T) {
	t.Parallel()
	c := newConverter(
		t,
		mappingOf(
			t,
			"evaluations",
			"id",
			"run_id",
			"step_name",
			"score",
			"feedback",
			"metadata",
			"created_at",
			"weather",
		),
	)
	row := []sqlite.Value{
		integer(9), integer(4), text("run"), text("a\x00b\xff"), text(" 1.5 "),
		blob([]byte("plain")),
		text(`{"a": NaN, "b": "\u0000\ud800"}`), text("2026-01-05T09:00:01.1234567Z"), real(20.5),
	}
	fields := appendRow(t, c, row...)
	sameChanges(t, c.Changes(), []Change{
		{Column: "step_name", Reason: NULRemoved | InvalidUTF8, Original: row[3]},
		{Column: "score", Reason: TextAsNumber, Original: row[4]},
		{Column: "metadata", Reason: NonFiniteNumber | NULRemoved | LoneSurrogate, Original: row[6]},
		{Column: "created_at", Reason: TimeTruncated, Original: row[7]},
		{Column: "weather", Reason: UnmappedColumn, Original: row[8]},
	})
	if len(fields) != 7 || decode[int32](t, pgtype.Int4OID, fields[0]) != 4 || string(fields[1]) != "run" ||
		string(fields[2]) != "ab\ufffd" ||
		decode[float64](t, pgtype.Float8OID, fields[3]) != 1.5 ||
		string(fields[4]) != "plain" ||
		string(fields[5]) != "\x01"+`{"a": "NaN", "b": "`+"\ufffd"+`"}` ||
		!decode[time.Time](t, pgtype.TimestamptzOID, fields[6]).
			Equal(time.Date(2026, 1, 5, 9, 0, 1, 123456000, time.UTC)) {
		t.Errorf("the fields are %q", fields)
	}
}

func TestAppendUnmapped(t *testing.T) {
	t.Parallel()
	c := newConverter(t, mappingOf(t, "system_state", "note", "key", "value", "updated_at", "price"))
	row := []sqlite.Value{integer(1), {}, text("k"), text("1"), text("2026-01-05"), {}}
	if fields := appendRow(t, c, row...); len(fields) != 3 || string(fields[0]) != "k" {
		t.Errorf("unmapped columns are in the tuple: %q", fields)
	}
	sameChanges(t, c.Changes(), nil)
	for _, v := range []sqlite.Value{
		real(0), integer(0), text(""), blob([]byte{}), text("a\x00\xff"),
		real(math.Inf(1)),
	} {
		row[1], row[5] = v, v
		if fields := appendRow(t, c, row...); len(fields) != 3 {
			t.Errorf("%d fields", len(fields))
		}
		sameChanges(
			t,
			c.Changes(),
			[]Change{
				{Column: "note", Reason: UnmappedColumn, Original: v},
				{Column: "price", Reason: UnmappedColumn, Original: v},
			},
		)
	}
}

// TestAppendRejectedRows checks every reason for which a row is rejected because of its
// own cells, in the tables that have it.
func TestAppendRejectedRows(t *testing.T) {
	t.Parallel()
	state := []sqlite.Value{integer(3), text("key"), text("1"), text("2026-01-05")}
	step := []sqlite.Value{
		integer(7), integer(7), text("run"), text("name"), integer(0), text("ok"), {}, {},
		{}, {}, {}, text("2026-01-05"),
	}
	span := []sqlite.Value{
		integer(7), integer(7), text("run"), text("span"), {}, text("name"), real(1), {},
		text("ok"), {}, text("2026-01-05"),
	}
	memory := []sqlite.Value{integer(1), text("m"), blob(packed(1, 2)), {}, {}, {}}
	run := make([]sqlite.Value, len(mappingOfAllColumns(t, Runs).Columns)+1)
	flow := make([]sqlite.Value, len(mappingOfAllColumns(t, "workflow_state").Columns)+1)
	for i := 1; i < 8; i++ {
		run[i] = text("2026-01-05")
	}
	for _, i := range []int{1, 2, 3, 4, 9, 10, 11} {
		flow[i] = text("2026-01-05")
	}
	flow[5] = integer(0)
	long := strings.Repeat("x", longestIndexed+1)
	for _, tc := range []struct {
		name, table, column string
		row                 []sqlite.Value
		cell                sqlite.Value
		why                 Reason
	}{
		{"NULL in a key of text", "system_state", "key", state, sqlite.Value{}, NullKey},
		{"NULL in a serial", "steps", "id", step, sqlite.Value{}, NullKey},
		{"no number in a serial", "steps", "id", step, text("seven"), NotANumber},
		{"a number beyond all types in a serial", "steps", "id", step, real(1e19), OutOfRange},
		{
			"text beyond all types in a serial", "steps", "id", step, text("9223372036854775808"),
			TextAsNumber | OutOfRange,
		},
		{"NUL in a key", "system_state", "key", state, text("a\x00b"), NULInKey},
		{"NUL in a BLOB for a key", "system_state", "key", state, blob([]byte{0}), NULInKey},
		{"NUL in a run's key", Runs, "run_id", run, text("a\x00b"), NULInKey},
		{"NUL in a run_id that refers", "steps", "run_id", step, text("a\x00\xffb"), NULInKey},
		{"NUL in a span's run_id", Spans, "run_id", span, text("\x00"), NULInKey},
		{"NULL where a run_id refers", "steps", "run_id", step, sqlite.Value{}, MissingValue},
		{"NULL in required text", "steps", "step_name", step, sqlite.Value{}, MissingValue},
		{"NULL in a required integer", "steps", "step_index", step, sqlite.Value{}, MissingValue},
		{"NULL in a required float", Spans, "start_time", span, sqlite.Value{}, MissingValue},
		{"NULL in required JSON", "system_state", "value", state, sqlite.Value{}, MissingValue},
		{"text in a required integer", "steps", "step_index", step, text("first"), NotANumber},
		{"a BLOB in a required float", Spans, "start_time", span, blob([]byte("1")), NotANumber},
		{"Infinity in a required integer", "steps", "step_index", step, real(math.Inf(-1)), OutOfRange},
		{"a long key", "system_state", "key", state, text(long), TextTooLong},
		{"a long run_id that refers", Spans, "run_id", span, blob([]byte(long)), TextTooLong},
		{"a long parent", Spans, "parent_span_id", span, text(long), TextTooLong},
		{"long status", "workflow_state", "status", flow, text(long), TextTooLong},
		{"long name of a run", Runs, "pipeline_name", run, text(long), TextTooLong},
		{
			"long in PostgreSQL only", "system_state", "key", state,
			text(strings.Repeat("\xff", longestIndexed/3+1)), TextTooLong,
		},
		{"text for a vector", Memories, "vector", memory, text("[1,2]"), InvalidVector},
		{"another size", Memories, "vector", memory, blob(packed(1, 2, 3)), VectorDimensionMismatch},
		{"NULL in a memory's key", Memories, "id", memory, sqlite.Value{}, NullKey},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newConverter(t, mappingOfAllColumns(t, tc.table))
			c.Types.VectorSize = 2
			row := slices.Clone(tc.row)
			appendRow(t, c, row...)
			row[c.Mapping.Position(tc.column)] = tc.cell
			rejected(t, c, tc.why, row...)
			text := tc.cell.Class == sqlite.Text || tc.cell.Class == sqlite.Blob
			for _, change := range c.Changes() {
				of := change.Reason &^ tc.why // what else happened to the cell
				isIt := change.Column == tc.column && text
				hasNUL := bytes.IndexByte(tc.cell.Bytes, 0) >= 0
				if want := isIt && hasNUL && tc.why == NULInKey; (of&NULRemoved != 0) != want {
					t.Errorf("%s is stored for %q", change.Column, change.Reason)
				}
				if want := isIt && bytes.IndexByte(tc.cell.Bytes, 0xff) >= 0; (of&InvalidUTF8 != 0) != want ||
					of&^(NULRemoved|InvalidUTF8) != 0 {
					t.Errorf("%s is stored for %q", change.Column, change.Reason)
				}
			}
			appendRow(t, c, tc.row...)
		})
	}
}

// TestAppendLongText checks that text without an index may have any length, and indexed
// text has a limit.
func TestAppendLongText(t *testing.T) {
	t.Parallel()
	long, fits := text(strings.Repeat("x", 100_000)), text(strings.Repeat("x", longestIndexed))
	c := newConverter(t, mappingOfAllColumns(t, "evaluations"))
	row := []sqlite.Value{integer(1), integer(1), fits, long, real(1), long, {}, text("2026-01-05")}
	if fields := appendRow(t, c, row...); len(fields[1]) != longestIndexed || len(fields[2]) != 100_000 ||
		len(fields[4]) != 100_000 {
		t.Error("text was cut")
	}
	sameChanges(t, c.Changes(), nil)
}

// TestAppendSeveralRejectionReasons checks that all reasons are reported, and the
// changes of cells too.
func TestAppendSeveralRejectionReasons(t *testing.T) {
	t.Parallel()
	c := newConverter(t, mappingOf(t, "system_state", "key", "value", "updated_at", "extra"))
	c.Rejected = map[int64]Reason{41: DuplicateKey}
	row := []sqlite.Value{integer(41), {}, {}, text("2026-01-05T00:00:00.0000001"), text("kept")}
	rejected(t, c, DuplicateKey|NullKey|MissingValue, row...)
	all := DuplicateKey | NullKey | MissingValue
	sameChanges(t, c.Changes(), []Change{
		{Column: "key", Reason: all, Original: row[1]},
		{Column: "value", Reason: all, Original: row[2]},
		{Column: "updated_at", Reason: all | TimeTruncated, Original: row[3]},
		{Column: "extra", Reason: all | UnmappedColumn, Original: row[4]},
	})
}

// TestAppendRejectedInOldFormats checks that the cells of a rejected row have the
// file's column names, and the reasons of Flujo's current columns.
func TestAppendRejectedInOldFormats(t *testing.T) {
	t.Parallel()
	c := newConverter(
		t,
		mappingOf(
			t,
			"steps",
			strings.Fields("step_run_id run_id step_name step_index status start_time cost tokens output_blob")...),
	)
	row := []sqlite.Value{
		integer(5), text("s-1"), sqlite.Value{}, text("n"), integer(0), text("ok"),
		text("2026-01-05T00:00:00.0000001"),
		text("dear"), real(2.5), text("{"),
	}
	rejected(t, c, MissingValue, row...)
	reasons := map[string]Reason{
		"step_run_id": UnmappedColumn,
		"start_time":  TimeTruncated,
		"cost":        NotANumber,
		"tokens":      Rounded,
		"output_blob": InvalidJSON,
	}
	var want []Change
	for i, column := range c.Mapping.Columns {
		want = append(want, Change{Column: column, Reason: MissingValue | reasons[column], Original: row[i+1]})
	}
	sameChanges(t, c.Changes(), want)
}

// TestLongestIndexedOnServer checks that PostgreSQL's index accepts a key of the
// maximum length, even if it cannot be compressed, and rejects one that is a little
// longer.
func TestLongestIndexedOnServer(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(ctx, "CREATE TABLE t (k text PRIMARY KEY, n int)"); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(5, 6))
	key := func(length int) string {
		b := make([]byte, length)
		for i := range b {
			b[i] = byte('!' + random.IntN(90))
		}
		return string(b)
	}
	for length := longestIndexed - 10; length <= longestIndexed; length++ {
		if _, err := conn.Exec(ctx, "INSERT INTO t VALUES ($1)", key(length)); err != nil {
			t.Errorf("a key of %d bytes: %v", length, err)
		}
	}
	_, err = conn.Exec(ctx, "INSERT INTO t VALUES ($1)", key(longestIndexed+20))
	if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code != "54000" { // program_limit_exceeded
		t.Errorf("a longer key: %v", err)
	}
}

func TestAppendRejected(t *testing.T) {
	t.Parallel()
	c := newConverter(t, onlyColumn(KindText, false))
	c.Rejected = map[int64]Reason{2: DuplicateKey, -9: DuplicateKey}
	for rowid, why := range map[int64]Reason{1: 0, 2: DuplicateKey, -9: DuplicateKey, 0: 0} {
		row := []sqlite.Value{integer(rowid), text("k"), {}}
		if why == 0 {
			appendRow(t, c, row...)
			continue
		}
		rejected(t, c, why, row...)
	}
}

// TestRejectedRowsAreNotCounted checks that rejected rows do not count in Naive and
// Rounded.
func TestRejectedRowsAreNotCounted(t *testing.T) {
	t.Parallel()
	c := newConverter(t, mappingOfAllColumns(t, "steps"))
	row := []sqlite.Value{
		integer(7), integer(7), text("run"), text("name"), {}, text("ok"), {}, {},
		real(0.1), {}, {}, text("2026-01-05"),
	}
	rejected(t, c, MissingValue, row...)
	if len(c.Naive) != 0 || len(c.Rounded) != 0 {
		t.Errorf("counted are %v, %v", c.Naive, c.Rounded)
	}
	row[4] = integer(0)
	for range 2 {
		appendRow(t, c, row...)
	}
	if c.Naive["created_at"] != 2 || c.Rounded["cost_usd"] == nil || c.Rounded["cost_usd"].Count != 2 {
		t.Errorf("counted are %v, %v", c.Naive, c.Rounded)
	}
}

func TestAppendWidens(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		cell sqlite.Value
		wide int64
	}{
		{integer(math.MaxInt32 + 1), math.MaxInt32 + 1},
		{integer(math.MinInt32 - 1), math.MinInt32 - 1},
		{integer(math.MaxInt64), math.MaxInt64},
		{integer(math.MinInt64), math.MinInt64},
		{real(2147483647.5), 2147483648},
		{real(-2147483649), -2147483649},
		{real(math.Nextafter(1<<63, 0)), 9223372036854774784},
		{real(-1 << 63), math.MinInt64},
		{text("9223372036854775807"), math.MaxInt64},
		{text(" -9223372036854775808\n"), math.MinInt64},
		{text("3e9"), 3_000_000_000},
	} {
		t.Run(tc.cell.String(), func(t *testing.T) {
			t.Parallel()
			for _, column := range []string{"id", "token_counts"} {
				c := newConverter(t, mappingOfAllColumns(t, "steps"))
				row := []sqlite.Value{
					integer(7), integer(7), text("run"), text("name"), integer(0),
					text("ok"), {}, {}, {}, {}, {},
					text("2026-01-05"),
				}
				at := c.Mapping.Position(column)
				row[at] = tc.cell
				out, accepted, err := c.Append([]byte("before"), row)
				wide, ok := errors.AsType[*WidenError](err)
				if !ok || *wide != (WidenError{Table: "steps", Column: column}) || accepted || string(out) != "before" {
					t.Fatalf("%q, accepted %v, error %v", out, accepted, err)
				}
				if err.Error() != "column steps."+column+" must be bigint" {
					t.Errorf("it says %q", err)
				}
				c.Types.Wide["steps."+column] = true
				fields := appendRow(t, c, row...)
				if got := decode[int64](t, pgtype.Int8OID, fields[at-1]); len(fields[at-1]) != 8 || got != tc.wide {
					t.Errorf("it is %d, not %d", got, tc.wide)
				}
				if len(fields[3]) != 4 {
					t.Errorf("step_index has %d bytes", len(fields[3]))
				}
				row[at] = integer(-1) // small ones are as wide
				if got := decode[int64](t, pgtype.Int8OID, appendRow(t, c, row...)[at-1]); got != -1 {
					t.Errorf("-1 is %d", got)
				}
			}
		})
	}
}

// TestAppendEveryTable converts a row of each of Flujo's tables, and decodes it by the
// columns' types.
func TestAppendEveryTable(t *testing.T) {
	t.Parallel()
	cells := map[Kind]sqlite.Value{
		KindText: text("x"), KindInt: integer(7), KindFloat4: real(0.5), KindFloat8: real(0.25),
		KindJSON: text("[]"), KindTime: text("2000-01-01T00:00:01Z"), KindBool: integer(1),
		KindVector: blob(make([]byte, 4*VectorSize)),
	}
	sizes := map[Kind]int{
		KindText: 1, KindInt: 4, KindFloat4: 4, KindFloat8: 8, KindJSON: 3, KindTime: 8, KindBool: 1,
		KindVector: 4 + 4*VectorSize,
	}
	for i := range Tables {
		table := &Tables[i]
		c := newConverter(t, mappingOfAllColumns(t, table.Name))
		c.Types.VectorSize = VectorSize
		full, empty := []sqlite.Value{integer(1)}, []sqlite.Value{integer(1)}
		for _, column := range table.Columns {
			full = append(full, cells[column.Kind])
			empty = append(empty, sqlite.Value{})
			if column.NotNull {
				empty[len(empty)-1] = cells[column.Kind]
			}
		}
		for _, row := range [][]sqlite.Value{full, empty} {
			fields := appendRow(t, c, row...)
			if len(fields) != len(table.Columns) {
				t.Fatalf("%s: %d fields", table.Name, len(fields))
			}
			for n, field := range fields {
				column, v := table.Columns[n], row[n+1]
				if null := v.Class == sqlite.Null; null != (field == nil) || !null && len(field) != sizes[column.Kind] {
					t.Errorf("%s.%s of %s is %q", table.Name, column.Name, v, field)
				}
			}
			sameChanges(t, c.Changes(), nil)
		}
	}
}

// TestAppendFullMapping checks that rows that are not in the file have all columns, and
// that their rowid is not used.
func TestAppendFullMapping(t *testing.T) {
	t.Parallel()
	for i := range Tables {
		table := &Tables[i]
		tm := FullMapping(table.Name)
		if tm.InFile || tm.Table != table || !slices.Equal(tm.Columns, names(table.Columns)) ||
			!slices.Equal(filled(t, tm), names(table.Columns)) {
			t.Errorf("%s is filled by %q in %q", table.Name, tm.Columns, filled(t, tm))
		}
	}
	if FullMapping("zebra") != nil {
		t.Error("there is a mapping for an unknown table")
	}
	c := newConverter(t, FullMapping(Traces))
	fields := appendRow(t, c, sqlite.Value{}, text("run"), text("{}"), text("2000-01-01 00:00:00"))
	if string(fields[0]) != "run" || string(fields[1]) != "\x01{}" || string(fields[2]) != strings.Repeat("\x00", 8) {
		t.Errorf("%q", fields)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	type keyCase struct {
		cell  sqlite.Value
		want  string // what PostgreSQL has
		plain bool
	}
	for table, cases := range map[string][]keyCase{
		"system_state": {
			{text("a"), "a", true},
			{text(""), "", true},
			{text("é 🜁\n"), "é 🜁\n", true},
			{text("12"), "12", true},
			{blob([]byte("a")), "a", false},
			{blob([]byte{}), "", false},
			{blob([]byte("\xfe")), "\ufffd", false},
			{text("caf\xe9"), "caf\ufffd", false},
			{text("a\x00b"), "ab", false},
			{integer(12), "12", false},
			{real(12.5), "12.5", false},
			{real(minusZero), "0", false},
			{real(1e21), "1e+21", false},
			{sqlite.Value{}, "", false},
		},
		"steps": {
			{integer(12), "12", true},
			{integer(math.MinInt64), "-9223372036854775808", true},
			{real(12), "12", false},
			{real(12.5), "12", false},
			{real(13.5), "14", false},
			{real(-0.5), "0", false},
			{text("12"), "12", false},
			{text(" +12 "), "12", false},
			{text("1.2e1"), "12", false},
			{text("twelve"), "twelve", false},
			{text("9223372036854775808"), "9223372036854775808", false},
			{real(1e300), "1e+300", false},
			{real(math.Inf(1)), "+Inf", false},
			{blob([]byte("12")), "12", false},
			{sqlite.Value{}, "", false},
		},
	} {
		tm := mappingOfAllColumns(t, table)
		c := newConverter(t, tm)
		row := make([]sqlite.Value, len(tm.Columns)+1)
		for _, tc := range cases {
			row[1] = tc.cell
			if got := tm.KeyOf(tc.cell); got != tc.want {
				t.Errorf("%s: %s becomes %q, not %q", table, tc.cell, got, tc.want)
			}
			if got := c.Key(row); got != tc.want {
				t.Errorf("%s: a row of %s has the key %q, not %q", table, tc.cell, got, tc.want)
			}
			if got := tm.PlainKey(tc.cell); got != tc.plain {
				t.Errorf("%s: %s is plain: %v", table, tc.cell, got)
			}
			if tc.plain && !sameValue(tm.PlainValue(tc.want), tc.cell) {
				t.Errorf("%s: %q is of %s", table, tc.want, tm.PlainValue(tc.want))
			}
		}
	}
}

// TestKeysAreAsAppended checks that the reported key of a row is the one in its tuple.
func TestKeysAreAsAppended(t *testing.T) {
	t.Parallel()
	for _, cell := range []sqlite.Value{
		text("a\xffb"), blob([]byte("7")), text("7"), integer(7), real(7.5),
		text(" 7.5 "), text("7e0"), real(-0.4), real(minusZero),
	} {
		c := newConverter(t, mappingOfAllColumns(t, "system_state"))
		row := []sqlite.Value{integer(1), cell, text("1"), text("2026-01-05")}
		if field := appendRow(t, c, row...)[0]; c.Key(row) != string(field) {
			t.Errorf("%s is %q, said to be %q", cell, field, c.Key(row))
		}
		c = newConverter(t, mappingOfAllColumns(t, "evaluations"))
		row = []sqlite.Value{integer(1), cell, text("run"), {}, real(1), {}, {}, text("2026-01-05")}
		out, accepted, err := c.Append(nil, row)
		if err != nil {
			t.Fatal(err)
		}
		if !accepted {
			if c.Key(row) == "" {
				t.Errorf("%s has no key to be found by", cell)
			}
			continue
		}
		if got := decode[int32](t, pgtype.Int4OID, splitTuple(t, out)[0]); c.Key(row) != strconv.Itoa(int(got)) {
			t.Errorf("%s is %d, said to be %q", cell, got, c.Key(row))
		}
	}
}

// TestKeyFromRowID checks that steps of 0.4 get their ids in the order of their rowids.
func TestKeyFromRowID(t *testing.T) {
	t.Parallel()
	c := newConverter(
		t,
		mappingOf(t, "steps", strings.Fields("step_run_id run_id step_name step_index status start_time")...),
	)
	row := []sqlite.Value{
		integer(12),
		text("s"),
		text("run"),
		text("n"),
		integer(0),
		text("ok"),
		text("2026-01-05"),
	}
	fields := appendRow(t, c, row...)
	if got := decode[int32](t, pgtype.Int4OID, fields[0]); got != 12 || c.Key(row) != "12" ||
		c.Mapping.KeyColumn() != "" {
		t.Errorf("id %d, key %q of column %q", got, c.Key(row), c.Mapping.KeyColumn())
	}
	sameChanges(t, c.Changes(), []Change{{Column: "step_run_id", Reason: UnmappedColumn, Original: row[1]}})
	row[0] = integer(1 << 40)
	if _, _, err := c.Append(nil, row); err == nil || err.Error() != "column steps.id must be bigint" {
		t.Errorf("a large rowid: %v", err)
	}
}

func TestKeyText(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		key  sqlite.Value
		want string
	}{
		{sqlite.Value{}, ""},
		{integer(-7), "-7"},
		{real(0.1), "0.1"},
		{text(strings.Repeat("long", 100)), strings.Repeat("long", 100)},
		{text("a\x00\xe9"), "a\ufffd"},
		{blob([]byte("é\xff\xff")), "é\ufffd\ufffd"},
	} {
		if got := KeyText(tc.key); got != tc.want {
			t.Errorf("%s is %q, not %q", tc.key, got, tc.want)
		}
	}
}

// TestAppendTouchesNothing checks that the row and the content of dst are not modified.
func TestAppendTouchesNothing(t *testing.T) {
	t.Parallel()
	c := newConverter(t, onlyColumn(KindJSON, true))
	cells := []string{`{"a": "\u0000\ud83d NaN", "b": NaN}`, "caf\xe9\x00", "1e999999", "null", "{}"}
	buf := make([]byte, 6, 4096)
	for _, cell := range cells {
		copy(buf, "before")
		row := []sqlite.Value{integer(1), text("key"), text(cell)}
		if _, accepted, err := c.Append(buf, row); err != nil || !accepted {
			t.Fatal(accepted, err)
		}
		if string(buf) != "before" || string(row[1].Bytes) != "key" || string(row[2].Bytes) != cell {
			t.Errorf("%q, %q, %q", buf, row[1].Bytes, row[2].Bytes)
		}
	}
}

func TestKeyFlaw(t *testing.T) {
	t.Parallel()
	steps, runs := mappingOfAllColumns(t, "steps"), mappingOfAllColumns(t, Runs)
	long := text(strings.Repeat("x", longestIndexed+1))
	for _, tc := range []struct {
		key         sqlite.Value
		whole, text Reason // as the key of steps and of runs
	}{
		{sqlite.Value{}, NullKey, NullKey},
		{integer(1), 0, 0},
		{real(1.5), 0, 0},
		{real(1e300), OutOfRange, 0},
		{text("12"), 0, 0},
		{text("a\x00"), NotANumber, NULInKey},
		{long, NotANumber, TextTooLong},
	} {
		if got := steps.KeyFlaw(tc.key); got != tc.whole {
			t.Errorf("%s as a whole number: %s, not %s", tc.key, got, tc.whole)
		}
		if got := runs.KeyFlaw(tc.key); got != tc.text {
			t.Errorf("%s as a text: %s, not %s", tc.key, got, tc.text)
		}
	}
}
