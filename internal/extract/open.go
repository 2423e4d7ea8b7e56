package extract

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
)

// Open opens a state file and detects its format. A file that is not Flujo's is a
// clierr.Refused. The caller closes the snapshot.
func Open(ctx context.Context, path string) (*source.Snapshot, *mapping.Format, error) {
	snapshot, err := source.Open(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	format, err := mapping.DetectFormat(snapshot.Tables())
	if err != nil {
		snapshot.Close()
		return nil, nil, &clierr.Error{
			Kind:    clierr.Refused,
			Message: fmt.Sprintf("cannot migrate %q", snapshot.Path()),
			Err:     err,
			Hint:    "pass the file that Flujo's state_uri names",
		}
	}
	return snapshot, format, nil
}

// Describe returns what is known of a state file before it is read.
func Describe(snapshot *source.Snapshot, format *mapping.Format) report.Source {
	s := report.Source{Path: snapshot.Path(), Bytes: snapshot.Size(), FileFormat: format.Name}
	s.WAL, s.Frames = snapshot.WAL()
	return s
}

// LastID returns the last allocated id of a table in the file, or 0 if there is
// none.
func LastID(ctx context.Context, snapshot *source.Snapshot, tm *mapping.TableMapping) (int64, error) {
	if !tm.InFile {
		return 0, nil
	}
	return snapshot.LastID(ctx, tm.Table.Name, cmp.Or(tm.KeyColumn(), "rowid"))
}

// IDBounds returns the lowest and the highest id of a table with a serial column. first is
// greater than last if the table has none.
func IDBounds(
	ctx context.Context, snapshot *source.Snapshot, tm *mapping.TableMapping,
) (first, last int64, err error) {
	if !tm.InFile {
		return 1, 0, nil
	}
	return snapshot.IDBounds(ctx, tm.Table.Name, cmp.Or(tm.KeyColumn(), "rowid"))
}

// Memories returns the number of memories in the file.
func Memories(ctx context.Context, snapshot *source.Snapshot, format *mapping.Format) (int64, error) {
	if !format.Mapping(mapping.Memories).InFile {
		return 0, nil
	}
	return snapshot.Count(ctx, mapping.Memories)
}

// VectorSize returns the number of floats that most of the file's vectors have, or 0
// if there are none. note says so if there are several sizes.
func VectorSize(
	ctx context.Context,
	snapshot *source.Snapshot,
	format *mapping.Format,
) (n int, note string, err error) {
	tm := format.Mapping(mapping.Memories)
	if !tm.InFile || tm.Position("vector") < 0 {
		return 0, "", nil
	}
	sizes, err := snapshot.VectorSizes(ctx)
	if err != nil {
		return 0, "", err
	}
	var best int64
	var all []string
	for _, bytes := range slices.Sorted(maps.Keys(sizes)) {
		if bytes == 0 || bytes%4 != 0 || bytes/4 > mapping.LongestVector {
			continue
		}
		all = append(all, fmt.Sprintf("%d × %d floats", sizes[bytes], bytes/4))
		if best == 0 || sizes[bytes] > sizes[best] {
			best = bytes
		}
	}
	if len(all) > 1 {
		note = "the vectors in memories have several sizes, but a pgvector column has one: " + strings.Join(all, ", ")
	}
	return int(best / 4), note, nil
}
