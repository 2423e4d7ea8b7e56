// Package extract reads a state file: it converts the file's rows to tuples for
// PostgreSQL, adds the rows that Flujo's PostgreSQL backend needs and its SQLite
// backend does not store (stub runs and derived traces), and collects what it finds.
// It does not know where the tuples go.
package extract

import (
	"context"
	"io"

	"flujo-port/internal/mapping"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"
	"flujo-port/internal/source"
	"flujo-port/internal/sqlite"
)

// Config says how a state file is converted. An Extraction does not change it.
type Config struct {
	Format  *mapping.Format
	Options mapping.Options
	// Types are the columns' types in PostgreSQL. Columns that the file needs to be
	// bigint are widened in a copy, Result.Types.
	Types *mapping.Types
	// WrittenAt is the time at which the file was written: the last timestamp
	// fallback. See WrittenAt.
	WrittenAt mapping.Time
	// Receipt is the id of the migration's receipt, to which the original values belong.
	Receipt int64
	// Exclude is the name of a table that is not extracted; "" for none.
	Exclude string
	// WithDigests is set if the digests of the tuples are needed.
	WithDigests bool
	// AllowWrites is set if the extraction continues although another process writes
	// to the file.
	AllowWrites bool
	// Phase is the phase of the progress, Copy or Read.
	Phase      progress.Phase
	OnProgress progress.Func
}

// Destination receives the tuples of an extraction.
type Destination interface {
	// Copy stores all tuples in a table and returns their size in bytes. It may read
	// the tuples in another goroutine, which must have ended when Copy returns. It
	// returns an error of the tuples unchanged. After a *mapping.WidenError none of
	// the tuples is stored.
	Copy(ctx context.Context, table *mapping.Table, tuples mapping.Tuples) (bytes int64, err error)
	// Widen changes an integer column to bigint.
	Widen(ctx context.Context, table *mapping.Table, column string) error
}

// Extraction is the extraction of one state file. It may run more than once.
type Extraction struct {
	snapshot *source.Snapshot
	config   Config
}

// New returns an extraction. The caller closes the snapshot after the last use of
// the extraction and of its results.
func New(snapshot *source.Snapshot, config Config) *Extraction {
	return &Extraction{snapshot: snapshot, config: config}
}

// WrittenAt returns the time at which the snapshot's file was last written.
func WrittenAt(snapshot *source.Snapshot) mapping.Time { return mapping.TimeOf(snapshot.Modified()) }

// Result is what an extraction found. Its methods read the file again, and must not
// be called by two goroutines at a time.
type Result struct {
	// Findings has a table for each that was extracted, in the order of
	// mapping.Tables.
	Findings *report.Findings
	// Types are those of Config, with the columns that were widened.
	Types   *mapping.Types
	Options mapping.Options // those of Config

	extraction *Extraction
	sums       map[string]*rowdigest.Sum // by table
	known      known
}

// Digest returns the digest of a table's tuples, rowdigest.Empty if it has none. The
// digests were computed only if Config.WithDigests is set.
func (r *Result) Digest(table string) rowdigest.Digest {
	if sum := r.sums[table]; sum != nil {
		return sum.Digest()
	}
	return rowdigest.Empty
}

// Duplicates returns the rows of a table that are rejected because another row has
// the same key in PostgreSQL, by rowid.
func (r *Result) Duplicates(table string) map[int64]mapping.Reason {
	return r.known.keys[table].duplicates()
}

// known is what an extraction has learned about the keys of the tables that it has
// read. Later stages depend on it.
type known struct {
	keys     map[string]*keyIndex // by table; nil for a table whose keys cannot collide
	rejected rejectedRuns
}

// rejectedRuns are the rejected rows of runs. Their children may need a stub run.
type rejectedRuns struct {
	ids     []sqlite.Value  // their run_ids
	missing map[string]bool // keys that no accepted row of runs has
}

// Run extracts every table, parents first, and sends the tuples to dst.
func (e *Extraction) Run(ctx context.Context, dst Destination) (*Result, error) {
	p, err := e.newPass(ctx, dst)
	if err != nil {
		return nil, err
	}
	for i := range p.result.Findings.Tables {
		if err := p.table(ctx, &p.result.Findings.Tables[i]); err != nil {
			return nil, err
		}
	}
	return p.result, nil
}

// Discard is a Destination that reads the tuples and does not store them.
type Discard struct{}

// Copy implements Destination.
func (Discard) Copy(_ context.Context, _ *mapping.Table, tuples mapping.Tuples) (bytes int64, err error) {
	var buf []byte
	for {
		if buf, err = tuples.Append(buf[:0]); err == io.EOF {
			return bytes, nil
		} else if err != nil {
			return bytes, err
		}
		bytes += int64(len(buf))
	}
}

// Widen implements Destination.
func (Discard) Widen(context.Context, *mapping.Table, string) error { return nil }
