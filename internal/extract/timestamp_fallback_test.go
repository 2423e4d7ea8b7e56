package extract_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"flujo-port/internal/flujotest"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/report"
)

// naiveTimes holds timestamps of the file, and their UTC if naive timestamps are in Berlin's time.
var naiveTimes = []struct {
	text, berlin string
	naive        bool
}{
	{"2025-07-01T08:00:00.783607", "2025-07-01 06:00:00.783607+00", true},
	{"2025-01-01T00:00:00", "2024-12-31 23:00:00+00", true},
	{"2025-07-01 08:00:00.5", "2025-07-01 06:00:00.5+00", true},
	{"2025-07-01", "2025-06-30 22:00:00+00", true},
	{"2025-10-26T02:30:00", "2025-10-26 00:30:00+00", true},  // ambiguous in Berlin: the earlier one
	{"2026-11-23 02:18:25", "2026-11-23 02:18:25+00", false}, // datetime('now') is UTC
	{"2025-07-01T08:00:00+00:00", "2025-07-01 08:00:00+00", false},
	{"2025-07-01T08:00:00-03:00", "2025-07-01 11:00:00+00", false},
}

func TestNaiveTimestamps(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	f := flujotest.NewFile(t, driverTypesFormat())
	naive := int64(0)
	for i, n := range naiveTimes {
		f.Insert("runs", flujotest.Cells{"run_id": fmt.Sprintf("run-%d", i), "created_at": n.text})
		f.Insert(
			"steps",
			flujotest.Cells{"id": int64(i + 1), "run_id": fmt.Sprintf("run-%d", i), "created_at": []byte(n.text)},
		)
		if n.naive {
			naive++
		}
	}
	path := f.Close()
	for _, c := range []struct {
		name string
		zone *time.Location
		want string
	}{
		{"default", nil, "UTC"},
		{"utc", time.UTC, "UTC"},
		{"zone", berlin, "Europe/Berlin"},
		{"local", time.Local, "Local"},
		{"west", time.FixedZone("west", -7*3600), "west"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			o := flujotest.Options(t, path, url)
			o.NaiveZone, o.Strict = c.zone, c.zone != nil // with a zone, --strict accepts naive timestamps
			found := collectFindings(&o)
			result := flujotest.Migrate(t, o)
			wantReport(t, result, *found, nil)
			conn := flujotest.Connect(t, url)
			flujotest.WantOriginals(t, conn, nil)
			flujotest.Exec(t, conn, "SET TimeZone = 'UTC'")
			for i, n := range naiveTimes {
				want := n.berlin
				if c.zone != berlin && n.naive {
					want = clockIn(t, n.text, c.zone)
				}
				for _, query := range []string{"SELECT created_at FROM flujo.runs WHERE run_id = $1",
					"SELECT created_at FROM flujo.steps WHERE run_id = $1"} {
					if got := flujotest.One(t, conn, query, fmt.Sprintf("run-%d", i)); got != want {
						t.Errorf("%s: got %s, want %s", n.text, got, want)
					}
				}
			}
			flujotest.WantSame(t, "naive timestamps", result.NaiveTimestamps, []report.NaiveColumn{
				{Column: "runs.created_at", Count: naive, Zone: c.want},
				{Column: "steps.created_at", Count: naive, Zone: c.want},
			})
			text := strings.Join(flujotest.ReportLines(t, result.Document()), "\n") + "\n"
			line := fmt.Sprintf("steps.created_at: %s without a time zone, read as %s\n",
				plural(naive, "timestamp"), c.want)
			if !strings.Contains(text, line) {
				t.Errorf("the report does not say %q:\n%s", line, text)
			}
		})
	}
	o := flujotest.Options(t, path, pgtest.Database(t))
	o.Strict = true
	wantStrict(t, o, plural(2*naive, "time"), "advice not-strict-zone")
}

// clockIn returns the UTC of a local time in a zone, as PostgreSQL prints it.
func clockIn(t *testing.T, text string, zone *time.Location) string {
	t.Helper()
	if zone == nil {
		zone = time.UTC
	}
	for _, format := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
		if at, err := time.ParseInLocation(format, text, zone); err == nil {
			return at.UTC().Format("2006-01-02 15:04:05.999999+00")
		}
	}
	t.Fatalf("%s is not a timestamp", text)
	return ""
}

// fallbackRow is a row that has the fallback for a timestamp of another row.
type fallbackRow struct {
	table string
	given flujotest.Cells
}

// fallbacks holds cells without a valid timestamp, the rows with fallbacks, and the wanted timestamp and its source.
var fallbacks = []struct {
	in   string
	cell any
	rows []fallbackRow
	want string // a day of 2026-01; "" for the file's modification time
	note string
}{
	{
		"runs.created_at",
		"",
		[]fallbackRow{
			{"workflow_state", flujotest.Cells{"created_at": day(3)}},
			{"steps", flujotest.Cells{"created_at": day(1)}},
		},
		"03",
		"workflow_state.created_at",
	},
	{
		"runs.created_at",
		"soon",
		[]fallbackRow{
			{"steps", flujotest.Cells{"created_at": day(5)}},
			{"steps", flujotest.Cells{"created_at": day(4)}},
			{"steps", flujotest.Cells{"created_at": day(6)}},
		},
		"04",
		"steps.created_at",
	},
	{
		"runs.created_at",
		nil,
		[]fallbackRow{
			{"spans", flujotest.Cells{"start_time": 1768003200.0}},
			{"spans", flujotest.Cells{"start_time": 1767916800.0}},
		},
		"09",
		"spans.start_time",
	},
	{
		"runs.created_at",
		"infinity",
		[]fallbackRow{
			{"evaluations", flujotest.Cells{"created_at": day(11)}},
			{"evaluations", flujotest.Cells{"created_at": day(10)}},
		},
		"10",
		"evaluations.created_at",
	},
	{"runs.created_at", "-infinity", []fallbackRow{{"traces", flujotest.Cells{"created_at": day(12)}}}, "12",
		"traces.created_at"},
	{
		"runs.created_at",
		"2026-02-30T00:00:00",
		[]fallbackRow{{"runs", flujotest.Cells{"updated_at": day(13)}}},
		"13",
		"runs.updated_at",
	},
	{
		"runs.created_at",
		[]byte{0xff},
		[]fallbackRow{
			{"workflow_state", flujotest.Cells{"created_at": "never"}},
			{"steps", flujotest.Cells{"created_at": day(14)}},
		},
		"14",
		"steps.created_at",
	},
	{"runs.created_at", "now", []fallbackRow{{"runs", flujotest.Cells{"updated_at": ""}}}, "",
		"the modification time of the state file"},
	{
		"runs.updated_at",
		"",
		[]fallbackRow{
			{"workflow_state", flujotest.Cells{"updated_at": day(15)}},
			{"steps", flujotest.Cells{"created_at": day(16)}},
		},
		"15",
		"workflow_state.updated_at",
	},
	{
		"runs.updated_at",
		"today",
		[]fallbackRow{
			{"steps", flujotest.Cells{"created_at": day(16)}},
			{"steps", flujotest.Cells{"created_at": day(17)}},
		},
		"17",
		"steps.created_at",
	},
	{
		"runs.updated_at",
		"2026-01-05T24:00:00+00:00",
		[]fallbackRow{
			{"spans", flujotest.Cells{"end_time": 1768780800.0}},
			{"spans", flujotest.Cells{"end_time": 1768694400.0}},
		},
		"19",
		"spans.end_time",
	},
	{
		"runs.updated_at",
		nil,
		[]fallbackRow{
			{"evaluations", flujotest.Cells{"created_at": day(20)}},
			{"evaluations", flujotest.Cells{"created_at": day(21)}},
		},
		"21",
		"evaluations.created_at",
	},
	{"runs.updated_at", "", []fallbackRow{{"runs", flujotest.Cells{"created_at": day(2)}}}, "02", "runs.created_at"},
	{
		"workflow_state.created_at",
		"",
		[]fallbackRow{{"runs", flujotest.Cells{"created_at": day(3)}}},
		"03",
		"runs.created_at",
	},
	{
		"workflow_state.created_at",
		"",
		[]fallbackRow{
			{"steps", flujotest.Cells{"created_at": day(8)}},
			{"steps", flujotest.Cells{"created_at": day(7)}},
			{"runs", flujotest.Cells{"created_at": ""}},
		},
		"07",
		"steps.created_at",
	},
	{
		"workflow_state.created_at",
		nil,
		[]fallbackRow{{"workflow_state", flujotest.Cells{"updated_at": day(6)}}},
		"06",
		"workflow_state.updated_at",
	},
	{
		"workflow_state.updated_at",
		"",
		[]fallbackRow{{"runs", flujotest.Cells{"updated_at": day(5)}}},
		"05",
		"runs.updated_at",
	},
	{
		"workflow_state.updated_at",
		"later",
		[]fallbackRow{{"workflow_state", flujotest.Cells{"created_at": day(4)}}},
		"04",
		"workflow_state.created_at",
	},
	{
		"steps.created_at",
		"",
		[]fallbackRow{
			{"workflow_state", flujotest.Cells{"updated_at": day(3)}},
			{"runs", flujotest.Cells{"updated_at": day(2)}},
		},
		"03",
		"workflow_state.updated_at",
	},
	{"steps.created_at", nil, []fallbackRow{{"runs", flujotest.Cells{"updated_at": day(2)}}}, "02", "runs.updated_at"},
	{
		"steps.created_at",
		"",
		[]fallbackRow{{"runs", flujotest.Cells{"updated_at": "", "created_at": day(22)}}},
		"22",
		"runs.created_at",
	},
	{
		"spans.created_at",
		"",
		[]fallbackRow{{"spans", flujotest.Cells{"end_time": 1767312000.0}}},
		"02",
		"spans.end_time",
	},
	{
		"spans.created_at",
		"",
		[]fallbackRow{{"spans", flujotest.Cells{"start_time": 1767398400.0}}},
		"03",
		"spans.start_time",
	},
	{
		"evaluations.created_at",
		"",
		[]fallbackRow{{"runs", flujotest.Cells{"updated_at": day(23)}}},
		"23",
		"runs.updated_at",
	},
	{
		"traces.created_at",
		"",
		[]fallbackRow{
			{"spans", flujotest.Cells{"created_at": day(24)}},
			{"spans", flujotest.Cells{"created_at": day(25)}},
		},
		"25",
		"spans.created_at",
	},
	{"traces.created_at", "", []fallbackRow{{"runs", flujotest.Cells{"updated_at": day(26)}}}, "26", "runs.updated_at"},
	{"system_state.updated_at", "", nil, "", "the modification time of the state file"},
	{"system_state.updated_at", nil, nil, "", "the modification time of the state file"},
	// Before the year 1 in UTC.
	{"system_state.updated_at", "0001-01-01T00:00:00+01:00", nil, "", "the modification time of the state file"},
	{"system_state.updated_at", "9999-12-31T23:59:59-01:00", nil, "", "the modification time of the state file"},
	{"system_state.updated_at", int64(253402300800), nil, "", "the modification time of the state file"},
}

// day returns the timestamp of a day in 2026-01.
func day(n int) string { return fmt.Sprintf("2026-01-%02dT00:00:00+00:00", n) }

// TestInferredTimes tests each timestamp fallback.
func TestInferredTimes(t *testing.T) {
	t.Parallel()
	f := flujotest.NewFile(t, driverTypesFormat())
	var originals []flujotest.Original
	var wantFound []finding
	var queries []string
	for i, w := range fallbacks {
		table, column, _ := strings.Cut(w.in, ".")
		id, next := fmt.Sprintf("case-%02d", i), int64(1000*(i+1))
		row := flujotest.Cells{"run_id": id}
		if table == "system_state" {
			row = flujotest.Cells{"key": id}
		}
		for _, r := range w.rows {
			if r.table != table {
				next++
				given := flujotest.Cells{"run_id": id, "rowid": next}
				for k, v := range r.given {
					given[k] = v
				}
				f.Insert(r.table, given)
				for k, v := range r.given { // invalid timestamps in these rows are inferred too
					if v == "" || v == "never" {
						key := id
						if flujotest.Keys[r.table] == "id" {
							key = fmt.Sprint(next)
						}
						originals = append(originals, flujotest.OriginalCell(r.table, key, next, k, "time-inferred", v))
					}
				}
				continue
			}
			for k, v := range r.given {
				row[k] = v
				if v == "" {
					originals = append(
						originals,
						flujotest.OriginalCell(table, id, int64(1000*(i+1)), k, "time-inferred", v),
					)
				}
			}
		}
		row["rowid"], row[column] = int64(1000*(i+1)), w.cell
		f.Insert(table, row)
		key := id
		if flujotest.Keys[table] == "id" {
			key = fmt.Sprint(1000 * (i + 1))
		}
		originals = append(
			originals,
			flujotest.OriginalCell(table, key, int64(1000*(i+1)), column, "time-inferred", w.cell),
		)
		wantFound = append(wantFound, finding{
			table:  table,
			key:    key,
			rowid:  int64(1000 * (i + 1)),
			column: column,
			reason: "time-inferred",
			note:   w.note,
		})
		queries = append(queries,
			fmt.Sprintf("SELECT %s FROM flujo.%s WHERE %s::text = '%s'", column, table, flujotest.Keys[table], key))
	}
	path := f.Close()
	written := time.Date(2026, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	if err := os.Chtimes(path, written, written); err != nil {
		t.Fatal(err)
	}
	url := pgtest.Database(t)
	o := flujotest.Options(t, path, url)
	found := collectFindings(&o)
	flujotest.Migrate(t, o)
	conn := flujotest.Connect(t, url)
	flujotest.Exec(t, conn, "SET TimeZone = 'UTC'")
	for i, w := range fallbacks {
		want := "2026-01-" + w.want + " 00:00:00+00"
		if w.want == "" {
			want = "2026-02-03 04:05:06.789+00"
		}
		if got := flujotest.One(t, conn, queries[i]); got != want {
			t.Errorf("case %d, %s %q: got %s, want %s", i, w.in, w.cell, got, want)
		}
	}
	flujotest.WantOriginals(t, conn, originals)
	got := asFindings(*found)
	for _, want := range wantFound {
		if !slices.Contains(got, want) {
			t.Errorf("missing finding: %+v", want)
		}
	}
	if len(got) != len(originals) {
		t.Errorf("got %d findings, want %d", len(got), len(originals))
	}
	o = flujotest.Options(t, path, pgtest.Database(t))
	o.Strict = true
	wantStrict(t, o, plural(len(originals), "value"))
}
