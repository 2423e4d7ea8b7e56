package mapping

import (
	"strconv"
	"time"
)

// Time is a point in time as PostgreSQL's timestamptz stores it.
type Time struct {
	Micros    int64 // microseconds since 2000-01-01T00:00:00Z
	Naive     bool  // the text has no time zone, and UTC was assumed
	Truncated bool  // digits after the microseconds were dropped, as Python does
}

// Points in time, in Unix seconds.
const (
	postgresEpoch = 946684800    // 2000-01-01T00:00:00Z, PostgreSQL's epoch
	yearOne       = -62135596800 // 0001-01-01T00:00:00Z
	year10000     = 253402300800 // 10000-01-01T00:00:00Z
)

// ParseTime parses a timestamp as Flujo and SQLite write it: the forms of Python's
// datetime.isoformat, with a space or T, with or without seconds, fraction, offset
// and Z; and those of SQLite's date() and datetime(). datetime() prints UTC, so its
// form has a time zone. A timestamp outside of the years 1 to 9999 in UTC is not
// accepted: PostgreSQL can store it, but Python cannot read it.
func ParseTime(s []byte) (Time, bool) {
	p := timeParser{rest: s}
	year, month, day := p.number(4), p.after('-', 2), p.after('-', 2)
	var hour, minute, second, micros, offset int
	var cut, seconds bool
	naive := true
	if len(p.rest) > 0 {
		space := p.oneOf("T ") == ' '
		hour, minute = p.number(2), p.after(':', 2)
		if seconds = p.at(':'); seconds {
			second = p.after(':', 2)
		}
		naive = !(space && seconds) || p.at('.')
		if seconds && p.at('.') {
			micros, cut = p.fraction()
		}
		if len(p.rest) > 0 {
			offset, naive = p.offset(), false
		}
	}
	if p.bad || len(p.rest) > 0 || year < 1 || month < 1 || month > 12 || day < 1 ||
		day > daysIn(year, month) || hour > 23 || minute > 59 || second > 59 {
		return Time{}, false
	}
	unix := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC).Unix() - int64(offset)
	if unix < yearOne || unix >= year10000 {
		return Time{}, false
	}
	return Time{Micros: (unix-postgresEpoch)*1e6 + int64(micros), Naive: naive, Truncated: cut}, true
}

// TimeOf returns at as a Time, truncated to microseconds.
func TimeOf(at time.Time) Time { return Time{Micros: at.UnixMicro() - postgresEpoch*1e6} }

// inRange reports whether t is in the years 1 to 9999 in UTC.
func (t Time) inRange() bool {
	return t.Micros >= (yearOne-postgresEpoch)*1e6 && t.Micros < (year10000-postgresEpoch)*1e6
}

// in returns the naive timestamp t interpreted in the zone, as Python's datetime does
// with fold=0 (PEP 495). Of a local time that occurs twice, the first is meant. A
// local time that is skipped is interpreted with the offset before the change.
func (t Time) in(zone *time.Location) Time {
	if zone == nil || zone == time.UTC {
		return t
	}
	clock := time.UnixMicro(t.Micros + postgresEpoch*1e6).Unix()
	east := func(unix int64) int64 {
		_, offset := time.Unix(unix, 0).In(zone).Zone()
		return int64(offset)
	}
	// No zone changes its offset by more than a day, or twice within two days.
	before, after := east(clock-24*3600), east(clock+24*3600)
	offset := before
	if at := clock - before; east(at) != before && east(clock-after) == after {
		offset = after
	}
	t.Micros -= offset * 1e6
	return t
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// timeParser parses a timestamp from left to right. bad is set at the first error,
// and remains set.
type timeParser struct {
	rest []byte
	bad  bool
}

func (p *timeParser) at(c byte) bool { return len(p.rest) > 0 && p.rest[0] == c }

func (p *timeParser) oneOf(set string) byte {
	for i := range len(set) {
		if p.at(set[i]) {
			p.rest = p.rest[1:]
			return set[i]
		}
	}
	p.bad = true
	return 0
}

// number reads exactly n digits.
func (p *timeParser) number(n int) int {
	if len(p.rest) < n {
		p.bad = true
		return 0
	}
	v := 0
	for _, c := range p.rest[:n] {
		if c < '0' || c > '9' {
			p.bad = true
			return 0
		}
		v = v*10 + int(c-'0')
	}
	p.rest = p.rest[n:]
	return v
}

func (p *timeParser) after(c byte, n int) int {
	p.oneOf(string(c))
	return p.number(n)
}

// fraction reads the point and the digits after it, and returns microseconds. cut
// reports whether it dropped digits other than 0.
func (p *timeParser) fraction() (micros int, cut bool) {
	p.oneOf(".")
	n := 0
	for ; n < len(p.rest) && p.rest[n] >= '0' && p.rest[n] <= '9'; n++ {
		switch {
		case n < 6:
			micros = micros*10 + int(p.rest[n]-'0')
		case p.rest[n] != '0':
			cut = true
		}
	}
	p.bad = p.bad || n == 0
	p.rest = p.rest[n:]
	for ; n < 6; n++ {
		micros *= 10
	}
	return micros, cut
}

// offset reads Z, ±HH, ±HHMM, ±HH:MM or ±HH:MM:SS, and returns seconds east of UTC.
func (p *timeParser) offset() int {
	sign := p.oneOf("Z+-")
	if sign == 'Z' {
		return 0
	}
	hours, minutes, seconds := p.number(2), 0, 0
	switch {
	case p.at(':'):
		minutes = p.after(':', 2)
		if p.at(':') {
			seconds = p.after(':', 2)
		}
	case len(p.rest) == 2:
		minutes = p.number(2)
	}
	if hours > 23 || minutes > 59 || seconds > 59 {
		p.bad = true
	}
	east := hours*3600 + minutes*60 + seconds
	if sign == '-' {
		return -east
	}
	return east
}

// String returns t in ISO 8601 format, in UTC, with microseconds unless they are 0.
func (t Time) String() string {
	return string(t.append(nil))
}

func (t Time) append(dst []byte) []byte {
	micros := t.Micros % 1e6
	seconds := t.Micros / 1e6
	if micros < 0 {
		micros += 1e6
		seconds--
	}
	at := time.Unix(seconds+postgresEpoch, 0).UTC()
	dst = at.AppendFormat(dst, "2006-01-02T15:04:05")
	if micros != 0 {
		dst = append(dst, '.')
		dst = append(dst, strconv.FormatInt(1e6+micros, 10)[1:]...)
	}
	return append(dst, "+00:00"...)
}
