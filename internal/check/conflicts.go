package check

import (
	"context"
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
	"strings"

	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/rowdigest"

	"github.com/dustin/go-humanize"
)

// maxUnits is about how many units Run compares at a time, so that memory is bounded.
const maxUnits = 100_000

// unitKey identifies a unit.
type unitKey struct{ kind, key string }

var seed = maphash.MakeSeed()

func (k unitKey) hash() uint64 { return maphash.Comparable(seed, k) }

// unitColumn returns the kind of a table's units and the position of the column with the
// unit's key.
func unitColumn(table *mapping.Table) (kind string, at int) {
	kind, column := table.Unit()
	return kind, slices.IndexFunc(table.Columns, func(c mapping.Column) bool { return c.Name == column })
}

// hashKeys is an extract.Destination that adds the hashes of the keys of the units to a
// file. It ignores tables whose rows have a parent, since these are of units of the parent.
type hashKeys struct {
	extract.Discard
	file *stateFile
}

// Copy implements extract.Destination.
func (h hashKeys) Copy(ctx context.Context, table *mapping.Table, tuples mapping.Tuples) (int64, error) {
	if table.ChildOf == "" {
		kind, at := unitColumn(table)
		tuples = visited{tuples, func(tuple []byte) {
			key := unitKey{kind, string(rowdigest.Field(tuple, at))}
			h.file.hashes = append(h.file.hashes, key.hash())
		}}
	}
	return h.Discard.Copy(ctx, table, tuples)
}

// visited is tuples of which each is visited.
type visited struct {
	mapping.Tuples
	visit func(tuple []byte)
}

// Append implements mapping.Tuples.
func (v visited) Append(dst []byte) ([]byte, error) {
	out, err := v.Tuples.Append(dst)
	if err == nil {
		v.visit(out[len(dst):])
	}
	return out, err
}

// conflicts adds which units several files have, and whose version a migration would
// store. It reads the files again only if there are such units.
func (c *checker) conflicts(ctx context.Context) error {
	if !c.wereRead() {
		c.warning("conflicts", "see the lines marked ✗", "%s, because not all files can be read", notChecked)
		return nil
	}
	files := c.distinct()
	all := &conflictList{units: map[string]*report.Conflicts{}}
	for i := range mapping.Tables {
		kind, _ := mapping.Tables[i].Unit()
		if all.units[kind] == nil {
			all.units[kind] = &report.Conflicts{Kind: kind, First: []report.Conflict{}}
			all.kinds = append(all.kinds, kind)
		}
	}
	if len(files) > 1 {
		for hashes := range slices.Chunk(sharedHashes(files), c.maxUnits) {
			c.options.OnProgress.Start(progress.Compare)
			if err := all.compare(ctx, files, hashes); err != nil {
				return c.addError(ctx, "conflicts", notChecked, err)
			}
		}
	}
	for _, kind := range all.kinds {
		c.report.Conflicts = append(c.report.Conflicts, *all.units[kind])
	}
	c.conflictLines()
	return nil
}

// conflictLines adds the results for the units of each kind.
func (c *checker) conflictLines() {
	files := c.distinct()
	if len(files) == 1 {
		c.ok("conflicts", "none: the files have the same content")
		return
	}
	once := ""
	if len(files) < len(c.files) {
		once = " (files with the same content count as one)"
	}
	for _, u := range c.report.Conflicts {
		switch {
		case u.Units == 0:
			c.ok(u.Kind, "no conflicts: none is in several files%s", once)
		case u.Different == 0:
			c.ok(u.Kind, "no conflicts: %s in several files, all equal%s", humanize.Comma(u.Units), once)
		default:
			c.warning(
				u.Kind,
				"see the list below; the versions that do not win are kept in flujo_port_originals, not shown to Flujo",
				"%s in several files: %s equal, %s different%s",
				humanize.Comma(u.Units), humanize.Comma(u.Equal), humanize.Comma(u.Different), once,
			)
		}
	}
}

// sharedHashes returns the hashes that several files have, in their order. A hash of two
// different keys may be among them.
func sharedHashes(files []*stateFile) (shared []uint64) {
	var all []uint64
	for _, f := range files {
		slices.Sort(f.hashes)
		all = append(all, slices.Compact(f.hashes)...)
		f.hashes = nil
	}
	slices.Sort(all)
	for i := 1; i < len(all); i++ {
		if all[i] == all[i-1] {
			shared = append(shared, all[i])
		}
	}
	return slices.Compact(shared)
}

// version is what a file has of a unit.
type version struct {
	content rowdigest.Sum
	last    int64 // the latest time in its rows, as in mapping.Time
}

func (v *version) exists() bool { return v.content != rowdigest.Sum{} }

// conflictList counts the units that several files have.
type conflictList struct {
	units map[string]*report.Conflicts // by kind
	kinds []string
}

// compare compares the units whose hashes are among the given ones, which are in order.
func (l *conflictList) compare(ctx context.Context, files []*stateFile, hashes []uint64) error {
	units := map[unitKey][]version{}
	for i, f := range files {
		err := f.eachRow(ctx, hashes, func(key unitKey, content [2]int64, last int64) {
			if units[key] == nil {
				units[key] = make([]version, len(files))
			}
			v := &units[key][i]
			if !v.exists() {
				v.last = math.MinInt64
			}
			v.content.Add(content)
			v.last = max(v.last, last)
		})
		if err != nil {
			return err
		}
	}
	for key, versions := range units {
		l.add(key, files, versions)
	}
	return nil
}

// eachRow calls visit with the hash of the content and the latest time of each row of the
// units whose hashes are among the given ones. Times that were inferred from the time at
// which the file was written do not count.
func (f *stateFile) eachRow(
	ctx context.Context, hashes []uint64, visit func(key unitKey, content [2]int64, last int64),
) error {
	inferred := extract.WrittenAt(f.snapshot).Micros
	var encoder rowdigest.Encoder
	var encoding, content []byte
	for i := range mapping.Tables {
		table := &mapping.Tables[i]
		if f.format.Mapping(table.Name) == nil {
			continue
		}
		kind, at := unitColumn(table)
		err := f.found.Replay(ctx, table.Name, func(tuple []byte, _ int64) error {
			key := unitKey{kind, string(rowdigest.Field(tuple, at))}
			if _, selected := slices.BinarySearch(hashes, key.hash()); !selected {
				return nil
			}
			encoding = encoder.Append(encoding[:0], table, tuple)
			content = rowdigest.AppendContent(content[:0], table, encoding)
			visit(key, rowdigest.Hash(content), lastTime(table, encoding, inferred))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// lastTime returns the latest time in an encoded row except a given one, or the lowest
// number if there is none.
func lastTime(table *mapping.Table, encoding []byte, except int64) int64 {
	last := int64(math.MinInt64)
	for i, cell := range rowdigest.Cells(encoding) {
		if table.Columns[i].Kind != mapping.KindTime || cell == nil {
			continue
		}
		if at := int64(binary.BigEndian.Uint64(cell)); at != except {
			last = max(last, at)
		}
	}
	return last
}

// firstConflicts is the number of units of each kind that the report names.
const firstConflicts = 10

// add counts a unit, unless only one file has it. It decides as a migration does, which
// merges one file after the other: a version with other content wins if it was written
// after the one before.
func (l *conflictList) add(key unitKey, files []*stateFile, versions []version) {
	winner, others, tied := -1, 0, false
	for i := range versions {
		v := &versions[i]
		switch {
		case !v.exists():
			continue
		case winner < 0:
			winner = i
			continue
		case v.content == versions[winner].content:
		case v.last > versions[winner].last:
			winner, tied = i, false
		case v.last == versions[winner].last:
			tied = true
		}
		others++
	}
	if others == 0 {
		return
	}
	conflict := report.Conflict{
		Key: key.key, From: files[winner].report.Path, Superseded: []string{}, Tied: tied,
	}
	for i := range versions {
		if v := &versions[i]; v.exists() && v.content != versions[winner].content {
			conflict.Superseded = append(conflict.Superseded, files[i].report.Path)
		}
	}
	u := l.units[key.kind]
	u.Units++
	if len(conflict.Superseded) == 0 {
		u.Equal++
		return
	}
	u.Different++
	at, _ := slices.BinarySearchFunc(u.First, conflict, func(a, b report.Conflict) int {
		return strings.Compare(a.Key, b.Key)
	})
	if at < firstConflicts {
		u.First = slices.Insert(u.First, at, conflict)
		u.First = u.First[:min(len(u.First), firstConflicts)]
	}
}
