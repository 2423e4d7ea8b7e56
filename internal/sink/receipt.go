package sink

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
)

// WriteReceipt adds a receipt to the table of receipts. It creates that table
// if it does not exist.
func (t *Tx) WriteReceipt(ctx context.Context, r *report.Receipt) error {
	exists, err := t.HasReceipts(ctx)
	if err != nil {
		return err
	}
	if !exists {
		err := t.Run(ctx, fmt.Sprintf(`CREATE TABLE %s (id bigint PRIMARY KEY,
			migrated_at timestamptz NOT NULL DEFAULT now(), version text NOT NULL,
			file_path text NOT NULL, file_bytes bigint NOT NULL, file_sha256 text NOT NULL,
			wal_bytes bigint NOT NULL, wal_sha256 text NOT NULL,
			file_modified timestamptz NOT NULL, file_format text NOT NULL, verify text NOT NULL,
			options jsonb NOT NULL, tables jsonb NOT NULL, findings jsonb NOT NULL)`, t.Name(postgres.Receipts)))
		if err != nil {
			return t.WrapError(fmt.Sprintf("create table %q", postgres.Receipts), err)
		}
	}
	var parts [3]string
	for i, v := range []any{r.Options, r.Tables, r.Findings} {
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("write the receipt: %w", err)
		}
		parts[i] = string(text)
	}
	insert := fmt.Sprintf(`INSERT INTO %s (id, version, file_path, file_bytes, file_sha256, wal_bytes, wal_sha256,
			file_modified, file_format, verify, options, tables, findings)
		SELECT coalesce(max(id), 0) + 1, $1, $2, $3::bigint, $4, $5::bigint, $6,
			$7::timestamptz, $8, $9, $10::text::jsonb, $11::text::jsonb, $12::text::jsonb FROM %[1]s`,
		t.Name(postgres.Receipts))
	_, err = t.Exec(
		ctx,
		insert,
		r.Version,
		strings.ToValidUTF8(r.File.Path, "\uFFFD"),
		r.File.Bytes,
		r.File.SHA256,
		r.File.WALBytes,
		r.File.WALSHA256,
		r.File.Modified,
		r.FileFormat,
		r.Verify,
		parts[0],
		parts[1],
		parts[2],
	)
	if err != nil {
		return t.WrapError("write the receipt", err)
	}
	return nil
}
