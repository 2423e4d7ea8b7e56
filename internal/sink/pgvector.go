package sink

import (
	"context"
	"fmt"

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
		return &clierr.Error{
			Kind: clierr.Refused,
			Message: fmt.Sprintf("pgvector %s is older than %s, the first with the HNSW index that Flujo creates",
				s.PGVector, postgres.OldestPGVector),
			Hint:   "install a newer version and run ALTER EXTENSION vector UPDATE",
			Advice: orWithoutPGVector,
		}
	}
	return nil
}

func (t *Tx) findPGVector(ctx context.Context, s *Schema) (err error) {
	s.PGVector, s.typesSchema, err = t.PGVector(ctx)
	return err
}

func (t *Tx) createPGVector(ctx context.Context) error {
	var available, public bool
	err := t.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector'),
		EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public')`).Scan(&available, &public)
	if err != nil {
		return t.WrapError("look up pgvector", err)
	}
	if !available {
		return &clierr.Error{
			Kind:    clierr.Refused,
			Message: "the server does not have the pgvector extension, and Flujo does not start without it",
			Hint:    "install it on the server, or use an image that has it (pgvector/pgvector)",
			Advice:  orWithoutPGVector,
		}
	}
	// In schema public, so that Flujo's schema can be moved or dropped.
	schema := t.Schema
	if public {
		schema = "public"
	}
	err = t.Run(ctx, "CREATE EXTENSION vector SCHEMA "+sqltext.Ident(schema))
	switch postgres.Code(err) {
	case postgres.InsufficientPrivilege:
		return &clierr.Error{
			Kind: clierr.Refused, Err: postgres.ServerError(err),
			Message: fmt.Sprintf(
				"role %q may not create the pgvector extension, and Flujo does not start without it",
				t.Server.Role,
			),
			Hint:   fmt.Sprintf("have a superuser run CREATE EXTENSION vector in database %q", t.Server.Database),
			Advice: orWithoutPGVector,
		}
	case postgres.DuplicateObject, postgres.DuplicateFunction:
		return &clierr.Error{
			Kind: clierr.Refused, Err: postgres.ServerError(err),
			Message: fmt.Sprintf(
				"the pgvector extension cannot be created in schema %q, which has objects with the same names",
				schema,
			),
			Hint:   "have it created in another schema",
			Advice: orWithoutPGVector,
		}
	}
	if err != nil {
		return t.WrapError("create the extension pgvector", err)
	}
	return nil
}
