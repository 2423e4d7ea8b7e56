package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"flujo-port/internal/report"

	"github.com/jackc/pgx/v5"
)

// Receipts is the name of the program's own table of receipts, with a row for
// each migration into the schema. Flujo does not read it.
const Receipts = "flujo_port_receipts"

// HasReceipts reports whether the schema has the table of receipts.
func (c *Conn) HasReceipts(ctx context.Context) (exists bool, err error) {
	err = c.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", c.Name(Receipts)).Scan(&exists)
	if err != nil {
		return false, c.WrapError("look up the table of receipts", err)
	}
	return exists, nil
}

// LastReceipt returns the receipt of the last migration into the schema, or nil
// if there is none.
func (c *Conn) LastReceipt(ctx context.Context) (*report.Receipt, error) {
	if exists, err := c.HasReceipts(ctx); err != nil || !exists {
		return nil, err
	}
	var r report.Receipt
	var options, tables, findings []byte
	query := fmt.Sprintf(`SELECT migrated_at, version,
			file_path, file_bytes, file_sha256, wal_bytes, wal_sha256, file_modified,
			file_format, verify, options::text, tables::text, findings::text
		FROM %s ORDER BY id DESC LIMIT 1`, c.Name(Receipts))
	err := c.QueryRow(ctx, query).Scan(&r.MigratedAt, &r.Version,
		&r.File.Path, &r.File.Bytes, &r.File.SHA256, &r.File.WALBytes, &r.File.WALSHA256, &r.File.Modified,
		&r.FileFormat, &r.Verify, &options, &tables, &findings)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, c.WrapError("read the receipt", err)
	}
	err = errors.Join(
		json.Unmarshal(options, &r.Options),
		json.Unmarshal(tables, &r.Tables),
		json.Unmarshal(findings, &r.Findings),
	)
	if err != nil {
		return nil, fmt.Errorf("read the receipt of %s in %s: %w", r.MigratedAt, c.Name(Receipts), err)
	}
	r.MigratedAt, r.File.Modified = r.MigratedAt.UTC(), r.File.Modified.UTC()
	return &r, nil
}
