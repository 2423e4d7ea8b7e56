package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/load"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
)

// identify reads a file and finds its receipt: by the checksum, or by the content.
func (v *verification) identify(ctx context.Context, file load.File) (*fileCheck, error) {
	f := &fileCheck{verification: v, file: file, report: &report.VerifiedFile{
		Source: extract.Describe(file.Snapshot, file.Format), Superseded: []report.SupersededBy{},
	}}
	reading, integrity := v.startIntegrityCheck(ctx, file, &f.report.Source)
	f.reading, f.stop, f.wait, f.explain = reading, integrity.Stop, integrity.Wait, integrity.Explain
	if err := f.read(reading); errors.Is(err, errNotMigrated) {
		return nil, integrity.End(err)
	} else if err != nil {
		defer f.stop()
		return nil, f.explain(err)
	}
	if err := file.CheckUnchanged(); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *fileCheck) read(ctx context.Context) error {
	main, wal, err := f.file.SHA256(ctx)
	if err != nil {
		return err
	}
	f.report.Source.SHA256, f.report.Source.WALSHA256 = main, wal
	if f.migrated = f.receipts.OfFile(main, wal); f.migrated != nil {
		f.content, err = f.extract(ctx, f.migrated)
	} else {
		err = f.findByContent(ctx)
	}
	if err != nil {
		return err
	}
	switch {
	case f.migrated == nil && f.ifMigrated:
		return errNotMigrated
	case f.migrated == nil:
		return f.notMigrated(ctx, main, wal)
	}
	f.result.Notes = append(f.result.Notes, f.content.Findings.Notes...)
	f.report.Found = f.content.Findings
	if !isContent(f.content, f.migrated) {
		f.result.Notes = append(f.result.Notes, fmt.Sprintf("%s is unchanged since the migration, but this "+
			"flujo-port converts it differently (another version, or another zone for timestamps without one)",
			clierr.Name(f.file.Path())))
	}
	f.report.Receipt = f.migrated.Note(main, wal)
	return nil
}

// extract extracts the file with the options with which the file of a receipt was migrated.
func (f *fileCheck) extract(ctx context.Context, like *receipt.Receipt) (*extract.Result, error) {
	options, err := like.MappingOptions(f.stored.Server(), f.options.NaiveZone)
	if err != nil {
		return nil, err
	}
	config := like.Config(f.file.Snapshot, f.file.Format, f.stored.Types(), options)
	config.OnProgress = f.options.OnProgress
	return extract.New(f.file.Snapshot, config).Run(ctx, extract.Discard{})
}

// findByContent finds the last receipt of a file with the same content, as its options
// convert it. It extracts the file once for each distinct options of files with as many rows.
func (f *fileCheck) findByContent(ctx context.Context) error {
	type options struct {
		zone      string
		depth     int
		writtenAt int64
	}
	extracted := map[options]*extract.Result{}
	for _, r := range slices.Backward(f.receipts) {
		if r.Verify != report.VerifyContent || f.content != nil && !hasRows(f.content, r) {
			continue
		}
		with := options{r.Options.NaiveTimezone, r.Options.JSONDepth, r.Options.WrittenAt}
		if extracted[with] == nil {
			content, err := f.extract(ctx, r)
			if err != nil {
				return err
			}
			extracted[with] = content
		}
		f.content = extracted[with]
		if same, err := hasContentOf(ctx, f.content, r); err != nil {
			return err
		} else if same {
			f.migrated = r
			return nil
		}
	}
	return nil
}

// hasContentOf reports whether a file, whatever its bytes are, is known to have the content of a receipt's file.
func hasContentOf(ctx context.Context, file *extract.Result, r *receipt.Receipt) (bool, error) {
	if r.Verify != report.VerifyContent || !isContent(file, r) {
		return false, nil
	}
	originals, err := file.OriginalsDigest(ctx, nil)
	return r.HasOriginals(originals), err
}

// hasRows reports whether a file has as many rows as the file of a receipt.
func hasRows(content *extract.Result, r *receipt.Receipt) bool {
	return !slices.ContainsFunc(content.Findings.Tables, func(t report.Table) bool {
		return t.RowsRead != r.Table(t.Name).RowsRead
	})
}

// isContent reports whether a file has the content of a receipt's file.
func isContent(content *extract.Result, r *receipt.Receipt) bool {
	for _, table := range content.Findings.Tables {
		mine, was := content.Digest(table.Name), r.Table(table.Name).OfFile()
		if mine.Rows != was.Rows || was.Sum != "" && mine.Sum != was.Sum {
			return false
		}
	}
	return true
}

// replaced returns the error for a file without a current receipt that has an older one. It returns nil if the file
// with the given SHA-256 has none.
func (v *verification) replaced(ctx context.Context, file load.File, main, wal string) (replaced, err error) {
	all, err := receipt.All(ctx, v.stored.Conn())
	if err != nil {
		return nil, err
	}
	old := all.OfFile(main, wal)
	if old == nil {
		return nil, nil
	}
	next := slices.IndexFunc(all, func(r *receipt.Receipt) bool { return r.ID > old.ID && !r.Options.Merged })
	if next < 0 {
		return nil, nil
	}
	now := all[next] // which replaced it
	where := ""
	if now.Options.ArchiveSchema != "" {
		where = fmt.Sprintf("; they are in schema %q", now.Options.ArchiveSchema)
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf("the rows of %s, migrated at %s UTC, were replaced at %s UTC%s",
			clierr.Name(file.Path()), old.MigratedAt.Format(time.DateTime), now.MigratedAt.Format(time.DateTime),
			where),
		Hint: "verify a file that was migrated since",
	}, nil
}

// notMigrated returns the error for a file without a current receipt.
func (f *fileCheck) notMigrated(ctx context.Context, main, wal string) error {
	f.result.Verdict = report.SourceMismatch
	f.report.Verdict = report.SourceMismatch
	f.report.Units = []report.ComparedUnits{}
	f.result.Files = append(f.result.Files, f.report)
	path := clierr.Name(f.file.Path())
	replaced, err := f.replaced(ctx, f.file, main, wal)
	if err != nil {
		return err
	}
	if err := f.wait(); err != nil {
		return err
	}
	if replaced != nil {
		return replaced
	}
	var files []string
	for _, r := range f.receipts {
		files = append(files, fmt.Sprintf("%s (receipt %d, SHA-256 %s)", clierr.Name(r.File.Path), r.ID, r.File.SHA256))
	}
	return &clierr.Error{
		Kind:    clierr.Refused,
		Message: path + " is none of the files that were migrated, or was written to since",
		Hint:    "use one of " + strings.Join(files, ", "),
	}
}
