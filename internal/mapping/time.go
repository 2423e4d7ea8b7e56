package mapping

import (
	"strconv"
	"time"
)

// Time is a moment as PostgreSQL's timestamptz holds it.
type Time struct {
	Micros    int64 // microseconds since 2000-01-01T00:00:00Z
	Naive     bool  // the text named no zone, and UTC was taken
	Truncated bool  // digits past the microsecond were cut off, as Python does
}

// Moments in Unix seconds.
const (
	postgresEpoch = 946684800    // PostgreSQL's zero moment
	yearOne       = -62135596800 // 0001-01-01T00:00:00Z
	year10000     = 253402300800 // 10000-01-01T00:00:00Z
)

// ParseTime reads a time as Flujo and SQLite write it: what Python's
// datetime.isoformat gives, with a space or T, with or without seconds,
// fraction and offset, with Z; what SQLite's date() and datetime() print, the
// latter being UTC by its definition. A moment whose offset takes it out of the
// years 1 to 9999 in UTC is none: PostgreSQL would hold it, but Python cannot
// read it from there.
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

// TimeOf gives the Time of a moment, cut to the microsecond.
func TimeOf(at time.Time) Time { return Time{Micros: at.UnixMicro() - postgresEpoch*1e6} }

// inRange reports whether the moment is in the years 1 to 9999 in UTC.
func (t Time) inRange() bool {
	return t.Micros >= (yearOne-postgresEpoch)*1e6 && t.Micros < (year10000-postgresEpoch)*1e6
}

// in takes the clock time of a naive timestamp for one in the zone, as Python's
// datetime does without a fold (PEP 495): of a reading that the zone has twice
// the first is meant; one that it skips is read by the clock as it went before
// the skip.
func (t Time) in(zone *time.Location) Time {
	if zone == nil || zone == time.UTC {
		return t
	}
	clock := time.UnixMicro(t.Micros + postgresEpoch*1e6).Unix()
	east := func(unix int64) int64 {
		_, offset := time.Unix(unix, 0).In(zone).Zone()
		return int64(offset)
	}
	// No zone changes its clock by more than a day, nor twice in two.
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

// timeParser takes a time apart from its left end; bad is set at the first
// thing that is not there, and stays.
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

// number takes exactly n digits.
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

// fraction takes the point and its digits and gives microseconds; cut reports
// whether digits other than 0 were left over.
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

// offset takes Z, ±HH, ±HHMM, ±HH:MM or ±HH:MM:SS and gives seconds east of UTC.
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

// String gives the moment as ISO text in UTC, to the microsecond.
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
