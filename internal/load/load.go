// Package load loads a state file into empty tables of PostgreSQL and verifies what
// they stored. migrate loads into Flujo's tables, and merge into staging tables.
package load

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/sink"
	"flujo-port/internal/source"
)

// Options say which findings are permitted and how rows are verified.
type Options struct {
	Strict     bool   // refuse a file of which any value would be converted
	Quarantine bool   // store rejected rows with the original values
	Verify     string // report.VerifyContent or report.VerifyCounts
	// OnFinding is called for each finding when all are known. Its error ends Rows. It may be nil.
	OnFinding    func(mapping.Finding) error
	OnDifference func(report.Difference) // called for each difference; may be nil
	OnProgress   progress.Func
	// Elsewhere are tables whose rows went to another destination, so that Loaded.Verify does
	// not compare them. It may be nil.
	Elsewhere map[string]bool
}

// Loaded is what was loaded.
type Loaded struct {
	File      *extract.Result
	Refused   bool  // the options do not permit what was found
	Originals int64 // number of original values that were stored
	// OriginalsDigest is the digest of the original values; its Sum is empty if it
	// was not computed.
	OriginalsDigest rowdigest.Digest
}

// Rows extracts a state file into empty tables and stores the original values. If the
// options do not permit what was found, Rows stores no original values, and returns
// both the Loaded and a clierr.Refused.
func Rows(ctx context.Context, file *extract.Extraction, into sink.Loader, o Options) (*Loaded, error) {
	return RowsTo(ctx, file, into, into, o)
}

// RowsTo is Rows with another destination of the rows, to. The original values go to into.
func RowsTo(
	ctx context.Context, file *extract.Extraction, to extract.Destination, into sink.Loader, o Options,
) (*Loaded, error) {
	result, err := file.Run(ctx, to)
	if err != nil {
		return nil, err
	}
	l := &Loaded{File: result}
	rows, cells := result.Findings.Count()
	refusal := judge(result, o)
	if rows+cells > 0 {
		o.OnProgress.Start(progress.Originals)
		if refusal == nil {
			err = l.storeOriginals(ctx, into, o.OnFinding)
		} else if o.OnFinding != nil {
			err = result.EachFinding(ctx, o.OnFinding)
		}
		if err != nil {
			return nil, err
		}
	}
	l.Refused = refusal != nil
	return l, refusal
}

// Explain returns the cause of an error in reading a file and writing its rows to the server:
// damage of the file, or err. It waits for the check of the file, which may take much
// longer, only if damage may be the cause. integrity may be nil.
func Explain(integrity *source.Integrity, conn *postgres.Conn, err error) error {
	rejected := clierr.KindOf(err) == clierr.Refused // also by the server, such as two rows with a key
	if !rejected && (postgres.Code(err) != "" || conn.IsClosed()) {
		return integrity.End(err)
	}
	return integrity.Explain(err)
}

// storeOriginals stores the original values of changed cells and rejected rows.
func (l *Loaded) storeOriginals(ctx context.Context, into sink.Loader, found func(mapping.Finding) error) error {
	if err := into.Tx.EnsureOriginals(ctx, into.Schema); err != nil {
		return err
	}
	originals := l.File.Originals(ctx, found)
	defer originals.Close()
	if _, err := into.Copy(ctx, &mapping.Originals, originals); err != nil {
		return err
	}
	l.Originals = originals.Count()
	l.OriginalsDigest, _ = originals.Digest()
	return nil
}

// Snapshot returns what the transaction has written into a schema's tables.
func Snapshot(ctx context.Context, into sink.Loader) (*postgres.Snapshot, error) {
	return postgres.InTransaction(
		ctx,
		into.Tx.Conn,
		into.Schema.Tables(),
		into.Schema.Types,
		into.Schema.VectorSchema(),
	)
}

// TargetOptions say which tables a target has and how values are converted.
type TargetOptions struct {
	WithoutPGVector bool           // do not create the extension and the memories table
	ExactFloats     bool           // use double precision for columns that are real in Flujo
	NaiveZone       *time.Location // zone of timestamps without one; nil means UTC
}

// File is an open state file.
type File struct {
	*source.Snapshot
	Format *mapping.Format
}

// Prepare creates or locks the tables for state files. It returns them with notes for
// the report.
func Prepare(
	ctx context.Context, tx *sink.Tx, o TargetOptions, files ...File,
) (into sink.Loader, notes []string, err error) {
	types := mapping.NewTypes(o.ExactFloats)
	for _, file := range files {
		size, note, err := extract.VectorSize(ctx, file.Snapshot, file.Format)
		if err != nil {
			return into, nil, err
		}
		types.VectorSize = cmp.Or(types.VectorSize, size)
		if note != "" {
			notes = append(notes, note)
		}
	}
	schema, err := tx.Prepare(ctx, o.WithoutPGVector, types)
	if err != nil {
		return into, nil, err
	}
	return sink.Loader{Tx: tx, Schema: schema}, notes, nil
}

// Config returns the configuration with which a file is extracted into prepared tables.
// The caller sets the rest of it: Receipt, WithDigests, AllowWrites and OnProgress.
func Config(into sink.Loader, file File, o TargetOptions) extract.Config {
	config := extract.Config{
		Format:    file.Format,
		Options:   mapping.Options{NaiveZone: o.NaiveZone, JSONDepth: into.Tx.Server.JSONDepth()},
		Types:     into.Schema.Types,
		WrittenAt: extract.WrittenAt(file.Snapshot),
		Phase:     progress.Copy,
	}
	if !into.Schema.Has(mapping.Memories) {
		config.Exclude = mapping.Memories
	}
	return config
}

// NeedsMemories returns the error for a file with n memories if the target has no
// table for them.
func NeedsMemories(n int64) *clierr.Error {
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: fmt.Sprintf("the state file has %d memories, and Flujo's memories table requires pgvector", n),
		Hint:    "install pgvector on the server",
		Advice:  clierr.Advice{Topic: clierr.UsePGVector},
	}
}

// HoldsRows returns the error for a schema whose tables hold rows. full names the
// tables, with their numbers of rows.
func HoldsRows(schema string, full []string) *clierr.Error {
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: fmt.Sprintf("schema %q already holds rows (%s)", schema, strings.Join(full, ", ")),
		Advice:  clierr.Advice{Topic: clierr.SchemaHoldsRows},
	}
}
