package postgres

import (
	"fmt"
	"strings"

	"flujo-port/internal/mapping"
)

// RowEncoding writes the SQL of a row's encoding (see mapping.RowEncoder). vectors is the
// schema of pgvector's types.
func RowEncoding(table *mapping.Table, vectors string) string {
	columns := make([]string, len(table.Columns))
	for i, c := range table.Columns {
		columns[i] = encodedCell(c, Ident(c.Name), vectors)
	}
	return "record_send(ROW(" + strings.Join(columns, ", ") + "))"
}

// ContentEncoding writes the SQL of the encoding of what a row means to Flujo: without the
// id that a sequence gave it, and with JSON's null taken for NULL where that is
// allowed.
func ContentEncoding(table *mapping.Table, vectors string) string {
	var columns []string
	for _, c := range table.Columns {
		cell := Ident(c.Name)
		switch {
		case c.Serial:
			continue
		case c.Kind == mapping.KindJSON && !c.NotNull:
			cell = fmt.Sprintf("nullif(%s, 'null'::jsonb)", cell)
		}
		columns = append(columns, encodedCell(c, cell, vectors))
	}
	return "record_send(ROW(" + strings.Join(columns, ", ") + "))"
}

// encodedCell writes the SQL of a cell as an encoding has it.
func encodedCell(c mapping.Column, cell, vectors string) string {
	switch c.Kind {
	case mapping.KindInt:
		return cell + "::int8"
	case mapping.KindFloat4:
		return cell + "::float8"
	case mapping.KindVector:
		return fmt.Sprintf("%s.vector_send(%s)", Ident(vectors), cell)
	}
	return cell
}

// DigestHalves writes the SQL of mapping.HashEncoding: of h, a SHA-256, the two numbers,
// which it calls a and b.
func DigestHalves(h, a, b string) string {
	return fmt.Sprintf(
		"('x' || encode(substr(%s, 1, 8), 'hex'))::bit(64)::bigint %s, ('x' || encode(substr(%[1]s, 9, 8), 'hex'))::bit(64)::bigint %[3]s",
		h,
		a,
		b,
	)
}
