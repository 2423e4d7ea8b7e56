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
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12::text::jsonb, $13::text::jsonb)`,
)

var selectAll = sqltext.New(`SELECT id, migrated_at, version,
	file_path, file_bytes, file_sha256, wal_bytes, wal_sha256, file_modified,
	file_format, verify, options::text, tables::text, findings::text
FROM {{.table}} ORDER BY id`)

// NextID returns the id of the next receipt in the schema of conn, which is 1 if there is
// none. The caller holds Flujo's migration lock, so that no other migration takes the id.
func NextID(ctx context.Context, conn *postgres.Conn) (id int64, err error) {
	if exists, err := conn.HasTable(ctx, mapping.Receipts); err != nil || !exists {
		return 1, err
	}
	query := "SELECT coalesce(max(id), 0) + 1 FROM " + conn.Name(mapping.Receipts)
	if err := conn.QueryRow(ctx, query).Scan(&id); err != nil {
		return 0, conn.WrapError("read the receipts", err)
	}
	return id, nil
}

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
		r.ID, r.Version,
		strings.ToValidUTF8(r.File.Path, "\uFFFD"), r.File.Bytes, r.File.SHA256, r.File.WALBytes, r.File.WALSHA256,
		r.File.Modified,
		r.FileFormat, r.Verify, parts[0], parts[1], parts[2])
	if err != nil {
		return conn.WrapError("write the receipt", err)
	}
	return nil
}

// UpdateTables stores the tables of a receipt again, after its rows were written again.
func UpdateTables(ctx context.Context, conn *postgres.Conn, r *Receipt) error {
	text, err := json.Marshal(r.Tables)
	if err != nil {
		return fmt.Errorf("write the receipt: %w", err)
	}
	_, err = conn.Exec(ctx, "UPDATE "+conn.Name(mapping.Receipts)+" SET tables = $1::text::jsonb WHERE id = $2",
		string(text), r.ID)
	if err != nil {
		return conn.WrapError("write the receipt", err)
	}
	return nil
}

// Current returns the receipts of the files whose rows the schema of conn holds, in the
// order of the migrations: those since the last migration into empty tables, which
// --replace emptied if they were not. It returns none without the table of receipts.
func Current(ctx context.Context, conn *postgres.Conn) (Receipts, error) {
	all, err := All(ctx, conn)
	for i := len(all) - 1; i > 0; i-- {
		if !all[i].Options.Merged {
			return all[i:], err
		}
	}
	return all, err
}

// All returns the receipts in the schema of conn, in the order of the migrations.
func All(ctx context.Context, conn *postgres.Conn) (Receipts, error) {
	if exists, err := conn.HasTable(ctx, mapping.Receipts); err != nil || !exists {
		return nil, err
	}
	var all Receipts
	var r Receipt
	var options, tables, findings []byte
	var broken error
	query := selectAll.Fill(sqltext.Parts{"table": conn.Name(mapping.Receipts)})
	err := conn.Each(ctx, query, nil, []any{&r.ID, &r.MigratedAt, &r.Version,
		&r.File.Path, &r.File.Bytes, &r.File.SHA256, &r.File.WALBytes, &r.File.WALSHA256, &r.File.Modified,
		&r.FileFormat, &r.Verify, &options, &tables, &findings}, func() {
		one := r
		err := errors.Join(
			json.Unmarshal(options, &one.Options),
			json.Unmarshal(tables, &one.Tables),
			json.Unmarshal(findings, &one.Findings),
		)
		if err != nil && broken == nil {
			broken = fmt.Errorf("read the receipt of %s in %s: %w", r.MigratedAt, conn.Name(mapping.Receipts), err)
		}
		one.MigratedAt, one.File.Modified = r.MigratedAt.UTC(), r.File.Modified.UTC()
		all = append(all, &one)
	})
	if err != nil {
		return nil, conn.WrapError("read the receipts", err)
	}
	if broken != nil || len(all) == 0 {
		return nil, broken
	}
	origin, err := conn.Origin(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if !r.Options.Origin.Equal(origin) {
			r.forgetWriters()
		}
	}
	return all, nil
}
