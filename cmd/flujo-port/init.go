package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"flujo-port/internal/transfer"

	"github.com/urfave/cli/v2"
)

func (e *env) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make the schema and Flujo's tables, without rows; safe to repeat",
		Description: "What is there already is left as it is; tables of another shape are refused.\n" +
			"A DBA can run it so that an application role without the right to create can migrate.",
		Flags: []cli.Flag{
			postgresFlag, schemaFlag,
			&cli.StringFlag{Name: "grant-to", Usage: "let `ROLE` use the schema and its tables"},
			&cli.BoolFlag{Name: "without-pgvector", Usage: "do without the extension pgvector and Flujo's memories table; Flujo starts all the same"},
			&cli.BoolFlag{Name: "json", Usage: "print the result as one JSON object"},
			revealFlag,
		},
		Action: e.init,
	}
}

func (e *env) init(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	if secretive(c.String("grant-to")) {
		return usagef("--grant-to is no role but looks like an address")
	}
	target, err := e.postgres(c)
	if err != nil {
		return err
	}
	result, err := transfer.Init(c.Context, transfer.InitOptions{
		Postgres: target.url, Schema: target.schema, WithoutPGVector: c.Bool("without-pgvector"), GrantTo: c.String("grant-to"),
	})
	if err != nil {
		return &outcome{err: err, means: "nothing was created"}
	}
	result.Cutover = show(target.address, c.Bool(revealFlag.Name))
	result.Notes = append(result.Notes, target.notes...)
	if c.Bool("json") {
		encoder := json.NewEncoder(e.stdout)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(result)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Schema %q of database %q is ready for Flujo.\n", result.Schema, result.Database)
	fmt.Fprintf(&b, "made     %s\n", listOr(result.Made, "nothing: it was all there"))
	if len(result.Found) > 0 {
		fmt.Fprintf(&b, "found    %s\n", strings.Join(result.Found, ", "))
	}
	if result.GrantedTo != "" {
		fmt.Fprintf(&b, "granted  to role %q: use of the schema, and reading and writing of its tables\n", result.GrantedTo)
	}
	for _, note := range result.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
	}
	fmt.Fprintf(&b, "cutover  FLUJO_STATE_URI=%s\n", result.Cutover)
	_, err = io.WriteString(e.stdout, b.String())
	return err
}

func listOr(list []string, empty string) string {
	if len(list) == 0 {
		return empty
	}
	return strings.Join(list, ", ")
}
