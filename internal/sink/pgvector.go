package sink

import (
	"context"
	"fmt"

	"flujo-port/internal/fault"
)

// oldestPGVector is the first version that has the HNSW index of Flujo's
// memories table.
var oldestPGVector = [2]int{0, 5}

// withoutPGVector is what can be done where the extension is not to be had.
const withoutPGVector = `or run with --without-pgvector: Flujo then starts and works, without memory indexing`

// ensurePGVector finds the extension or creates it. Flujo does not start where
// it can't, so neither is done here: a fault.Refused.
func (t *Tx) ensurePGVector(ctx context.Context, s *Schema) error {
	found, err := t.findPGVector(ctx, s)
	if err != nil {
		return err
	}
	if !found {
		if err := t.createPGVector(ctx); err != nil {
			return err
		}
		s.MadeTypes = true
		if _, err := t.findPGVector(ctx, s); err != nil {
			return err
		}
	}
	var have [2]int
	if _, err := fmt.Sscanf(s.PGVector, "%d.%d", &have[0], &have[1]); err != nil {
		return fmt.Errorf("pgvector calls its version %q: %w", s.PGVector, err)
	}
	if have[0] < oldestPGVector[0] || have[0] == oldestPGVector[0] && have[1] < oldestPGVector[1] {
		return &fault.Error{
			Kind: fault.Refused,
			What: fmt.Sprintf("pgvector %s is older than %d.%d, the first with the index that Flujo makes (HNSW)", s.PGVector, oldestPGVector[0], oldestPGVector[1]),
			Do:   "install a newer one and run ALTER EXTENSION vector UPDATE, " + withoutPGVector,
		}
	}
	if s.types != t.schema && s.types != "public" {
		s.Notes = append(s.Notes, fmt.Sprintf(
			"pgvector is in schema %q, which is not on Flujo's search_path: Flujo's memory search will not find its operators", s.types))
	}
	return nil
}

func (t *Tx) findPGVector(ctx context.Context, s *Schema) (found bool, err error) {
	err = t.each(ctx, `SELECT e.extversion, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
		WHERE e.extname = 'vector'`, nil, []any{&s.PGVector, &s.types}, func() { found = true })
	return found, err
}

func (t *Tx) createPGVector(ctx context.Context) error {
	var available, public bool
	err := t.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector'),
		EXISTS (SELECT FROM pg_namespace WHERE nspname = 'public')`).Scan(&available, &public)
	if err != nil {
		return t.fault("look for pgvector", err)
	}
	if !available {
		return &fault.Error{
			Kind: fault.Refused, What: "the server does not have the extension pgvector, and Flujo does not start without it",
			Do: "install it on the server, or use an image that has it (pgvector/pgvector), " + withoutPGVector,
		}
	}
	// In public, so that Flujo's schema can be moved or dropped without it.
	schema := t.schema
	if public {
		schema = "public"
	}
	err = t.exec(ctx, "CREATE EXTENSION vector SCHEMA "+ident(schema))
	switch code(err) {
	case insufficientPrivilege:
		return &fault.Error{
			Kind: fault.Refused, Err: serverError(err),
			What: fmt.Sprintf("role %q may not create the extension pgvector, and Flujo does not start without it", t.server.Role),
			Do:   fmt.Sprintf("have a superuser run CREATE EXTENSION vector in database %q, %s", t.server.Database, withoutPGVector),
		}
	case duplicateObject, duplicateFunction:
		return &fault.Error{
			Kind: fault.Refused, Err: serverError(err),
			What: fmt.Sprintf("the extension pgvector can't be created in schema %q, where something of its names is already", schema),
			Do:   "have it created in another schema, " + withoutPGVector,
		}
	}
	if err != nil {
		return t.fault("create the extension pgvector", err)
	}
	return nil
}
