package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/migrate"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/verify"

	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"
)

var ifNeededFlag = &cli.BoolFlag{
	Name:     "if-needed",
	Category: groupOperation,
	Usage:    "if these files were migrated already, verify them and write nothing, also with --replace or --merge",
}

// migrateIfNeeded is migrate.Run, unless the receipts show that all files were migrated. Then it verifies them and
// returns a report with the verification.
//
// The receipts are read before the migration has a lock. If another migration was committed in between, this one
// writes nothing, and they are read again.
func (s *session) migrateIfNeeded(ctx context.Context, o migrate.Options) (*report.Migration, error) {
	for {
		verified, last, err := verify.IfMigrated(ctx, verify.Options{
			SQLite:        o.SQLite,
			More:          o.More,
			Postgres:      o.Postgres,
			Schema:        o.Schema,
			SkipIntegrity: o.SkipIntegrity,
			OnFinding:     s.onFinding(),
			OnDifference:  s.addDifference,
			OnUnit:        s.addUnit,
			OnProgress:    o.OnProgress,
		})
		if verified != nil {
			return alreadyMigrated(ctx, verified, o, err)
		}
		if err != nil {
			return nil, err
		}
		s.findings.clear() // those of files before one that was not migrated
		s.differences.clear()
		s.units.clear()
		o.After = &last
		if result, err := migrate.Run(ctx, o); !errors.Is(err, migrate.ErrMigratedSince) {
			return result, err
		}
	}
}

// alreadyMigrated returns the report and the error of a migration that is not needed. err is that of the verification.
func alreadyMigrated(
	ctx context.Context, verified *report.Verification, o migrate.Options, err error,
) (*report.Migration, error) {
	result := report.NewAlreadyMigrated(verified, append([]string{o.SQLite}, o.More...)...)
	result.DryRun = o.DryRun
	if err == nil && result.Refused {
		err = incomplete(result)
	}
	if err != nil {
		return result, err
	}
	o.OnProgress.Start(progress.Connect)
	address, trial, notes, err := tryAddress(ctx, o.Cutover, o.Schema, !o.WithoutPGVector)
	if err == nil {
		err = trial.CheckSchema(o.Schema)
	}
	if err != nil {
		return nil, &clierr.Error{
			Kind: clierr.KindOf(err), Err: err,
			Message: "the state file was migrated already, but the cutover address cannot be used",
		}
	}
	if err := trial.CheckPrepared(); err != nil {
		result.Warn("%v", err)
	}
	if message, hint := trial.PreparedUnknown(); message != "" {
		result.Warn("%s; %s", message, hint)
	}
	result.Address, result.Notes = address, append(result.Notes, notes...)
	return result, nil
}

// incomplete returns the error for files that were migrated, and of which rows were deleted since.
func incomplete(result *report.Migration) error {
	n := int(result.AlreadyMigrated.Incomplete())
	migrated, their := "state file "+result.Migrated(), "its"
	if len(result.Further) > 0 {
		migrated, their = "the state files were migrated", "their"
	}
	lack := english.PluralWord(n, "lacks", "lack")
	return &clierr.Error{
		Kind: clierr.Refused,
		Message: fmt.Sprintf("%s, but %d of %s runs, keys and memories %s rows that were deleted since",
			migrated, n, their, lack),
		Hint: "if they were deleted on purpose, nothing is left to migrate; otherwise run without --if-needed: " +
			"--merge adds the runs, keys and memories of which nothing is left, and --replace archives all rows " +
			"of the schema and loads the state file again",
	}
}

// unusedFlags returns a note on the flags for converting values that are set, although nothing was migrated.
func unusedFlags(c *cli.Context) (notes []string) {
	var names []string
	for _, f := range c.Command.Flags {
		if name := f.Names()[0]; c.IsSet(name) && f.(cli.CategorizableFlag).GetCategory() == groupValues {
			names = append(names, "--"+name)
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		notes = append(notes, fmt.Sprintf("%s had no effect, because nothing was migrated", strings.Join(names, ", ")))
	}
	return notes
}
