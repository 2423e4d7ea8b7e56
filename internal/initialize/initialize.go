// Package initialize creates the schema and Flujo's tables without rows.
package initialize

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/stateuri"
)

// Options are the options of Run.
type Options struct {
	Postgres        string // connection string; "" to use only the PG* variables
	Schema          string
	WithoutPGVector bool
	Owner           string // role that becomes the owner; may be empty
	GrantTo         string // role that is granted what Flujo needs without its migrations; may be empty
	GrantRead       string // role that is granted what verify needs; may be empty
	NoMigrations    bool   // Flujo will be started with FLUJO_AUTO_MIGRATE=false

	// Cutover is the address by which Flujo will connect. It is tried after the commit,
	// unless it is zero or Flujo connects as another role.
	Cutover stateuri.Address

	OnProgress progress.Func
}

// Run creates the schema and Flujo's tables if they do not exist, in one transaction,
// and records Flujo's migrations. It does not change existing rows. After an error nothing
// was created, except that a *sink.CommitUnknownError means that the outcome is unknown.
func Run(ctx context.Context, o Options) (*report.Init, error) {
	o.OnProgress.Start(progress.Connect)
	tx, err := sink.Begin(ctx, o.Postgres, o.Schema, postgres.LockWait)
	if err != nil {
		return nil, explain(ctx, o, err)
	}
	defer tx.Rollback()
	o.OnProgress.Start(progress.Schema)
	schema, err := initialize(ctx, tx, o)
	if err != nil {
		return nil, explain(ctx, o, err)
	}
	role, err := flujoRole(ctx, tx, o)
	if err != nil {
		return nil, explain(ctx, o, err)
	}
	o.OnProgress.Start(progress.Commit)
	warnings, err := tx.Commit(func() error { return nil })
	if err != nil {
		return nil, err
	}
	result := describe(tx, schema, o)
	result.Role, result.FlujoRole = tx.Server.Role, role
	result.Warnings = append(append(result.Warnings, schema.Warnings...), warnings...)
	if role == tx.Server.Role && !o.Cutover.IsZero() {
		tryAddress(ctx, tx, result, o)
	}
	return result, nil
}

// flujoRole returns the role that Flujo connects as: the one that was named, or else that of the session if it has the
// privileges of the owner of the tables and is not an administrator, or else that owner.
func flujoRole(ctx context.Context, tx *sink.Tx, o Options) (role string, err error) {
	if role = cmp.Or(o.Owner, o.GrantTo); role != "" {
		return role, nil
	}
	err = tx.QueryRow(ctx, `SELECT CASE WHEN r.rolsuper OR NOT pg_has_role(c.relowner, 'USAGE')
			THEN pg_get_userbyid(c.relowner) ELSE r.rolname END
		FROM pg_class c, pg_roles r WHERE c.oid = to_regclass($1) AND r.rolname = current_user`, tx.Name(mapping.Runs)).
		Scan(&role)
	if err != nil {
		return "", tx.WrapError("look up the owner of the tables", err)
	}
	return role, nil
}

// tryAddress checks that a session by the cutover address finds the tables. The tables
// exist, so a failure is a warning. The report has the address that Flujo will need, even
// if it does not work yet.
func tryAddress(ctx context.Context, tx *sink.Tx, result *report.Init, o Options) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	address, trial, notes, err := postgres.ResolveAddress(ctx, o.Cutover, o.Schema, !o.WithoutPGVector)
	if err == nil {
		result.Address = address
		result.Notes = append(result.Notes, notes...)
		err = trial.CheckSession(tx.Server, o.Schema)
	}
	if err == nil {
		err = trial.CheckSchema(o.Schema)
	}
	if err == nil {
		err = trial.CheckPrepared()
	}
	if err != nil {
		result.Warnings = append(result.Warnings, "the cutover address does not work yet: "+err.Error())
		return
	}
	if message, hint := trial.PreparedUnknown(); message != "" {
		result.Warnings = append(result.Warnings, message+"; "+hint)
	}
	result.CutoverTried = true
}

// explain returns the error of ctx if it has ended, since that is the cause of err.
// After a lock timeout it looks for the session that holds the lock.
func explain(ctx context.Context, o Options, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return postgres.FindBlocker(ctx, o.Postgres, err)
}

func initialize(ctx context.Context, tx *sink.Tx, o Options) (*sink.Schema, error) {
	schema, err := tx.Prepare(ctx, o.WithoutPGVector, mapping.NewTypes(false))
	if err != nil {
		return nil, adviseAdministrator(err)
	}
	if err := tx.Finish(ctx, schema); err != nil {
		return nil, adviseAdministrator(err)
	}
	for _, grant := range []struct {
		role string
		to   func(context.Context, *sink.Schema, string) error
	}{{o.Owner, tx.SetOwner}, {o.GrantTo, tx.Grant}, {o.GrantRead, tx.GrantRead}} {
		if grant.role == "" {
			continue
		}
		if err := grant.to(ctx, schema, grant.role); err != nil {
			return nil, err
		}
	}
	if err := tryStart(ctx, tx, schema, o); err != nil {
		return nil, err
	}
	return schema, ctx.Err()
}

// adviseAdministrator replaces the hint of a missing privilege, since it is an administrator who runs init for
// another role: the advice to run init would lead nowhere.
func adviseAdministrator(err error) error {
	e, ok := errors.AsType[*clierr.Error](err)
	if !ok || postgres.Code(err) != postgres.InsufficientPrivilege || e.Advice.Topic == clierr.WithoutPGVector {
		return err
	}
	e.Advice = clierr.Advice{}
	if !strings.Contains(e.Hint, "GRANT ") {
		e.Hint = "connect as a superuser, or as the owner of the schema and the tables"
	}
	return err
}

// tryStart tries what Flujo does at its start, as the role that owns the tables or is
// granted their use.
func tryStart(ctx context.Context, tx *sink.Tx, schema *sink.Schema, o Options) error {
	if o.Owner != "" {
		return tx.TryStart(ctx, schema, o.Owner, sink.FlujoStart{NoMigrations: o.NoMigrations})
	}
	if o.GrantTo == "" {
		return nil
	}
	if !o.NoMigrations {
		schema.Notes = append(
			schema.Notes,
			fmt.Sprintf("role %q does not own the tables, so Flujo starts as that role "+
				"only with FLUJO_AUTO_MIGRATE=false", o.GrantTo),
		)
	}
	return nil
}

func describe(tx *sink.Tx, schema *sink.Schema, o Options) *report.Init {
	server := tx.Server
	result := &report.Init{
		Database: server.Database, Schema: o.Schema,
		PGVector: schema.PGVector, Owner: o.Owner, GrantedTo: o.GrantTo, GrantedRead: o.GrantRead,
		Created: []string{}, Existing: []string{}, Notes: append([]string{}, schema.Notes...), Warnings: []string{},
	}
	if schema.CreatedPGVector {
		result.Created = append(result.Created, "extension pgvector "+schema.PGVector)
	}
	if schema.Created {
		result.Created = append(result.Created, "schema "+o.Schema)
	}
	for _, table := range append(schema.Tables()[:len(schema.Tables()):len(schema.Tables())], mapping.VersionsTable) {
		if schema.Existing[table.Name] {
			result.Existing = append(result.Existing, table.Name)
		} else {
			result.Created = append(result.Created, table.Name)
		}
	}
	for _, index := range schema.Indexes {
		result.Created = append(result.Created, "index "+index)
	}
	return result
}
