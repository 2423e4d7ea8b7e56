package sink

import (
	"context"
	"strings"
)

// makePrivate revokes the privileges of all roles but the owner on a schema and on the
// tables and sequences in it, as ALTER DEFAULT PRIVILEGES grants them to what is created.
// what is not a relation of the program's own, such as except, keeps its privileges.
func (t *Tx) makePrivate(ctx context.Context, schema, except string) error {
	var revoke string
	var all []string
	err := t.Each(
		ctx,
		`WITH objects AS (
			SELECT format('SCHEMA %I', nspname) AS name, nspowner AS owner, nspacl AS acl
				FROM pg_namespace WHERE nspname = $1
			UNION ALL SELECT format('TABLE %I.%I', n.nspname, c.relname), c.relowner, c.relacl
				FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
				WHERE n.nspname = $1 AND c.relkind IN ('r', 'S') AND c.relname <> $2)
		SELECT DISTINCT format('REVOKE ALL ON %s FROM %s CASCADE', o.name,
			CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END)
		FROM objects o, aclexplode(o.acl) g WHERE g.grantee <> o.owner`,
		[]any{schema, except},
		[]any{&revoke},
		func() { all = append(all, revoke) },
	)
	if err != nil || len(all) == 0 {
		return err
	}
	if err := t.Run(ctx, strings.Join(all, ";")); err != nil {
		return t.WrapError("revoke the default privileges on schema "+schema, err)
	}
	return nil
}
