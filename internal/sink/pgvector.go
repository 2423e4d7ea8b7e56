package sink

import (
	"context"
	"fmt"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sqltext"
)

// orWithoutPGVector is the advice for a server without a usable pgvector.
var orWithoutPGVector = clierr.Advice{Topic: clierr.WithoutPGVector}

// ensurePGVector finds pgvector or creates it. If it cannot, the error is a
// clierr.Refused, since Flujo does not start without it.
func (t *Tx) ensurePGVector(ctx context.Context, s *Schema) error {
	if err := t.findPGVector(ctx, s); err != nil {
		return err
	}
	if s.PGVector == "" {
		if err := t.createPGVector(ctx); err != nil {
			return err
		}
		s.CreatedPGVector = true
		if err := t.findPGVector(ctx, s); err != nil {
			return err
		}
	}
	if !postgres.SupportsHNSW(s.PGVector) {
		hint := "install a newer version on the server"
		if !s.CreatedPGVector {
			hint += " and run ALTER EXTENSION vector UPDATE"
		}
		return &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("pgvector %s is older than %s, the first with the HNSW index that Flujo creates",
				s.PGVector, postgres.OldestPGVector),
			Hint:   hint,
			Advice: orWithoutPGVector,
		}
	}
	return nil
}

func (t *Tx) findPGVector(ctx context.Context, s *Schema) (err error) {
	s.PGVector, s.typesSchema, err = t.PGVector(ctx)
	return err
}

// TryPGVector finds or creates pgvector in a transaction of its own, which it rolls back.
// Only the attempt tells whether the role may create it: managed servers permit it to
// roles that are no superusers. It returns the version and the schema of its types.
func TryPGVector(ctx context.Context, url, schema string, lockWait time.Duration) (*Schema, error) {
	conn, err := postgres.Open(ctx, url, schema)
	if err != nil {
		return nil, err
	}
	conn.LockWait = lockWait
	t := &Tx{Conn: conn}
	defer t.Rollback()
	if err := t.start(ctx); err != nil {
		return nil, err
	}
	s := &Schema{}
	if public, err := t.hasPublic(ctx); err != nil || public {
		if err == nil {
			err = t.ensurePGVector(ctx, s)
		}
		return s, err
	}
	if err := t.makeSchema(ctx, s); err != nil {
		return nil, err
	}
	return s, t.ensurePGVector(ctx, s)
}

func (t *Tx) hasPublic(ctx context.Context) (exists bool, err error) {
	const query = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public')"
	if err := t.QueryRow(ctx, query).Scan(&exists); err != nil {
		return false, t.WrapError("look up schema public", err)
	}
	return exists, nil
}

// createPGVector creates the extension in schema public, so that Flujo's schema can be
// moved or dropped.
func (t *Tx) createPGVector(ctx context.Context) error {
	public, err := t.hasPublic(ctx)
	if err != nil {
		return err
	}
	schema := t.Schema
	if public {
		schema = "public"
	}
	sql := "SAVEPOINT flujo_port_extension; CREATE EXTENSION vector SCHEMA " + sqltext.Ident(schema)
	if err = t.Run(ctx, sql); err == nil {
		err = t.Run(ctx, "RELEASE flujo_port_extension")
	}
	if err == nil {
		return nil
	}
	if postgres.Code(err) == "" || postgres.Code(err) == postgres.LockNotAvailable {
		return t.WrapError("create the extension pgvector", err)
	}
	return t.noPGVector(ctx, schema, err)
}

// noPGVector returns the clierr.Refused of a CREATE EXTENSION that failed with err.
func (t *Tx) noPGVector(ctx context.Context, schema string, err error) error {
	e := &clierr.Error{
		Kind:    clierr.Refused,
		Message: "the pgvector extension cannot be created, and Flujo does not start without it",
		Err:     postgres.ServerError(err),
		Hint:    "remove the cause, or have it created by another role",
		Advice:  orWithoutPGVector,
	}
	// It only words the error: what counts is that the server refused.
	available := true
	if t.Run(ctx, "ROLLBACK TO flujo_port_extension") == nil {
		_ = t.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector')").
			Scan(&available)
	}
	switch code := postgres.Code(err); {
	case code == postgres.InsufficientPrivilege:
		e.Message = fmt.Sprintf("role %q may not create the pgvector extension, and Flujo does not start without it",
			t.Server.Role)
		e.Hint = fmt.Sprintf("have a superuser, or the server's administrator role, run CREATE EXTENSION vector "+
			"in database %q", t.Server.Database)
		if !available {
			e.Hint = "install it on the server first, since it is not available there; then h" + e.Hint[1:]
		}
	case code == postgres.DuplicateObject || code == postgres.DuplicateFunction:
		e.Message = fmt.Sprintf("the pgvector extension cannot be created in schema %q, which has objects with the "+
			"same names", schema)
		e.Hint = "have it created in another schema"
	case code == postgres.NotSupported && available:
		e.Message = "the server does not permit the pgvector extension, and Flujo does not start without it"
		e.Hint = "permit it in the server's settings (Azure: azure.extensions, Amazon RDS: rds.allowed_extensions)"
	case !available:
		e.Message = "the server does not have the pgvector extension, and Flujo does not start without it"
		e.Hint = "install it on the server, or use an image that has it (pgvector/pgvector)"
	}
	return e
}
