package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// helpWidth is the width of a flag's description. With the longest flag before
// it, a line fits 80 columns.
const helpWidth = 54

func init() {
	stringer := cli.FlagStringer
	cli.FlagStringer = func(f cli.Flag) string { return flagHelp(stringer(f)) }
}

// flagHelp formats the help of a flag, "name\tdescription", for a tabwriter. It
// wraps the description and removes a default that says nothing.
func flagHelp(text string) string {
	name, description, _ := strings.Cut(text, "\t")
	description = strings.TrimSuffix(description, " (default: false)")
	var b strings.Builder
	b.WriteString(name + "\t")
	column := 0
	for word := range strings.FieldsSeq(description) {
		switch {
		case column == 0:
		case column+1+len(word) > helpWidth:
			b.WriteString("\n\t")
			column = 0
		default:
			b.WriteString(" ")
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
