package restore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/extract"
	"flujo-port/internal/mapping"
	"flujo-port/internal/progress"
	"flujo-port/internal/receipt"
	"flujo-port/internal/report"
	"flujo-port/internal/source"
)

// runFromReceipt writes the file of a receipt as it was at its migration. With a base,
// which is that file, it copies the base. Otherwise it writes the file's rows, as far as
// they are stored, and refuses if one of them was changed since. Both are verified by the
// digests in the receipt.
func (r *restoration) runFromReceipt(ctx context.Context) (err error) {
	r.describeSource()
	if r.migrated = r.receipts.ByID(r.options.FromReceipt); r.migrated == nil {
		return r.noReceipt(ctx)
	}
	r.result.Receipt = r.migrated.Note(r.migrated.File.SHA256, r.migrated.File.WALSHA256)
	r.result.Note("the new file is that of receipt %d, as it was migrated at %s UTC: later changes are not in it",
		r.migrated.ID, r.migrated.MigratedAt.Format(time.DateTime))
	if r.conversion, err = r.migrated.MappingOptions(r.stored.Server(), r.options.NaiveZone); err != nil {
		return err
	}
	if r.options.Base != "" {
		return r.copyOfReceipt(ctx)
	}
	r.noteRounded(receipt.Receipts{r.migrated}, nil)
	if err := r.stored.CheckNoExtraColumns(); err != nil {
		return err
	}
	if r.stored, err = r.migrated.Stored(ctx, r.stored); err != nil {
		return err
	}
	if err := r.needRows(ctx); err != nil {
		return err
	}
	if err := r.countRows(ctx); err != nil {
		return err
	}
	if err := r.rewrite(ctx, nil); err != nil {
		return err
	}
	if err := r.verify(ctx); err != nil {
		return err
	}
	return r.finish(ctx)
}

// noReceipt returns the error for a receipt that the schema does not have.
func (r *restoration) noReceipt(ctx context.Context) error {
	all, err := receipt.All(ctx, r.stored.Conn())
	if err != nil {
		return err
	}
	if all.ByID(r.options.FromReceipt) != nil {
		return &clierr.Error{
			Kind:    clierr.Refused,
			Message: fmt.Sprintf("the rows of receipt %d were replaced by a later migration", r.options.FromReceipt),
			Hint:    "use the file itself, or the archive schema that the report of the migration names",
		}
	}
	var have []string
	for _, one := range r.receipts {
		have = append(have, fmt.Sprintf("%d (%s)", one.ID, clierr.Name(one.File.Path)))
	}
	hint := "the schema has none"
	if len(have) > 0 {
		hint = "the schema has the receipts " + strings.Join(have, ", ")
	}
	return &clierr.Error{
		Kind: clierr.Usage, Message: fmt.Sprintf("there is no receipt %d", r.options.FromReceipt), Hint: hint}
}

// needRows refuses if the stored rows of the file are not those of the receipt.
func (r *restoration) needRows(ctx context.Context) (err error) {
	r.options.OnProgress.Start(progress.Verify)
	if r.digests, err = r.stored.Digests(ctx); err != nil {
		return err
	}
	var changed []string
	for _, table := range r.stored.Tables() {
		have, want := r.digests[table.Name], r.migrated.Table(table.Name).OfFile()
		if have.Rows != want.Rows || want.Sum != "" && have.Sum != want.Sum {
			changed = append(changed, fmt.Sprintf("%s has %d of %d rows", table.Name, have.Rows, want.Rows))
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf("PostgreSQL no longer has all rows of receipt %d as they were migrated, or it is unknown "+
			"which they are: %s", r.migrated.ID, strings.Join(changed, ", ")),
		Hint: fmt.Sprintf(
			"Flujo changed rows since, or the database is a copy: use the file itself as the base, %s with "+
				"SHA-256 %s",
			clierr.Name(r.migrated.File.Path),
			r.migrated.File.SHA256,
		),
	}
}

// copyOfReceipt copies the base, which must be the file of the receipt.
func (r *restoration) copyOfReceipt(ctx context.Context) error {
	base, format, err := openBase(ctx, r.options.Base)
	if err != nil {
		return err
	}
	defer base.Close()
	described := extract.Describe(base, format)
	r.result.Base = &described
	r.result.Base.Integrity = source.IntegrityCheck
	reading, integrity := base.StartIntegrityCheck(ctx)
	defer integrity.Stop()
	main, wal, err := base.SHA256(reading)
	if err != nil {
		return integrity.Explain(err)
	}
	r.result.Base.SHA256, r.result.Base.WALSHA256 = main, wal
	if !r.migrated.SameFile(main, wal) {
		return &clierr.Error{
			Kind:    clierr.Refused,
			Message: fmt.Sprintf("%s is not the file of receipt %d", clierr.Name(base.Path()), r.migrated.ID),
			Hint: fmt.Sprintf("use the file with SHA-256 %s, which was %s", r.migrated.File.SHA256,
				clierr.Name(r.migrated.File.Path)),
		}
	}
	if err := integrity.Wait(); err != nil {
		return err
	}
	if err := r.file.SetMode(base.Mode()); err != nil {
		return err
	}
	if err := r.copyBase(base); err != nil {
		return err
	}
	if wal != "" {
		if err := r.mergeWAL(ctx); err != nil {
			return err
		}
	}
	if err := r.verifyCopy(ctx, main, wal); err != nil {
		return err
	}
	return r.finish(ctx)
}

// mergeWAL moves the rows in the -wal of the copy to the file.
func (r *restoration) mergeWAL(ctx context.Context) error {
	if err := r.file.Open(ctx); err != nil {
		return err
	}
	version, err := r.file.Version(ctx)
	if err != nil {
		return err
	}
	return r.file.Finish(ctx, version)
}

// verifyCopy compares the copy with the receipt: the checksum, or after mergeWAL the
// digests of the rows.
func (r *restoration) verifyCopy(ctx context.Context, main, wal string) error {
	r.options.OnProgress.Start(progress.Verify)
	snapshot, format, err := extract.Open(ctx, r.file.Path())
	if err != nil {
		return err
	}
	defer snapshot.Close()
	config := r.migrated.Config(snapshot, format, r.stored.Types(), r.conversion)
	result, err := extract.New(snapshot, config).Run(ctx, extract.Discard{})
	if err != nil {
		return err
	}
	if r.result.File.SHA256, _, err = snapshot.SHA256(ctx); err != nil {
		return err
	}
	r.result.File.Bytes = snapshot.Size()
	same := wal != "" || r.result.File.SHA256 == main
	for _, t := range result.Findings.Tables {
		was, is := r.migrated.Table(t.Name).OfFile(), result.Digest(t.Name)
		match := is.Rows == was.Rows && (was.Sum == "" || is.Sum == was.Sum) || same && wal == ""
		if t.Name == mapping.Memories && is.Rows == 0 {
			continue
		}
		r.result.Tables = append(r.result.Tables, report.RestoredTable{
			Name: t.Name, InPostgres: was.Rows, FromBase: t.RowsRead - t.Rejected, Rejected: t.Rejected,
			Derived: t.Derived, Match: match, FileDigest: is.Sum})
		same = same && match
	}
	if same {
		return nil
	}
	return &clierr.Error{
		Kind:    clierr.Mismatch,
		Message: fmt.Sprintf("the copy differs from the file of receipt %d", r.migrated.ID),
		Hint:    "run again; if it fails again, check the disk",
	}
}
