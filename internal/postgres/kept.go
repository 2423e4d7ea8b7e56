package postgres

import (
	"fmt"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/sqltext"
)

// KeptRow returns the SQL of the original of a mapping.Superseded row: a JSON object with
// the text of each cell by column, so that a JSON null differs from NULL. row is the
// name of the row in the query.
func KeptRow(table *mapping.Table, row string) string {
	var cells []string
	for _, c := range table.Columns {
		cells = append(cells, fmt.Sprintf("%s, %s.%s::text", sqltext.Literal(c.Name), row, sqltext.Ident(c.Name)))
	}
	return "convert_to(json_build_object(" + strings.Join(cells, ", ") + ")::text, 'UTF8')"
}

// keptRows selects rows that KeptRow stored, with the columns of their table and the id of
// the receipt of the merge that kept them.
var keptRows = sqltext.New(`SELECT {{.cells}}, o.source_rowid AS keeper FROM {{.originals}} o,
	json_to_record(convert_from(o.original, 'UTF8')::json) AS kept ({{.columns}})
	WHERE o.table_name = {{literal .table}} AND o.reason = {{literal .superseded}} AND {{.condition}}`)

// KeptRows returns the query for rows that KeptRow stored in originals, the quoted name of
// that table, and the receipt of the merge that kept each (keeper). condition is one on its
// rows, o. vectors is the schema of pgvector's types.
func KeptRows(table *mapping.Table, types *mapping.Types, vectors, originals, condition string) string {
	var columns, cells []string
	for _, c := range table.Columns {
		name := sqltext.Ident(c.Name)
		of := types.Of(table.Name, c)
		if c.Kind == mapping.KindVector {
			of = sqltext.Ident(vectors) + ".vector"
		}
		columns = append(columns, name+" text")
		cells = append(cells, fmt.Sprintf("kept.%s::%s AS %s", name, of, name))
	}
	return keptRows.Fill(sqltext.Parts{
		"cells": strings.Join(cells, ", "), "columns": strings.Join(columns, ", "), "originals": originals,
		"table":      table.Name,
		"superseded": mapping.Superseded, "condition": condition,
	})
}
