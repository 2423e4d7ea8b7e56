package receipt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sqltext"

	"github.com/jackc/pgx/v5"
)

var createTable = sqltext.New(`CREATE TABLE {{.table}} (id bigint PRIMARY KEY,
	migrated_at timestamptz NOT NULL DEFAULT now(), version text NOT NULL,
	file_path text NOT NULL, file_bytes bigint NOT NULL, file_sha256 text NOT NULL,
	wal_bytes bigint NOT NULL, wal_sha256 text NOT NULL,
	file_modified timestamptz NOT NULL, file_format text NOT NULL, verify text NOT NULL,
	options jsonb NOT NULL, tables jsonb NOT NULL, findings jsonb NOT NULL)`)

var insertRow = sqltext.New(
	`INSERT INTO {{.table}} (id, version, file_path, file_bytes, file_sha256, wal_bytes, wal_sha256,
	file_modified, file_format, verify, options, tables, findings)
SELECT coalesce(max(id), 0) + 1, $1, $2, $3::bigint, $4, $5::bigint, $6,
	$7::timestamptz, $8, $9, $10::text::jsonb, $11::text::jsonb, $12::text::jsonb FROM {{.table}}`,
)

var selectLast = sqltext.New(`SELECT migrated_at, version,
	file_path, file_bytes, file_sha256, wal_bytes, wal_sha256, file_modified,
	file_format, verify, options::text, tables::text, findings::text
FROM {{.table}} ORDER BY id DESC LIMIT 1`)

// Write adds a receipt to the table of receipts, which it creates if it does not
// exist, in the current transaction of conn.
func Write(ctx context.Context, conn *postgres.Conn, r *Receipt) error {
	table := sqltext.Parts{"table": conn.Name(mapping.Receipts)}
	exists, err := conn.HasTable(ctx, mapping.Receipts)
	if err != nil {
		return err
	}
	if !exists {
		if err := conn.Run(ctx, createTable.Fill(table)); err != nil {
			return conn.WrapError(fmt.Sprintf("create table %q", mapping.Receipts), err)
		}
	}
	options := r.Options
	if options.Origin, err = conn.Origin(ctx); err != nil {
		return err
	}
	var parts [3]string
	for i, v := range []any{options, r.Tables, r.Findings} {
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("write the receipt: %w", err)
		}
		parts[i] = string(text)
	}
	_, err = conn.Exec(ctx, insertRow.Fill(table),
		r.Version,
		strings.ToValidUTF8(r.File.Path, "\uFFFD"), r.File.Bytes, r.File.SHA256, r.File.WALBytes, r.File.WALSHA256,
		r.File.Modified,
		r.FileFormat, r.Verify, parts[0], parts[1], parts[2])
	if err != nil {
		return conn.WrapError("write the receipt", err)
	}
	return nil
}

// Last returns the receipt of the last migration into the schema of conn, or nil if
// there is none.
func Last(ctx context.Context, conn *postgres.Conn) (*Receipt, error) {
	if exists, err := conn.HasTable(ctx, mapping.Receipts); err != nil || !exists {
		return nil, err
	}
	var r Receipt
	var options, tables, findings []byte
	query := selectLast.Fill(sqltext.Parts{"table": conn.Name(mapping.Receipts)})
	err := conn.QueryRow(ctx, query).Scan(&r.MigratedAt, &r.Version,
		&r.File.Path, &r.File.Bytes, &r.File.SHA256, &r.File.WALBytes, &r.File.WALSHA256, &r.File.Modified,
		&r.FileFormat, &r.Verify, &options, &tables, &findings)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, conn.WrapError("read the receipt", err)
	}
	err = errors.Join(
		json.Unmarshal(options, &r.Options),
		json.Unmarshal(tables, &r.Tables),
		json.Unmarshal(findings, &r.Findings),
	)
	if err != nil {
		return nil, fmt.Errorf("read the receipt of %s in %s: %w", r.MigratedAt, conn.Name(mapping.Receipts), err)
	}
	r.MigratedAt, r.File.Modified = r.MigratedAt.UTC(), r.File.Modified.UTC()
	origin, err := conn.Origin(ctx)
	if err != nil {
		return nil, err
	}
	if !r.Options.Origin.Equal(origin) {
		r.forgetWriters()
	}
	return &r, nil
}
