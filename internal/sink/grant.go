package sink

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/sqltext"
)

// SetOwner makes a role the owner of Flujo's tables and of the program's own, and of the
// schema if Prepare created it. In a schema that existed it grants the role USAGE and
// CREATE. Flujo, at its start, needs to own the tables.
func (t *Tx) SetOwner(ctx context.Context, s *Schema, role string) error {
	if err := t.checkRole(ctx, role); err != nil {
		return err
	}
	schema, name := sqltext.Ident(t.Schema), sqltext.Ident(role)
	statements := []string{fmt.Sprintf("GRANT USAGE, CREATE ON SCHEMA %s TO %s", schema, name)}
	if s.Created {
		statements = []string{fmt.Sprintf("ALTER SCHEMA %s OWNER TO %s", schema, name)}
	}
	own, err := t.ownTables(ctx)
	if err != nil {
		return err
	}
	taken := map[string][]string{}
	for _, table := range append(t.flujoTables(s), own...) {
		var owner string
		var keeps bool // its privileges, as a superuser or a member of role
		const query = "SELECT pg_get_userbyid(relowner), pg_has_role(relowner, $2::name, 'USAGE') FROM pg_class " +
			"WHERE oid = to_regclass($1)"
		if err := t.QueryRow(ctx, query, t.Name(table), role).Scan(&owner, &keeps); err != nil {
			return t.WrapError(fmt.Sprintf("read the owner of table %q", table), err)
		}
		if owner != role {
			statements = append(statements, fmt.Sprintf("ALTER TABLE %s OWNER TO %s", t.Name(table), name))
		}
		if !keeps && !t.fresh[table] {
			taken[owner] = append(taken[owner], table)
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(taken)) {
		s.Warnings = append(
			s.Warnings,
			fmt.Sprintf("role %q was the owner of %s, and has no privileges on them any more: "+
				"a Flujo that connects as %q fails", owner, strings.Join(taken[owner], ", "), owner),
		)
	}
	usage, err := t.grantVectors(ctx, s, role)
	if err != nil {
		return err
	}
	step := fmt.Sprintf("make role %q the owner of the tables in schema %q", role, t.Schema)
	hint := fmt.Sprintf("connect as a superuser, or as the owner of the schema and the tables after "+
		"GRANT %s TO %s", name, sqltext.Ident(t.Server.Role))
	return t.runAsOwner(ctx, step, hint, append(statements, usage...))
}

// Grant grants a role what Flujo needs if it is started with FLUJO_AUTO_MIGRATE=false,
// and what a migration into these tables needs. The role does not own the tables.
func (t *Tx) Grant(ctx context.Context, s *Schema, role string) error {
	name := sqltext.Ident(role)
	grants := []string{fmt.Sprintf("GRANT USAGE, CREATE ON SCHEMA %s TO %s", sqltext.Ident(t.Schema), name)}
	for _, table := range append(slices.Clip(s.tables), mapping.VersionsTable) {
		grants = append(
			grants,
			fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s", t.Name(table.Name), name),
		)
		if column := table.Serial(); column != "" {
			sequence, err := t.sequence(ctx, &table)
			if err != nil {
				return err
			}
			grants = append(grants, fmt.Sprintf("GRANT USAGE, SELECT, UPDATE ON SEQUENCE %s TO %s", sequence, name))
		}
	}
	return t.grant(ctx, s, role, grants, "SELECT, INSERT")
}

// GrantRead grants a role what verify needs: to read Flujo's tables and the program's
// own.
func (t *Tx) GrantRead(ctx context.Context, s *Schema, role string) error {
	name := sqltext.Ident(role)
	grants := []string{fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", sqltext.Ident(t.Schema), name)}
	for _, table := range t.flujoTables(s) {
		grants = append(grants, fmt.Sprintf("GRANT SELECT ON %s TO %s", t.Name(table), name))
	}
	own, err := t.ownTables(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(own, mapping.Receipts) {
		s.Notes = append(s.Notes, fmt.Sprintf("role %q may not read %s, which a migration creates: "+
			"grant again after the migration", role, mapping.Receipts))
	}
	return t.grant(ctx, s, role, grants, "SELECT")
}

// grant executes grants to a role, and grants privileges on the program's own tables and
// the use of pgvector's types.
func (t *Tx) grant(ctx context.Context, s *Schema, role string, grants []string, own string) error {
	if err := t.checkRole(ctx, role); err != nil {
		return err
	}
	tables, err := t.ownTables(ctx)
	if err != nil {
		return err
	}
	for _, table := range tables {
		grants = append(grants, fmt.Sprintf("GRANT %s ON %s TO %s", own, t.Name(table), sqltext.Ident(role)))
	}
	usage, err := t.grantVectors(ctx, s, role)
	if err != nil {
		return err
	}
	return t.runAsOwner(ctx, fmt.Sprintf("grant privileges to role %q", role),
		"connect as a superuser, or as the owner of the schema and the tables", append(grants, usage...))
}

// grantVectors returns the statement that lets a role use pgvector's types, or nothing if
// it may use them or no table has any.
func (t *Tx) grantVectors(ctx context.Context, s *Schema, role string) ([]string, error) {
	if s.typesSchema == "" || !s.Has(mapping.Memories) {
		return nil, nil
	}
	var may bool
	if err := t.QueryRow(ctx, "SELECT has_schema_privilege($1::text, $2::text, 'USAGE')", role, s.typesSchema).
		Scan(&may); err != nil {
		return nil, t.WrapError("look up the privileges on the schema of pgvector", err)
	}
	if may {
		return nil, nil
	}
	return []string{
		fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", sqltext.Ident(s.typesSchema), sqltext.Ident(role)),
	}, nil
}

// flujoTables returns the names of the tables of the schema that are Flujo's.
func (t *Tx) flujoTables(s *Schema) (names []string) {
	for i := range s.tables {
		names = append(names, s.tables[i].Name)
	}
	return append(names, mapping.Versions)
}

// ownTables returns the names of the program's own tables that exist in the schema.
func (t *Tx) ownTables(ctx context.Context) (names []string, err error) {
	for _, name := range []string{mapping.Receipts, mapping.Originals.Name} {
		exists, err := t.HasTable(ctx, name)
		if err != nil {
			return nil, err
		}
		if exists {
			names = append(names, name)
		}
	}
	return names, nil
}

// checkRole returns a clierr.Usage if there is no such role.
func (t *Tx) checkRole(ctx context.Context, role string) error {
	var exists bool
	if err := t.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role).
		Scan(&exists); err != nil {
		return t.WrapError(fmt.Sprintf("look up role %q", role), err)
	}
	if exists {
		return nil
	}
	return &clierr.Error{
		Kind:    clierr.Usage,
		Message: fmt.Sprintf("role %q does not exist", role),
		Hint:    "create it first, or name another role",
	}
}

// runAsOwner executes statements that need the owner's privileges; hint says how to get
// them.
func (t *Tx) runAsOwner(ctx context.Context, step, hint string, statements []string) error {
	err := t.Run(ctx, strings.Join(statements, ";"))
	if postgres.Code(err) == postgres.InsufficientPrivilege {
		return &clierr.Error{Kind: clierr.Refused, Message: step, Err: postgres.ServerError(err), Hint: hint}
	}
	if err != nil {
		return t.WrapError(step, err)
	}
	return nil
}
