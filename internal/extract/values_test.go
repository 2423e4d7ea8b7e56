package extract_test

import (
	"database/sql"
	"fmt"
	"math"
	"strings"
	"testing"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
)

// stored returns a cell of a file as it is stored, and its storage class.
func stored(t testing.TB, db *sql.DB, table, column string, rowid int64) (class string, content []byte) {
	t.Helper()
	var integer sql.NullInt64
	var real sql.NullFloat64
	query := fmt.Sprintf(`SELECT typeof(+%s), CAST(iif(typeof(+%[1]s) IN ('text', 'blob'), +%[1]s, NULL) AS BLOB),
		iif(typeof(+%[1]s) = 'integer', +%[1]s, NULL), iif(typeof(+%[1]s) = 'real', +%[1]s, NULL) FROM %s
			WHERE rowid = ?`, flujotest.Quoted(column), flujotest.Quoted(table))
	if err := db.QueryRow(query, rowid).Scan(&class, &content, &integer, &real); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	switch {
	case integer.Valid:
		content = flujotest.OriginalBytes(integer.Int64)
	case real.Valid:
		content = flujotest.OriginalBytes(real.Float64)
	case class != "null" && content == nil:
		content = []byte{}
	}
	return class, content
}

// variant is a cell in its own row.
type variant struct {
	in     string // table.column
	cell   any    // nil, int64, float64, string or []byte
	want   string // the column in PostgreSQL as text; "NULL" for NULL
	reason string // the reason of the change; "" if the cell is not changed
}

// contractLine is a line of the table in docs/values.md.
type contractLine struct {
	name     string
	variants []variant
}

// contract holds the lines of docs/values.md that are about single cells.
var contract = []contractLine{
	{"JSON text null", []variant{
		{"steps.output", "null", "NULL", ""},
		{"steps.output", " null\n", "NULL", ""},
		{"steps.output", []byte("null"), "NULL", ""},
		{"workflow_state.last_step_output", "null", "NULL", ""},
		{"evaluations.metadata", "null", "NULL", ""},
		{"system_state.value", "null", "null", ""},
		{"system_state.value", "\tnull ", "null", ""},
		{"traces.trace_data", "null", "null", ""},
		{"steps.output", `"null"`, `"null"`, ""},
		{"steps.output", "[null]", "[null]", ""},
		{"steps.output", "Null", `"Null"`, "invalid-json"},
	}},
	{"NUL", []variant{
		{"runs.error_message", "a\x00b", "ab", "nul-removed"},
		{"runs.error_message", "\x00\x00", "", "nul-removed"},
		{"runs.error_message", []byte("\x00b"), "b", "nul-removed"},
		{"evaluations.feedback", "\x00", "", "nul-removed"},
		{"steps.output", `"a\u0000b"`, `"ab"`, "nul-removed"},
		{"steps.output", `{"k\u0000": ["\u0000"]}`, `{"k": [""]}`, "nul-removed"},
		{"steps.output", "\"a\x00b\"", `"ab"`, "nul-removed"},
		{"steps.output", `{"a\u0000": 1, "a": 2}`, `{"a": 2}`, "nul-removed"}, // the last of two equal keys
		{"steps.output", `"\\u0000"`, `"\\u0000"`, ""},                        // a backslash, then u0000
		{"steps.output", `"\\\u0000"`, `"\\"`, "nul-removed"},
		{"system_state.value", `"\u0000"`, `""`, "nul-removed"},
	}},
	{"lone surrogate", []variant{
		{"steps.output", `"\ud800"`, "\"\uFFFD\"", "lone-surrogate"},
		{"steps.output", `"\uDC00\uD800"`, "\"\uFFFD\uFFFD\"", "lone-surrogate"},
		{"steps.output", `"a\ud83dz"`, "\"a\uFFFDz\"", "lone-surrogate"},
		{"steps.output", `"\ud83d\ud83d\ude00"`, "\"\uFFFD\U0001F600\"", "lone-surrogate"},
		{"steps.output", `{"\ude00": 1}`, "{\"\uFFFD\": 1}", "lone-surrogate"},
		{"steps.output", `"\ud83d\ude00"`, "\"\U0001F600\"", ""},
		{"steps.output", `"\u0000\ud800"`, "\"\uFFFD\"", "nul-removed+lone-surrogate"},
		{"runs.error_message", `\ud800`, `\ud800`, ""}, // text is not JSON
	}},
	{"invalid UTF-8", []variant{
		{"runs.error_message", "a\xffb", "a\uFFFDb", "invalid-utf8"},
		{"runs.error_message", "\xe2\x82", "\uFFFD\uFFFD", "invalid-utf8"},
		{"runs.error_message", "\xc0\x80", "\uFFFD\uFFFD", "invalid-utf8"},
		{"runs.error_message", "\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD", "invalid-utf8"},
		{"runs.error_message", "\x00\xff", "\uFFFD", "nul-removed+invalid-utf8"},
		{"runs.error_message", "é\uFFFD\U0001F600\uFFFF", "é\uFFFD\U0001F600\uFFFF", ""},
		{"steps.step_name", []byte("\xf8"), "\uFFFD", "invalid-utf8"},
		{"steps.output", "\"a\xffb\"", "\"a\uFFFDb\"", "invalid-utf8"},
		{"steps.output", "{\"\xe2\x82\": \"\xe2\x82\xac\"}", "{\"\uFFFD\uFFFD\": \"€\"}", "invalid-utf8"},
		{"runs.run_id", "run \xff", "run \uFFFD", "invalid-utf8"},
		{"workflow_state.run_id", "run \xfe", "run \uFFFD", "invalid-utf8"},
		{"system_state.key", "key \xfd", "key \uFFFD", "invalid-utf8"},
	}},
	{"NaN and Infinity in JSON", []variant{
		{
			"steps.output",
			`{"a": NaN, "b": [Infinity, -Infinity]}`,
			`{"a": "NaN", "b": ["Infinity", "-Infinity"]}`,
			"non-finite-number",
		},
		{"steps.output", "NaN", `"NaN"`, "non-finite-number"},
		{"system_state.value", "-Infinity", `"-Infinity"`, "non-finite-number"},
		{"steps.output", `["NaN", "Infinity"]`, `["NaN", "Infinity"]`, ""},
		{"steps.output", `{"NaN": 1}`, `{"NaN": 1}`, ""},
		{"steps.output", `{NaN: 1}`, `"{NaN: 1}"`, "invalid-json"},
		{"steps.output", "nan", `"nan"`, "invalid-json"},
		{
			"steps.output",
			"[NaN, \"\\u0000\", \"\\ud800\", \"\xff\"]",
			"[\"NaN\", \"\", \"\uFFFD\", \"\uFFFD\"]",
			"nul-removed+lone-surrogate+invalid-utf8+non-finite-number",
		},
	}},
	{"not JSON", []variant{
		{"steps.output", "{", `"{"`, "invalid-json"},
		{"steps.output", "", `""`, "invalid-json"},
		{"steps.output", "hello", `"hello"`, "invalid-json"},
		{"steps.output", `say "hi" \ bye`, `"say \"hi\" \\ bye"`, "invalid-json"},
		{"steps.output", "\"a\nb\"", `"\"a\nb\""`, "invalid-json"},
		{"steps.output", "\"a\x01b\"", `"\"a\u0001b\""`, "invalid-json"},
		{"steps.output", "[01]", `"[01]"`, "invalid-json"},
		{"steps.output", "[1,]", `"[1,]"`, "invalid-json"},
		{"steps.output", "{'a': 1}", `"{'a': 1}"`, "invalid-json"},
		{"steps.output", "1 2", `"1 2"`, "invalid-json"},
		{"steps.output", "+1", `"+1"`, "invalid-json"},
		{"steps.output", "1.", `"1."`, "invalid-json"},
		{"steps.output", "\uFEFF1", "\"\uFEFF1\"", "invalid-json"},
		{"steps.output", "a\x00\xff", "\"a\uFFFD\"", "nul-removed+invalid-utf8+invalid-json"},
		{"system_state.value", "not json", `"not json"`, "invalid-json"},
		{"traces.trace_data", "", `""`, "invalid-json"},
		{"steps.output", "[1E131072]", `"[1E131072]"`, "json-number-out-of-range"},
		{"steps.output", "1e-16400", `"1e-16400"`, "json-number-out-of-range"},
		{"steps.output", "1e400", "1" + strings.Repeat("0", 400), ""},
		{"steps.output", "[-0, -0.0, 1e2]", "[0, 0.0, 100]", ""}, // equal numbers
		{"steps.output", ` {"b":1 , "a":2,"b":3} `, `{"a": 2, "b": 3}`, ""},
		{"steps.output", nested("[", "1", "]", 10_000), nested("[", "1", "]", 10_000), ""},
		{"steps.output", nested(`{"a": `, "1", "}", 10_000), nested(`{"a": `, "1", "}", 10_000), ""},
		{"steps.output", nested("[", "1", "]", 20_000), `"` + nested("[", "1", "]", 20_000) + `"`, "json-too-deep"},
		{
			"steps.output",
			nested(`{"a":`, "1", "}", 200_000),
			`"` + nested(`{\"a\":`, "1", "}", 200_000) + `"`,
			"json-too-deep",
		},
	}},
	{"BLOB in a text column", []variant{
		{"runs.error_message", []byte("plain é"), "plain é", ""},
		{"runs.error_message", []byte{}, "", ""},
		{"runs.error_message", []byte("a\xff"), "a\uFFFD", "invalid-utf8"},
		{"steps.output", []byte(`{"a":1}`), `{"a": 1}`, ""},
		{"steps.output", []byte(`{"a":`), `"{\"a\":"`, "invalid-json"},
		{"steps.output", []byte{}, `""`, "invalid-json"},
		{"steps.output", []byte{0xff}, "\"\uFFFD\"", "invalid-utf8+invalid-json"},
		{"runs.created_at", []byte("2026-01-05T09:00:01+00:00"), "2026-01-05 09:00:01+00", ""},
		{"runs.run_id", []byte("a run"), "a run", ""},
		{"system_state.key", []byte("a key"), "a key", ""},
	}},
	{"number in a text column", []variant{
		{"runs.error_message", int64(-12), "-12", "number-as-text"},
		{"runs.error_message", 0.1, "0.1", "number-as-text"},
		{"runs.run_id", int64(77), "77", "number-as-text"},
		{"steps.output", int64(math.MaxInt64), "9223372036854775807", "number-as-text"},
		{"steps.output", 1.5, "1.5", "number-as-text"},
		{"steps.output", math.Inf(-1), `"-Infinity"`, "non-finite-number+number-as-text"},
	}},
	{"fraction in an integer column", []variant{
		{"steps.token_counts", 12.5, "12", "rounded"},
		{"steps.token_counts", 13.5, "14", "rounded"},
		{"steps.token_counts", -0.5, "0", "rounded"},
		{"steps.token_counts", -1.5, "-2", "rounded"},
		{"steps.token_counts", 12.4999, "12", "rounded"},
		{"steps.token_counts", 12.0, "12", ""},
		{"steps.step_index", 2.5, "2", "rounded"},
		{"runs.total_steps", 1e300, "NULL", "out-of-range"},
		{"runs.total_steps", math.Inf(1), "NULL", "out-of-range"},
	}},
	{"text that is a number", []variant{
		{"steps.token_counts", "12", "12", "text-as-number"},
		{"steps.token_counts", " 12 ", "12", "text-as-number"},
		{"steps.token_counts", "-7", "-7", "text-as-number"},
		{"steps.token_counts", "12.5", "12", "rounded+text-as-number"},
		{"steps.token_counts", "1e2", "100", "text-as-number"},
		{"steps.step_index", "3", "3", "text-as-number"},
		{"steps.cost_usd", "0.25", "0.25", "text-as-number"},
		{"evaluations.score", "1", "1", "text-as-number"},
		{"spans.end_time", "1767603600.857481", "1767603600.857481", "text-as-number"},
	}},
	{"other text in a numeric column", []variant{
		{"steps.token_counts", "many", "NULL", "not-a-number"},
		{"steps.token_counts", "", "NULL", "not-a-number"},
		{"steps.token_counts", "0x10", "NULL", "not-a-number"},
		{"steps.token_counts", "1_000", "NULL", "not-a-number"},
		{"steps.token_counts", []byte("12"), "NULL", "not-a-number"},
		{"steps.cost_usd", "cheap", "NULL", "not-a-number"},
		{"steps.cost_usd", "NaN", "NULL", "not-a-number"},
		{"steps.cost_usd", []byte{1, 2, 3}, "NULL", "not-a-number"},
		{"steps.cost_usd", 1e39, "NULL", "out-of-range"},
		{"steps.cost_usd", math.Inf(1), "Infinity", ""},
		{"spans.end_time", "later", "NULL", "not-a-number"},
		{"spans.end_time", math.Inf(-1), "-Infinity", ""},
		{"runs.total_steps", nil, "NULL", ""},
	}},
	{"boolean that is neither 0 nor 1", []variant{
		{"workflow_state.is_background_task", int64(0), "false", ""},
		{"workflow_state.is_background_task", int64(1), "true", ""},
		{"workflow_state.is_background_task", nil, "NULL", ""},
		{"workflow_state.is_background_task", 1.0, "true", ""},
		{"workflow_state.is_background_task", int64(2), "true", "invalid-boolean"},
		{"workflow_state.is_background_task", int64(-1), "true", "invalid-boolean"},
		{"workflow_state.is_background_task", 0.5, "true", "invalid-boolean"},
		{"workflow_state.is_background_task", "true", "true", "invalid-boolean"},
		{"workflow_state.is_background_task", "yes", "true", "invalid-boolean"},
		{"workflow_state.is_background_task", []byte{0}, "true", "invalid-boolean"},
		{"workflow_state.is_background_task", "", "false", "invalid-boolean"},
	}},
	{"times", []variant{
		{"runs.created_at", "2026-01-05T09:00:01.669094+00:00", "2026-01-05 09:00:01.669094+00", ""},
		{"runs.created_at", "2026-01-05T09:00:01+05:30", "2026-01-05 03:30:01+00", ""},
		{"runs.created_at", "2026-01-05 09:00:01.5-0800", "2026-01-05 17:00:01.5+00", ""},
		{"runs.created_at", "2026-01-05T09:00:01.000001Z", "2026-01-05 09:00:01.000001+00", ""},
		{"runs.created_at", "2026-11-23 02:18:25", "2026-11-23 02:18:25+00", ""},
		{"runs.created_at", "0001-01-01T00:00:00+00:00", "0001-01-01 00:00:00+00", ""},
		{"runs.created_at", "9999-12-31T23:59:59.999999+00:00", "9999-12-31 23:59:59.999999+00", ""},
		{"runs.created_at", "2026-01-05T09:00:01.6690949+00:00", "2026-01-05 09:00:01.669094+00", "time-truncated"},
		{"runs.created_at", int64(1767603600), "2026-01-05 09:00:00+00", "epoch-time"},
		{"runs.created_at", 1767603600.25, "2026-01-05 09:00:00.25+00", "epoch-time"},
		{"runs.created_at", int64(0), "1970-01-01 00:00:00+00", "epoch-time"},
		{"steps.created_at", -1.5, "1969-12-31 23:59:58.5+00", "epoch-time"},
		{"system_state.updated_at", "2026-01-05T09:00:01+00:00", "2026-01-05 09:00:01+00", ""},
	}},
	{unmapped, []variant{
		{"runs.total_cost", 1.5, "", "unmapped-column"},
		{"runs.total_cost", nil, "", ""},
		{"runs.final_context_blob", `{"a\u0000": `, "", "unmapped-column"},
		{"runs.final_context_blob", []byte{0, 0xff}, "", "unmapped-column"},
		{"runs.final_context_blob", "", "", "unmapped-column"},
		{"runs.end_time", "2026-01-05T09:00:09+00:00", "", "unmapped-column"},
		{"steps.tenant", "acme\x00", "", "unmapped-column"},
		{"steps.tenant", nil, "", ""},
	}},
}

// unmapped is the name of the line on unmapped columns.
const unmapped = "columns of older file formats"

// nested returns inside within the given number of levels of open and end.
func nested(open, inside, end string, levels int) string {
	return strings.Repeat(open, levels) + inside + strings.Repeat(end, levels)
}

// driverTypesFormat returns format06 with declared types that modernc's driver for database/sql converts to times and
// booleans, and with an unmapped column.
func driverTypesFormat() map[string]string {
	all := map[string]string{}
	for table, columns := range flujotest.Format06 {
		columns = strings.ReplaceAll(columns, "created_at T", "created_at DATETIME")
		columns = strings.ReplaceAll(columns, "updated_at T", "updated_at TIMESTAMP")
		columns = strings.ReplaceAll(columns, "end_time T", "end_time DATE")
		all[table] = strings.ReplaceAll(columns, "is_background_task I", "is_background_task BOOLEAN")
	}
	all["steps"] += ", tenant T"
	return all
}

// writeLine writes a file with a row for each variant of a line. It returns the file's path and the keys of the rows
// in PostgreSQL.
func writeLine(t *testing.T, l contractLine) (path string, keys []string) {
	t.Helper()
	f := flujotest.NewFile(t, driverTypesFormat())
	keys = make([]string, len(l.variants))
	for i, v := range l.variants {
		table, column, _ := strings.Cut(v.in, ".")
		run := fmt.Sprintf("run-%03d", i)
		row := flujotest.Cells{}
		switch table {
		case "steps", "spans", "evaluations":
			row["id"], row["run_id"], keys[i] = int64(100+i), run, fmt.Sprint(100+i)
		case "system_state":
			row["key"], row["rowid"], keys[i] = fmt.Sprintf("key-%03d", i), int64(100+i), fmt.Sprintf("key-%03d", i)
		default:
			row["run_id"], row["rowid"], keys[i] = run, int64(100+i), run
		}
		if table != "runs" && table != "system_state" {
			f.Insert("runs", flujotest.Cells{"run_id": run})
		}
		if column == "run_id" || column == "key" {
			keys[i] = v.want
		}
		row[column] = v.cell
		f.Insert(table, row)
	}
	return f.Close(), keys
}

// TestValuesContract tests, for each variant of each line of docs/values.md, the value in PostgreSQL, the original, the
// finding and the report.
func TestValuesContract(t *testing.T) {
	t.Parallel()
	for _, l := range contract {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			path, keys := writeLine(t, l)
			wantStored(t, path, l)
			url := pgtest.Database(t)
			o := flujotest.Options(t, path, url)
			found := collectFindings(&o)
			result := flujotest.Migrate(t, o)
			conn := flujotest.Connect(t, url)
			flujotest.Exec(t, conn, "SET TimeZone = 'UTC'")
			var wantOriginals []flujotest.Original
			var wantFound []finding
			for i, v := range l.variants {
				table, column, _ := strings.Cut(v.in, ".")
				if v.reason != "" {
					wantOriginals = append(wantOriginals,
						flujotest.OriginalCell(table, keys[i], int64(100+i), column, v.reason, v.cell))
					wantFound = append(wantFound,
						finding{table: table, key: keys[i], rowid: int64(100 + i), column: column, reason: v.reason})
				}
				if l.name == unmapped {
					continue
				}
				key := map[string]string{"steps": "id", "spans": "id", "evaluations": "id",
					"system_state": "key"}[table]
				if key == "" {
					key = "run_id"
				}
				query := fmt.Sprintf("SELECT %s FROM flujo.%s WHERE %s::text = $1", column, table, key)
				if got := flujotest.One(t, conn, query, keys[i]); got != v.want {
					t.Errorf("%s %.60q: got %.200q, want %.200q", v.in, v.cell, got, v.want)
				}
			}
			flujotest.WantOriginals(t, conn, wantOriginals)
			wantReport(t, result, *found, wantFound)
			if result.Originals != int64(len(wantOriginals)) || result.Refused {
				t.Errorf("got %d originals and refused %v in the report, want %d and false", result.Originals,
					result.Refused, len(wantOriginals))
			}
			for _, row := range result.Tables {
				if !row.Match || row.Rejected != 0 {
					t.Errorf("got %+v, want a match without rejected rows", row)
				}
			}
			wantDryRunAndStrict(t, path, len(wantOriginals))
		})
	}
}

// wantStored tests that every cell of the file has the storage class and the bytes of its variant.
func wantStored(t *testing.T, path string, l contractLine) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?immutable=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for i, v := range l.variants {
		table, column, _ := strings.Cut(v.in, ".")
		class, content := stored(t, db, table, column, int64(100+i))
		if class != flujotest.StorageClass(v.cell) || string(content) != string(flujotest.OriginalBytes(v.cell)) {
			t.Fatalf("%s: got a %s %.60q in the file, want %.60q", v.in, class, content, v.cell)
		}
	}
}

// wantDryRunAndStrict tests that a dry run reports the changed cells, that --strict refuses the file if there are any,
// and that neither leaves anything.
func wantDryRunAndStrict(t *testing.T, path string, changedCells int) {
	t.Helper()
	url := pgtest.Database(t)
	o := flujotest.Options(t, path, url)
	o.DryRun = true
	found := collectFindings(&o)
	if result := flujotest.Migrate(t, o); len(*found) != changedCells || result.Originals != int64(changedCells) ||
		result.Committed {
		t.Errorf("got %d findings, %d originals and committed %v from the dry run, want %d changed cells", len(*found),
			result.Originals, result.Committed, changedCells)
	}
	conn := flujotest.Connect(t, url)
	if got := flujotest.Leftovers(t, conn); got != "" {
		t.Errorf("the dry run left %s", got)
	}
	if changedCells == 0 {
		return
	}
	o.DryRun, o.Strict = false, true
	*found = nil
	wantStrict(t, o, plural(changedCells, "value"))
	if len(*found) != changedCells {
		t.Errorf("got %d findings with --strict, want %d", len(*found), changedCells)
	}
	if got := flujotest.Leftovers(t, conn); got != "" {
		t.Errorf("--strict left %s", got)
	}
}
