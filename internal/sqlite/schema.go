package sqlite

import (
	"context"
	"io"
	"slices"
	"strings"
)

// FoldName returns a name of a table or column in the form in which SQLite compares
// names: ASCII letters in lower case, and other letters unchanged.
func FoldName(name string) string {
	folded := []byte(name)
	for i, b := range folded {
		if 'A' <= b && b <= 'Z' {
			folded[i] = b + 'a' - 'A'
		}
	}
	return string(folded)
}

// cheapFunctions are the functions whose time is at most proportional to the size of
// their arguments, and whose results are not larger than these or 100 bytes.
var cheapFunctions = []string{
	"->", "->>", "abs", "current_date", "current_time", "current_timestamp", "date", "datetime", "julianday",
	"length", "lower", "substr", "time", "typeof", "unixepoch", "upper",
}

// Calls returns the functions that a statement would call, sorted and each once, except
// for a few cheap ones. Those that the statement does not call itself come from the
// database's schema: from generated columns, defaults, indexes and CHECK constraints.
// A call cannot be interrupted, and one LIKE may take days. The statement is compiled
// and not run. What a virtual table's module does is not known.
func (c *Conn) Calls(ctx context.Context, statement string) ([]string, error) {
	rows, err := c.Query(ctx, "EXPLAIN "+statement)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var calls []string
	for {
		row, err := rows.Next()
		if err == io.EOF {
			slices.Sort(calls)
			return slices.Compact(calls), nil
		}
		if err != nil {
			return nil, err
		}
		if opcode := string(row[1].Bytes); opcode != "Function" && opcode != "PureFunc" {
			continue
		}
		name, _, _ := strings.Cut(string(row[5].Bytes), "(") // NAME(NUMBER OF ARGUMENTS)
		if !slices.Contains(cheapFunctions, name) {
			calls = append(calls, name)
		}
	}
}
