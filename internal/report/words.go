package report

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"flujo-port/internal/document"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
)

// rows returns n as a number of rows: "1 row", "2,000 rows".
func rows(n int64) string { return plural(n, "row") }

// plural returns n and a noun in its singular or plural.
func plural(n int64, noun string) string {
	return humanize.Comma(n) + " " + english.PluralWord(int(n), noun, "")
}

// firstOf returns the first keys of n, quoted, with an ellipsis if there are more.
func firstOf(first []string, n int64) string {
	keys := make([]string, len(first))
	for i, k := range first {
		keys[i] = strconv.Quote(k)
	}
	list := strings.Join(keys, ", ")
	if n > int64(len(first)) {
		list += ", …"
	}
	return list
}

// nullKey is the name of mapping.NullKey, the reason of rejected rows whose key is NULL. Their keys are empty.
const nullKey = "null-key"

// hasNullKey reports whether the key of a row is NULL that was rejected for the reasons, which are joined by "+".
func hasNullKey(reasons string) bool { return slices.Contains(strings.Split(reasons, "+"), nullKey) }

// keyOf returns the key of a rejected row as a table shows it.
func keyOf(key, reasons string) string {
	if hasNullKey(reasons) {
		return "NULL"
	}
	return key
}

// keys returns the first keys of the rows.
func (c *Change) keys() string {
	if hasNullKey(c.Reason) {
		return "NULL"
	}
	return firstOf(c.Keys, c.Count)
}

// shownKeys is the number of keys that a table on a terminal shows, so that it is not too wide.
const shownKeys = 3

// fewOf is firstOf for a table on a terminal.
func fewOf(first []string, n int64) string { return firstOf(first[:min(len(first), shownKeys)], n) }

// seconds returns a duration: "11.2 s".
func seconds(s float64) string { return fmt.Sprintf("%.1f s", s) }

// moment returns a time in UTC to the second: "2026-01-05 09:00:01 UTC".
func moment(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }

// capitalized returns text with a capital first letter.
func capitalized(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return text
	}
	return string(unicode.ToUpper(first)) + text[size:]
}

// sentence returns text with a capital first letter and a full stop; "" if it is empty.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.TrimSuffix(capitalized(text), ".") + "."
}

// fact returns a fact of one line or several. Lines that are empty are omitted.
func fact(label string, lines ...string) document.Fact {
	return document.Fact{Label: label, Lines: slices.DeleteFunc(lines, func(s string) bool { return s == "" })}
}

// numbers returns the cells of a row of numbers.
func numbers(first string, n ...int64) []string {
	cells := []string{first}
	for _, one := range n {
		cells = append(cells, humanize.Comma(one))
	}
	return cells
}

// numberTable returns a table of names and numbers. A column that holds 0 in every row is omitted, unless it is one of
// the first keep columns. With total, a last row has the sums.
func numberTable(columns document.Columns, keep int, total bool, rows [][]string) *document.Table {
	if len(rows) == 0 {
		return &document.Table{Columns: columns, Rows: document.Cells()}
	}
	var used []int
	for i, c := range columns {
		nonzero := func(row []string) bool { return row[i] != "0" }
		if i < keep || c.Kind != document.Number || slices.ContainsFunc(rows, nonzero) {
			used = append(used, i)
		}
	}
	pick := func(row []string) (cells []string) {
		for _, i := range used {
			cells = append(cells, row[i])
		}
		return cells
	}
	t := &document.Table{}
	for _, i := range used {
		t.Columns = append(t.Columns, columns[i])
	}
	var shown [][]string
	for _, row := range rows {
		shown = append(shown, pick(row))
	}
	t.Rows = slices.Values(shown)
	if total && len(rows) > 1 {
		t.Total = pick(totalOf(columns, rows))
	}
	return t
}

// totalOf returns a row with the sum of each column of numbers.
func totalOf(columns document.Columns, rows [][]string) []string {
	total := make([]string, len(columns))
	total[0] = "total"
	for i, c := range columns {
		if c.Kind != document.Number {
			continue
		}
		var sum int64
		for _, row := range rows {
			n, _ := strconv.ParseInt(strings.ReplaceAll(row[i], ",", ""), 10, 64)
			sum += n
		}
		total[i] = humanize.Comma(sum)
	}
	return total
}

// upperBound returns a positive number, rounded up to one significant digit.
func upperBound(x float64) string {
	text := strconv.FormatFloat(x, 'g', 1, 64) // rounds to the nearest
	if rounded, _ := strconv.ParseFloat(text, 64); rounded >= x {
		return text
	}
	_, exponent, _ := strings.Cut(strconv.FormatFloat(x, 'e', 0, 64), "e")
	unit, _ := strconv.ParseFloat("1e"+exponent, 64)
	return strconv.FormatFloat(x+unit, 'g', 1, 64) // was rounded down, and so is the sum
}

// plainWord is a word that every shell reads as it is.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// ShellWord returns an argument as a POSIX shell reads it: quoted if it has other characters.
func ShellWord(arg string) string {
	if plainWord.MatchString(arg) {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}
