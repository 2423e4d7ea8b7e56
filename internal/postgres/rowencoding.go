package postgres

import (
	"fmt"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/sqltext"
)

// RowEncoding returns the SQL of a row's encoding (see mapping.RowEncoder).
// vectors is the schema of pgvector's types.
func RowEncoding(table *mapping.Table, vectors string) string {
	columns := make([]string, len(table.Columns))
	for i, c := range table.Columns {
		columns[i] = encodedCell(c, sqltext.Ident(c.Name), vectors)
	}
	return "record_send(ROW(" + strings.Join(columns, ", ") + "))"
}

// ContentEncoding returns the SQL of the encoding of a row's content as Flujo
// sees it: without the id from a sequence, and with a JSON null in a nullable
// column replaced by NULL. vectors is the schema of pgvector's types.
func ContentEncoding(table *mapping.Table, vectors string) string {
	var columns []string
	for _, c := range table.Columns {
		cell := sqltext.Ident(c.Name)
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

// encodedCell returns the SQL of a cell in an encoding.
func encodedCell(c mapping.Column, cell, vectors string) string {
	switch c.Kind {
	case mapping.KindInt:
		return cell + "::int8"
	case mapping.KindFloat4:
		return cell + "::float8"
	case mapping.KindVector:
		return fmt.Sprintf("%s.vector_send(%s)", sqltext.Ident(vectors), cell)
	}
	return cell
}

// DigestHalves returns the SQL of mapping.HashEncoding: the two numbers of h, a
// SHA-256, as columns named a and b.
func DigestHalves(h, a, b string) string {
	return fmt.Sprintf(
		"('x' || encode(substr(%s, 1, 8), 'hex'))::bit(64)::bigint %s, "+
			"('x' || encode(substr(%[1]s, 9, 8), 'hex'))::bit(64)::bigint %[3]s",
		h,
		a,
		b,
	)
}
