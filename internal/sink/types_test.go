package sink

import (
	"fmt"
	"testing"

	"flujo-port/internal/clierr"
	"flujo-port/internal/mapping"
	"flujo-port/internal/pgtest"
)

// columnType is the query for the type of a column of steps or its sequence.
const (
	idType = `SELECT format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = 'flujo.steps'::regclass AND attname = 'id'`
	sequenceType = `SELECT format_type(seqtypid, NULL) FROM pg_sequence WHERE seqrelid = 'flujo.steps_id_seq'::regclass`
	costType     = `SELECT format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = 'flujo.steps'::regclass AND attname = 'cost_usd'`
	tokensType = `SELECT format_type(atttypid, atttypmod) FROM pg_attribute
		WHERE attrelid = 'flujo.steps'::regclass AND attname = 'token_counts'`
)

func TestWiden(t *testing.T) {
	t.Parallel()
	tx, s := prepare(t, pgtest.Database(t))
	conn := tx.Conn.Conn
	check(t, tx.Widen(background, s, steps, "token_counts"))
	wantOne(t, conn, tokensType, "bigint")
	wantOne(t, conn, idType, "integer")
	wantOne(t, conn, sequenceType, "integer")
	check(t, tx.Widen(background, s, steps, "id"))
	wantOne(t, conn, idType, "bigint")
	wantOne(t, conn, sequenceType, "bigint")
	if !s.Types.Wide["steps.token_counts"] || !s.Types.Wide["steps.id"] || len(s.Types.Wide) != 2 {
		t.Errorf("got the types %+v", s.Types)
	}
	run(t, conn, "ALTER TABLE flujo.spans ALTER id DROP DEFAULT; DROP SEQUENCE flujo.spans_id_seq")
	wantError(t, tx.Widen(background, s, mapping.TableOf("spans"), "id"), clierr.Refused, "spans.id", "has no sequence")
}

// TestPrepareTypes tests that new tables have the types that the file needs.
func TestPrepareTypes(t *testing.T) {
	t.Parallel()
	tx := begin(t, pgtest.Database(t))
	types := mapping.NewTypes(true)
	types.Wide["steps.id"] = true
	if _, err := tx.Prepare(background, true, types); err != nil {
		t.Fatal(err)
	}
	wantOne(t, tx.Conn.Conn, idType, "bigint")
	wantOne(t, tx.Conn.Conn, sequenceType, "bigint")
	wantOne(t, tx.Conn.Conn, costType, "double precision")
	wantOne(t, tx.Conn.Conn, tokensType, "integer")
}

// TestAdapt tests existing columns that are narrower than the file needs.
func TestAdapt(t *testing.T) {
	t.Parallel()
	url, _ := initialized(t)
	tx := begin(t, url)
	s, err := tx.Prepare(background, true, mapping.NewTypes(true))
	check(t, err)
	wantOne(t, tx.Conn.Conn, costType, "real")
	check(t, tx.Adapt(background, s))
	wantOne(t, tx.Conn.Conn, costType, "double precision")
	commit(t, tx)

	// Wider columns stay, and the types say so.
	tx, s = prepare(t, url)
	check(t, tx.Adapt(background, s))
	wantOne(t, tx.Conn.Conn, costType, "double precision")
	if !s.Types.Double["steps.cost_usd"] {
		t.Errorf("got the types %+v", s.Types)
	}
}

func TestAlterTypeRefused(t *testing.T) {
	t.Parallel()
	url, conn := initialized(t)
	role := pgtest.Role(t, url, "")
	run(t, conn, "CREATE VIEW flujo.costs AS SELECT id, cost_usd FROM flujo.steps",
		fmt.Sprintf("GRANT ALL ON SCHEMA flujo TO %[1]s; GRANT ALL ON ALL TABLES IN SCHEMA flujo TO %[1]s",
			roleName(t, role)))
	tx := begin(t, url)
	s, err := tx.Prepare(background, true, mapping.NewTypes(true))
	check(t, err)
	wantError(t, tx.Adapt(background, s), clierr.Refused,
		"change column steps.cost_usd to double precision", "costs", "drop the views")
	tx.Rollback()

	tx, s = prepare(t, role)
	wantError(t, tx.Widen(background, s, steps, "id"), clierr.Refused, "change column steps.id to bigint", "42501",
		`ALTER TABLE "flujo"."steps" ALTER COLUMN "id" TYPE bigint; ALTER SEQUENCE "flujo"."steps_id_seq" AS bigint`)
}
