package mapping

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// micros returns t in microseconds since 2000, computed by Go and not by this package.
func micros(t time.Time) int64 {
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	return t.UnixMicro() - epoch.UnixMicro()
}

func TestParseTime(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text string
		format     string // that Go's time package reads the text by
		want       string // the moment, worked out by hand
		naive      bool
	}{
		{
			"isoformat UTC", "2026-01-05T09:00:01.669094+00:00", "2006-01-02T15:04:05.999999-07:00",
			"2026-01-05T09:00:01.669094+00:00", false,
		},
		{"no fraction", "2026-01-05T09:00:01+00:00", "2006-01-02T15:04:05-07:00", "2026-01-05T09:00:01+00:00", false},
		{
			"space", "2026-01-05 09:00:01.5+00:00", "2006-01-02 15:04:05.9-07:00", "2026-01-05T09:00:01.500000+00:00",
			false,
		},
		{"no seconds", "2026-01-05T09:00+00:00", "2006-01-02T15:04-07:00", "2026-01-05T09:00:00+00:00", false},
		{"no seconds and no zone", "2026-01-05 09:00", "2006-01-02 15:04", "2026-01-05T09:00:00+00:00", true},
		{
			"no zone", "2025-09-01T08:00:00.783607", "2006-01-02T15:04:05.999999", "2025-09-01T08:00:00.783607+00:00",
			true,
		},
		{
			"SQLite's datetime(), which is UTC", "2026-11-23 02:18:25", "2006-01-02 15:04:05",
			"2026-11-23T02:18:25+00:00", false,
		},
		{
			"the same with T, which is Python's", "2026-11-23T02:18:25", "2006-01-02T15:04:05",
			"2026-11-23T02:18:25+00:00", true,
		},
		{
			"space and one digit of fraction", "2026-11-23 02:18:25.0", "2006-01-02 15:04:05.9",
			"2026-11-23T02:18:25+00:00", true,
		},
		{"SQLite's date()", "2026-11-23", "2006-01-02", "2026-11-23T00:00:00+00:00", true},
		{
			"SQLite's milliseconds", "2026-11-23 02:18:25.123", "2006-01-02 15:04:05.999",
			"2026-11-23T02:18:25.123000+00:00", true,
		},
		{
			"Z", "2026-01-05T09:00:01.000001Z", "2006-01-02T15:04:05.999999Z07:00", "2026-01-05T09:00:01.000001+00:00",
			false,
		},
		{"Z without seconds", "2026-01-05T09:00Z", "2006-01-02T15:04Z07:00", "2026-01-05T09:00:00+00:00", false},
		{"east", "2026-01-01T00:30:00+05:30", "2006-01-02T15:04:05-07:00", "2025-12-31T19:00:00+00:00", false},
		{"west", "2025-12-31T19:00:00-08:00", "2006-01-02T15:04:05-07:00", "2026-01-01T03:00:00+00:00", false},
		{"minus nothing", "2026-01-05T09:00:01-00:00", "2006-01-02T15:04:05-07:00", "2026-01-05T09:00:01+00:00", false},
		{"offset of hours", "2026-01-05T09:00:01+05", "2006-01-02T15:04:05-07", "2026-01-05T04:00:01+00:00", false},
		{
			"offset without colon", "2026-01-05T09:00:01-0330", "2006-01-02T15:04:05-0700", "2026-01-05T12:30:01+00:00",
			false,
		},
		{
			"offset with seconds", "1890-01-05T09:00:01+00:17:30", "2006-01-02T15:04:05-07:00:00",
			"1890-01-05T08:42:31+00:00", false,
		},
		{
			"widest offset east", "2026-01-05T09:00:00+23:59", "2006-01-02T15:04:05-07:00", "2026-01-04T09:01:00+00:00",
			false,
		},
		{
			"widest offset west", "2026-01-05T09:00:00-23:59", "2006-01-02T15:04:05-07:00", "2026-01-06T08:59:00+00:00",
			false,
		},
		{
			"offset and no seconds", "2026-01-05T09:00+02:00", "2006-01-02T15:04-07:00", "2026-01-05T07:00:00+00:00",
			false,
		},
		{
			"one digit of fraction", "2026-01-05T09:00:01.1Z", "2006-01-02T15:04:05.9Z07:00",
			"2026-01-05T09:00:01.100000+00:00", false,
		},
		{
			"zero fraction", "2026-01-05T09:00:01.000000Z", "2006-01-02T15:04:05.999999Z07:00",
			"2026-01-05T09:00:01+00:00", false,
		},
		{
			"last microsecond", "1999-12-31T23:59:59.999999Z", "2006-01-02T15:04:05.999999Z07:00",
			"1999-12-31T23:59:59.999999+00:00", false,
		},
		{"PostgreSQL's epoch", "2000-01-01T00:00:00Z", "2006-01-02T15:04:05Z07:00", "2000-01-01T00:00:00+00:00", false},
		{"Unix's epoch", "1970-01-01T00:00:00Z", "2006-01-02T15:04:05Z07:00", "1970-01-01T00:00:00+00:00", false},
		{"first moment", "0001-01-01T00:00:00+00:00", "2006-01-02T15:04:05-07:00", "0001-01-01T00:00:00+00:00", false},
		{"datetime.min", "0001-01-01T00:00:00", "2006-01-02T15:04:05", "0001-01-01T00:00:00+00:00", true},
		{
			"last moment", "9999-12-31T23:59:59.999999+00:00", "2006-01-02T15:04:05.999999-07:00",
			"9999-12-31T23:59:59.999999+00:00", false,
		},
		{
			"year 1, in time by its offset", "0001-01-01T00:00:00-01:00", "2006-01-02T15:04:05-07:00",
			"0001-01-01T01:00:00+00:00", false,
		},
		{"leap day", "2024-02-29T12:00:00Z", "2006-01-02T15:04:05Z07:00", "2024-02-29T12:00:00+00:00", false},
		{"leap day of 2000", "2000-02-29", "2006-01-02", "2000-02-29T00:00:00+00:00", true},
		{
			"day after a leap day", "2024-02-29T23:30:00-01:00", "2006-01-02T15:04:05-07:00",
			"2024-03-01T00:30:00+00:00", false,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, ok := ParseTime([]byte(tc.text))
			if !ok {
				t.Fatalf("%q is not taken for a time", tc.text)
			}
			reference, err := time.Parse(tc.format, tc.text)
			if err != nil {
				t.Fatal(err)
			}
			if got.Micros != micros(reference) || got.Naive != tc.naive {
				t.Errorf("%q is %+v, Go reads %d, naive %v", tc.text, got, micros(reference), tc.naive)
			}
			if got.String() != tc.want {
				t.Errorf("%q is %s, not %s", tc.text, got, tc.want)
			}
		})
	}
}

func TestParseTimeRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty":                         "",
		"space":                         " ",
		"a word":                        "yesterday",
		"infinity":                      "infinity",
		"minus infinity":                "-infinity",
		"NaN":                           "nan",
		"now":                           "now",
		"epoch seconds":                 "1767603600.85748",
		"Julian day":                    "2460000.5",
		"null":                          "null",
		"year 0":                        "0000-01-01T00:00:00Z",
		"year of two digits":            "26-01-05T09:00:01Z",
		"year of five digits":           "10000-01-01T00:00:00Z",
		"negative year":                 "-2026-01-05T09:00:01Z",
		"month 0":                       "2026-00-05T09:00:01Z",
		"month 13":                      "2026-13-05T09:00:01Z",
		"day 0":                         "2026-01-00T09:00:01Z",
		"day 32":                        "2026-01-32T09:00:01Z",
		"April 31":                      "2026-04-31T09:00:01Z",
		"no leap day":                   "2026-02-29T09:00:01Z",
		"no leap day in 1900":           "1900-02-29T09:00:01Z",
		"hour 24":                       "2026-01-05T24:00:00Z",
		"minute 60":                     "2026-01-05T09:60:00Z",
		"leap second":                   "2016-12-31T23:59:60Z",
		"no digits of fraction":         "2026-01-05T09:00:01.Z",
		"comma":                         "2026-01-05T09:00:01,5Z",
		"fraction of a minute":          "2026-01-05T09:00.5",
		"hour only":                     "2026-01-05T09",
		"T only":                        "2026-01-05T",
		"colon only":                    "2026-01-05T09:00:",
		"one digit":                     "2026-1-5T9:00:01Z",
		"no dashes":                     "20260105T090001Z",
		"slashes":                       "2026/01/05 09:00:01",
		"American":                      "01-05-2026 09:00:01",
		"underscore":                    "2026-01-05_09:00:01",
		"small t":                       "2026-01-05t09:00:01Z",
		"small z":                       "2026-01-05T09:00:01z",
		"zone on a date":                "2026-01-05Z",
		"space before the zone":         "2026-01-05 09:00:01 +00:00",
		"zone's name":                   "2026-01-05 09:00:01 UTC",
		"both zones":                    "2026-01-05T09:00:01Z+00:00",
		"sign only":                     "2026-01-05T09:00:01+",
		"offset of one digit":           "2026-01-05T09:00:01+5",
		"offset of three digits":        "2026-01-05T09:00:01+530",
		"offset of 24 hours":            "2026-01-05T09:00:01+24:00",
		"offset of 60 minutes":          "2026-01-05T09:00:01+05:60",
		"offset of 60 seconds":          "2026-01-05T09:00:01+05:00:60",
		"offset with a fraction":        "2026-01-05T09:00:01+05:00:00.5",
		"offset, colon only":            "2026-01-05T09:00:01+05:",
		"space in front":                " 2026-01-05T09:00:01Z",
		"space behind":                  "2026-01-05T09:00:01Z ",
		"new line behind":               "2026-01-05T09:00:01Z\n",
		"NUL behind":                    "2026-01-05T09:00:01Z\x00",
		"digits of another script":      "２026-01-05T09:00:01Z",
		"a sign for a digit":            "2026-01-05T+9:00:01Z",
		"before year 1 by its offset":   "0001-01-01T00:00:00+05:30",
		"just before year 1":            "0001-01-01T00:00:00.999999+00:00:01",
		"after year 9999 by its offset": "9999-12-31T23:59:59-05:00",
		"just after year 9999":          "9999-12-31T23:59:59-00:00:01",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, ok := ParseTime([]byte(text)); ok || got != (Time{}) {
				t.Errorf("%q is taken for %s (%+v)", text, got, got)
			}
		})
	}
}

// TestParseTimeFractions checks that digits after the sixth are truncated, as Python's
// datetime.fromisoformat does, and reported unless they are 0.
func TestParseTimeFractions(t *testing.T) {
	t.Parallel()
	const long = "2026-01-05T09:00:01.123456"
	for _, tc := range []struct {
		text, want string
		cut, naive bool
	}{
		{long + "7Z", "2026-01-05T09:00:01.123456+00:00", true, false},
		{long + "9999999+01:00", "2026-01-05T08:00:01.123456+00:00", true, false},
		{long + "0", "2026-01-05T09:00:01.123456+00:00", false, true},
		{long + "000Z", "2026-01-05T09:00:01.123456+00:00", false, false},
		{long + "0000000000000000000000000001Z", "2026-01-05T09:00:01.123456+00:00", true, false},
		{long + strings.Repeat("0", 10_000), "2026-01-05T09:00:01.123456+00:00", false, true},
		{long + strings.Repeat("9", 10_000) + "-00:30", "2026-01-05T09:30:01.123456+00:00", true, false},
		{"2026-01-05 09:00:01.9999999", "2026-01-05T09:00:01.999999+00:00", true, true},
		{"1999-12-31T23:59:59.9999999Z", "1999-12-31T23:59:59.999999+00:00", true, false},
		{"9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999+00:00", true, false},
		{"0001-01-01T00:00:00.0000001Z", "0001-01-01T00:00:00+00:00", true, false},
	} {
		got, ok := ParseTime([]byte(tc.text))
		if !ok || got.String() != tc.want || got.Truncated != tc.cut || got.Naive != tc.naive {
			t.Errorf("%.60q is %+v, %s (%v)", tc.text, got, got, ok)
		}
	}
}

func TestTimeOf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		at   time.Time
		want string
	}{
		{time.Date(2000, 1, 1, 0, 0, 0, 999, time.UTC), "2000-01-01T00:00:00+00:00"},
		{time.Date(2026, 11, 23, 10, 23, 4, 123456789, time.FixedZone("", 3600)), "2026-11-23T09:23:04.123456+00:00"},
		{time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC), "1969-12-31T23:59:59.999999+00:00"},
	} {
		if got := TimeOf(tc.at); got.String() != tc.want || got.Micros != micros(tc.at) || got.Naive || got.Truncated {
			t.Errorf("%s is %+v, %s", tc.at, got, got)
		}
	}
}

// TestParseTimeAgainstGo compares ParseTime with Go's time package for random times and
// formats.
func TestParseTimeAgainstGo(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	first := time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC).Unix()
	last := time.Date(9999, 12, 30, 0, 0, 0, 0, time.UTC).Unix()
	separators, zones := []string{"T", " "}, []string{"", "Z07:00", "-07:00", "-0700", "-07", "-07:00:00"}
	for range 20_000 {
		moment := time.Unix(first+random.Int64N(last-first), random.Int64N(1_000_000)*1000).UTC()
		clock := "15:04"
		switch digits := random.IntN(9); digits {
		case 0:
			moment = moment.Truncate(time.Minute)
		case 1:
			clock, moment = "15:04:05", moment.Truncate(time.Second)
		default:
			n := min(digits-1, 6)
			clock += ":05." + "000000"[:n]
			unit := time.Second
			for range n {
				unit /= 10
			}
			moment = moment.Truncate(unit)
		}
		zone := zones[random.IntN(len(zones))]
		if clock == "15:04" && zone == "-07:00:00" {
			continue // the clock would show the offset's seconds
		}
		east := 0
		switch zone {
		case "-07":
			east = (random.IntN(47) - 23) * 3600
		case "-07:00:00":
			east = random.IntN(86400) // Go writes the seconds of a negative one wrongly
		case "":
		default:
			east = (random.IntN(2*1440-1) - 1439) * 60
		}
		separator := separators[random.IntN(2)]
		text := moment.In(time.FixedZone("", east)).Format("2006-01-02" + separator + clock + zone)
		naive := zone == "" && (separator == "T" || clock != "15:04:05") // SQLite's datetime() is UTC
		got, ok := ParseTime([]byte(text))
		if !ok || got.Micros != micros(moment) || got.Naive != naive || got.Truncated {
			t.Fatalf("%q is %+v (%v), it was made from %s", text, got, ok, moment)
		}
	}
}

func TestParseTimeEveryDay(t *testing.T) {
	t.Parallel()
	for year := 1896; year <= 2104; year++ {
		for month := 0; month <= 13; month++ {
			for day := 0; day <= 32; day++ {
				text := fmt.Sprintf("%04d-%02d-%02d", year, month, day)
				reference, err := time.Parse(time.DateOnly, text)
				got, ok := ParseTime([]byte(text))
				if ok != (err == nil) || ok && got.Micros != micros(reference) {
					t.Fatalf("%s: %+v, %v; Go says %v, %v", text, got, ok, reference, err)
				}
			}
		}
	}
}

// FuzzParseTime checks that ParseTime does not panic, and that the String of its result
// is parsed as the same time, by ParseTime and by Go.
func FuzzParseTime(f *testing.F) {
	for _, text := range []string{
		"", "2026-01-05T09:00:01.669094+00:00", "2026-11-23 02:18:25", "2025-09-01T08:00:00.783607", "2026-11-23",
		"0001-01-01T00:00:00+05:30", "9999-12-31T23:59:59.999999-23:59:59", "2024-02-29T09:00Z", "infinity",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, ok := ParseTime(text)
		if !ok {
			if got != (Time{}) {
				t.Fatalf("%q is no time and yet %+v", text, got)
			}
			return
		}
		again, ok := ParseTime([]byte(got.String()))
		if !ok || again.Micros != got.Micros || again.Naive {
			t.Fatalf("%q is %+v, its String %s is %+v (%v)", text, got, got, again, ok)
		}
		reference, err := time.Parse(time.RFC3339Nano, got.String())
		if err != nil || micros(reference) != got.Micros {
			t.Fatalf("%q is %+v, its String %s is %v to Go (%v)", text, got, got, reference, err)
		}
		if year := reference.Year(); year < 1 || year > 9999 {
			t.Fatalf("%q is in year %d", text, year)
		}
		digits := bytes.Count(text, []byte(".")) // of the fraction; there is no point elsewhere
		if digits == 1 {
			_, rest, _ := bytes.Cut(text, []byte("."))
			digits = len(rest) - len(bytes.TrimLeft(rest, "0123456789"))
		}
		if got.Truncated && digits < 7 {
			t.Fatalf("%q is said to be cut", text)
		}
	})
}
