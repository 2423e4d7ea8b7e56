package sink

import (
	"context"
	"fmt"

	"flujo-port/internal/fault"
	"flujo-port/internal/pg"
)

// withoutPGVector is what can be done where the extension is not to be had.
const withoutPGVector = `or run with --without-pgvector: Flujo then starts and works, without memory indexing`

// ensurePGVector finds the extension or creates it. Flujo does not start where
// it can't, so neither is done here: a fault.Refused.
func (t *Tx) ensurePGVector(ctx context.Context, s *Schema) error {
	if err := t.findPGVector(ctx, s); err != nil {
		return err
	}
	if s.PGVector == "" {
		if err := t.createPGVector(ctx); err != nil {
			return err
		}
		s.MadeTypes = true
		if err := t.findPGVector(ctx, s); err != nil {
			return err
		}
	}
	if !pg.NewEnough(s.PGVector) {
		return &fault.Error{
			Kind: fault.Refused,
			What: fmt.Sprintf("pgvector %s is older than %s, the first with the index that Flujo makes (HNSW)", s.PGVector, pg.OldestPGVector),
			Do:   "install a newer one and run ALTER EXTENSION vector UPDATE, " + withoutPGVector,
		}
	}
	if s.types != t.Schema && s.types != "public" {
		s.Notes = append(s.Notes, fmt.Sprintf(
			"pgvector is in schema %q, which is not on Flujo's search_path: Flujo's memory search will not find its operators", s.types))
	}
	return nil
}

func (t *Tx) findPGVector(ctx context.Context, s *Schema) (err error) {
	s.PGVector, s.types, err = t.PGVector(ctx)
	return err
}

func (t *Tx) createPGVector(ctx context.Context) error {
	var available, public bool
	err := t.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector'),
		EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public')`).Scan(&available, &public)
	if err != nil {
		return t.Fault("look for pgvector", err)
	}
	if !available {
		return &fault.Error{
			Kind: fault.Refused, What: "the server does not have the extension pgvector, and Flujo does not start without it",
			Do: "install it on the server, or use an image that has it (pgvector/pgvector), " + withoutPGVector,
		}
	}
	// In public, so that Flujo's schema can be moved or dropped without it.
	schema := t.Schema
	if public {
		schema = "public"
	}
	err = t.Run(ctx, "CREATE EXTENSION vector SCHEMA "+pg.Ident(schema))
	switch pg.Code(err) {
	case pg.InsufficientPrivilege:
		return &fault.Error{
			Kind: fault.Refused, Err: pg.ServerError(err),
			What: fmt.Sprintf("role %q may not create the extension pgvector, and Flujo does not start without it", t.Server.Role),
			Do:   fmt.Sprintf("have a superuser run CREATE EXTENSION vector in database %q, %s", t.Server.Database, withoutPGVector),
		}
	case pg.DuplicateObject, pg.DuplicateFunction:
		return &fault.Error{
			Kind: fault.Refused, Err: pg.ServerError(err),
			What: fmt.Sprintf("the extension pgvector can't be created in schema %q, where something of its names is already", schema),
			Do:   "have it created in another schema, " + withoutPGVector,
		}
	}
	if err != nil {
		return t.Fault("create the extension pgvector", err)
	}
	return nil
}
