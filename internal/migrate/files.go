package migrate

import (
	"context"
	"errors"
	"fmt"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/load"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
)

// files are the state files of a migration, in the order in which they are migrated.
type files []*file

// file is an open state file.
type file struct {
	load.File
	hash *source.Hash // nil until it was started

	// integrity is the check of the file's integrity; nil until it was started, or if it is
	// skipped. Its verdict comes before the commit.
	integrity *source.Integrity
	reading   context.Context // ends when the check finds damage; nil until startCheck

	main string // the file's SHA-256 in hex; "" until the hash is complete
	wal  string
}

// openFiles opens the state files. The caller closes them.
func openFiles(ctx context.Context, o Options) (all files, err error) {
	for _, path := range append([]string{o.SQLite}, o.More...) {
		snapshot, format, err := extract.Open(ctx, path)
		if err != nil {
			all.close()
			if len(o.More) > 0 {
				err = nameFile(path, err)
			}
			return nil, err
		}
		all = append(all, &file{File: load.File{Snapshot: snapshot, Format: format}})
	}
	return all, nil
}

func (all files) close() {
	for _, f := range all {
		if f.hash != nil {
			f.hash.Stop()
		}
		f.integrity.Stop()
		f.Close()
	}
}

// startHash starts to hash the file, unless it has started.
func (f *file) startHash(ctx context.Context) {
	if f.hash == nil {
		f.hash = f.StartHash(ctx)
	}
}

// startCheck starts the check of the file's integrity, unless it has started or is skipped.
func (f *file) startCheck(ctx context.Context, o Options) {
	switch {
	case f.reading != nil:
	case o.SkipIntegrity:
		f.reading = ctx
	default:
		f.reading, f.integrity = f.StartIntegrityCheck(ctx)
	}
}

// open returns the files as load takes them.
func (all files) open() (open []load.File) {
	for _, f := range all {
		open = append(open, f.File)
	}
	return open
}

// name adds the file's name to an error, if there are several files.
func (all files) name(f *file, err error) error {
	if len(all) == 1 || err == nil {
		return err
	}
	return nameFile(f.Path(), err)
}

// nameFile returns err as one of a state file. Its kind and its advice stay.
func nameFile(path string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	named := &clierr.Error{Kind: clierr.KindOf(err), Message: "state file " + clierr.Name(path), Err: err}
	if e, ok := errors.AsType[*clierr.Error](err); ok {
		named.Advice = e.Advice
	}
	return named
}

// sum completes the hash of a file.
func (f *file) sum() (err error) {
	if f.main == "" {
		f.main, f.wal, err = f.hash.Wait()
	}
	return err
}

// checkUnchanged returns an error if a file changed since it was opened.
func (all files) checkUnchanged() error {
	for _, f := range all {
		if err := f.CheckUnchanged(); err != nil {
			return all.name(f, err)
		}
	}
	return nil
}

// warnOfChanges adds a warning for each file that changed since it was opened.
func (all files) warnOfChanges(result *report.Migration) error {
	for _, f := range all {
		changed, err := f.Changed()
		if err != nil {
			return all.name(f, err)
		}
		if changed {
			result.Warn("the state file%s changed while it was read: stop Flujo before the cutover", all.suffix(f))
		}
	}
	return nil
}

// suffix returns the file's name for a message, if there are several files.
func (all files) suffix(f *file) string {
	if len(all) == 1 {
		return ""
	}
	return fmt.Sprintf(" %s", clierr.Name(f.Path()))
}

// warn adds warnings of what was seen when the file was opened.
func (all files) warn(f *file, result *report.Migration) {
	if f.Locked() {
		result.Warn("another process has the state file%s open, and what it writes from now on is not migrated: "+
			"stop Flujo before the cutover", all.suffix(f))
	}
	if n := f.Links(); n > 1 {
		result.Warn("the state file%s has %d names (hard links); a -wal next to another name was not read",
			all.suffix(f), n)
	}
}
