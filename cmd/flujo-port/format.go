package main

import (
	"fmt"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/report"
	"flujo-port/internal/stateuri"

	"github.com/urfave/cli/v2"
)

var formatFlag = &cli.StringFlag{
	Name:     "format",
	Category: groupOutput,
	Value:    "raw",
	Usage: "print the address as `FORMAT`: raw, the address alone; shell, an export command for sh; env, " +
		"a line for docker --env-file and systemd EnvironmentFile, which a shell cannot read; json",
}

var connectFlag = &cli.BoolFlag{
	Name:     "connect",
	Category: groupOperation,
	Usage: "connect by the address, and print the one that works: with the schema of pgvector on its search_path, " +
		"and without options if a pooler refuses it",
}

// addressFormats are the values of --format. A text has a placeholder for the address.
var addressFormats = map[string]func(address string) string{
	"raw":   func(address string) string { return address },
	"shell": func(address string) string { return "export " + stateURI + "=" + shellQuote(address) },
	"env":   envLine,
	"json":  nil, // has the notes too
}

// envLine returns the line of an env file. Docker and systemd read it to its end, and a
// quote would be part of the value for docker.
func envLine(address string) string { return stateURI + "=" + address }

// shellQuote quotes text for a POSIX shell.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// addressPrinter returns the function that prints an address to stdout in the format of
// --format, and its notes to stderr.
func (e *env) addressPrinter(c *cli.Context) (func(stateuri.Address, []string) error, error) {
	format, known := addressFormats[c.String(formatFlag.Name)]
	if !known {
		return nil, usagef("--format must be raw, shell, env or json")
	}
	return func(address stateuri.Address, notes []string) (err error) {
		text := show(address, c.Bool(revealFlag.Name))
		if strings.ContainsAny(text, "\r\n\x00") {
			return usagef("the address contains a line break")
		}
		masked := text != address.Reveal()
		if masked {
			notes = append(notes, "what may be a password is printed as ***; --reveal prints it")
		}
		for _, note := range notes {
			e.note(note)
		}
		if format == nil {
			r := &report.Address{Address: text, Masked: masked, Notes: append([]string{}, notes...)}
			e.describe(&r.Run, nil)
			e.reported = true
			err = report.JSON(e.stdout, r)
		} else {
			_, err = fmt.Fprintln(e.stdout, format(text))
		}
		if err != nil {
			return &clierr.Error{Kind: clierr.Failed, Message: "cannot print the address", Err: err}
		}
		return nil
	}, nil
}
