package transfer

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"flujo-port/internal/mapping"
	"flujo-port/internal/pg"
	"flujo-port/internal/report"

	"github.com/dustin/go-humanize"
)

// connect connects to the server, and says so.
func (c *check) connect(ctx context.Context) error {
	conn, err := pg.Open(ctx, c.Postgres, c.Schema)
	if err != nil {
		return c.stopped(ctx, "reachable", err)
	}
	c.conn = conn
	s := conn.Server
	c.report.Target = &report.Target{Server: s.Name, Database: s.Database, Role: s.Role, Schema: c.Schema}
	c.ok("reachable", "database %q as role %q", s.Database, s.Role)
	return nil
}

// server looks at the server as such.
func (c *check) server(ctx context.Context) error {
	s := c.conn.Server
	if err := s.TooOld(); err != nil {
		c.stop("version", "use a newer server", "PostgreSQL %s is older than 13", s.Name)
		c.end()
		return nil
	}
	c.ok("version", "PostgreSQL %s", s.Name)
	timeouts, err := c.conn.Timeouts(ctx) // before they are switched off
	if err != nil {
		return err
	}
	if err := c.conn.Run(ctx, "BEGIN READ ONLY;"+c.conn.Settings()); err != nil {
		return c.conn.Fault("begin a snapshot", err)
	}
	if s.Encoding == "UTF8" {
		c.ok("encoding", "UTF8")
	} else {
		c.stop("encoding", "use a database with ENCODING 'UTF8'", "database %q is encoded as %s, into which Flujo's text does not fit", s.Database, s.Encoding)
	}
	switch {
	case s.Standby:
		c.stop("primary", "connect to the primary", "the server is a standby, which takes no writes")
	case s.ReadOnly:
		c.look("primary", "Flujo could not write there: see default_transaction_read_only of role and database", "transactions begin read-only")
	default:
		c.ok("primary", "it takes writes")
	}
	c.tls(c.conn.TLS())
	if err := c.rights(ctx); err != nil {
		return err
	}
	c.timeouts(timeouts)
	c.space(ctx)
	lz4, err := c.conn.LZ4(ctx)
	switch {
	case err != nil:
		return err
	case lz4:
		c.ok("lz4", "large values are compressed by lz4 while they are loaded")
	default:
		c.look("lz4", "nothing has to be done: the load takes longer (PostgreSQL 14 or later, built with lz4, has it)", "the server compresses by pglz alone")
	}
	return nil
}

// end gives up on a server that nothing more can be asked.
func (c *check) end() {
	grace, cancel := pg.Grace()
	defer cancel()
	c.conn.End(grace)
}

func (c *check) tls(t pg.TLS) {
	const verify = "use sslmode=verify-full, with sslrootcert where the certificate is your own authority's"
	switch {
	case t.Used && t.Checked:
		c.ok("TLS", "%s, and the server's certificate is checked", t.Version)
	case t.Used:
		c.look("TLS", verify, "%s, but nobody checks the server's certificate", t.Version)
	case t.Local:
		c.ok("TLS", "not used: the connection does not leave this machine")
	default:
		c.look("TLS", verify, "not used: password and rows cross the network in the clear")
	}
}

func (c *check) rights(ctx context.Context) error {
	lacking, err := c.conn.Lacking(ctx)
	if err != nil {
		return err
	}
	if len(lacking) == 0 {
		c.ok("rights", "role %q may do what a migration does", c.conn.Server.Role)
		return nil
	}
	c.stop("rights", fmt.Sprintf("have them granted, or have an owner run \"flujo-port init --grant-to %s\" first", c.conn.Server.Role),
		"role %q lacks %s", c.conn.Server.Role, strings.Join(lacking, ", "))
	return nil
}

func (c *check) timeouts(all []string) {
	if len(all) == 0 {
		c.ok("timeouts", "none that would cut a long transaction")
		return
	}
	c.look("timeouts", "nothing for the migration, which switches them off for its own transaction; Flujo's statements will be cut by them",
		"role, database or server set %s", strings.Join(all, ", "))
}

// spaceFactor is how much more than the file a migration may take on the
// server's disk, with indexes and the write-ahead log.
const spaceFactor = 3

// space compares what is free with what may be needed.
func (c *check) space(ctx context.Context) {
	if c.report.Source == nil {
		return
	}
	need := uint64(c.report.Source.Bytes) * spaceFactor
	free, known := c.conn.Free(ctx)
	switch {
	case !known:
		c.look("disk", "see that as much is free on the server", "what is free there can't be asked from here; up to %s may be needed", humanize.IBytes(need))
	case uint64(free) < need:
		c.stop("disk", "make room on the server's disk", "%s are free, and up to %s may be needed", humanize.IBytes(uint64(free)), humanize.IBytes(need))
	default:
		c.ok("disk", "%s are free, up to %s may be needed", humanize.IBytes(uint64(free)), humanize.IBytes(need))
	}
}

// target looks at what is there, and tries what can be tried without a trace.
func (c *check) target(ctx context.Context) error {
	if c.conn.IsClosed() {
		return nil
	}
	empty, err := c.tables(ctx)
	if err != nil {
		return err
	}
	vector, err := c.pgvector(ctx)
	if err != nil {
		return err
	}
	reached, err := c.address(ctx)
	if err != nil {
		return err
	}
	c.start(vector, reached)
	if c.reading == nil || !empty || c.conn.Server.Standby || c.conn.Server.Encoding != "UTF8" {
		return nil
	}
	return c.time(ctx)
}

// tables says what is in the schema.
func (c *check) tables(ctx context.Context) (empty bool, err error) {
	there, err := c.conn.HasSchema(ctx)
	if err != nil {
		return false, err
	}
	if !there {
		c.ok("schema", "%q is not there yet, and will be made", c.Schema)
		return true, nil
	}
	if c.lacksRights() {
		c.look("schema", "see the line on rights", "%q is there, and what is in it can't be asked", c.Schema)
		return false, nil
	}
	have, err := c.conn.Inspect(ctx)
	if err != nil {
		return false, err
	}
	misfits, err := c.conn.Misfits(ctx, mapping.Tables, have)
	if err != nil {
		return false, err
	}
	if len(misfits) > 0 {
		c.stop("schema", "name another schema with --schema, or move these tables away", "%q has tables of Flujo's names in another shape: %s",
			c.Schema, strings.Join(misfits, "; "))
		return false, nil
	}
	full, err := c.conn.Filled(ctx)
	switch {
	case err != nil:
		return false, err
	case len(full) > 0:
		c.stop("schema", "was it migrated already? name another schema with --schema, or empty these tables if their rows are not wanted",
			"%q already holds rows: %s", c.Schema, strings.Join(full, ", "))
		return false, nil
	case len(have) == 0:
		c.ok("schema", "%q is there, without Flujo's tables, which will be made", c.Schema)
	default:
		c.ok("schema", "%q is there, with %d of Flujo's tables, in Flujo's shape and empty", c.Schema, len(have))
	}
	return true, nil
}

func (c *check) pgvector(ctx context.Context) (fit bool, err error) {
	memories := int64(0)
	if c.reading != nil {
		for _, t := range c.reading.found.Tables {
			if t.Name == mapping.Memories {
				memories = t.RowsRead
			}
		}
	}
	e, err := c.conn.Extension(ctx)
	if err != nil {
		return false, err
	}
	const without = "or migrate with --without-pgvector: Flujo then starts and works, without memory indexing"
	switch {
	case c.WithoutPGVector && memories > 0:
		c.stop("pgvector", "install pgvector on the server and migrate without --without-pgvector", "the file holds %d memories, and without pgvector there is no table for them", memories)
		return false, nil
	case c.WithoutPGVector:
		c.look("pgvector", "nothing, where Flujo's memory indexing is not used", "not asked for (--without-pgvector)")
	case e.Version != "" && !pg.NewEnough(e.Version):
		c.stop("pgvector", "install a newer one and run ALTER EXTENSION vector UPDATE, "+without, "%s is there, older than 0.5, the first with the index that Flujo makes", e.Version)
		return false, nil
	case e.Version != "":
		c.ok("pgvector", "%s is there, in schema %q", e.Version, e.Schema)
	case e.Available == "":
		c.stop("pgvector", "install it on the server, "+without, "the server does not have it")
		return false, nil
	case !e.Creatable:
		c.stop("pgvector", fmt.Sprintf("have a superuser run CREATE EXTENSION vector in database %q, %s", c.conn.Server.Database, without),
			"%s could be created, but role %q may not", e.Available, c.conn.Server.Role)
		return false, nil
	case !pg.NewEnough(e.Available):
		c.stop("pgvector", "install a newer one, "+without, "%s could be created, older than 0.5, the first with the index that Flujo makes", e.Available)
		return false, nil
	default:
		c.ok("pgvector", "%s will be created", e.Available)
	}
	return true, nil
}

// address looks through the cutover address.
func (c *check) address(ctx context.Context) (reached bool, err error) {
	trial, err := pg.TryAddress(ctx, c.Cutover.Reveal())
	if err != nil {
		return false, c.stopped(ctx, "cutover address", err)
	}
	if trial.Pooled {
		c.look("pooler", "use the server's own address, or see that the pooler passes the parameter options on and keeps sessions", "a pooler is in the way: the process that answers is not the one that was announced")
	} else {
		c.ok("pooler", "none is in the way")
	}
	if err := trial.Unfit(c.conn.Server, c.Schema); err != nil {
		return false, c.stopped(ctx, "cutover address", err)
	}
	c.ok("cutover address", "through it search_path is %s", trial.SearchPath)
	return true, nil
}

// start says whether Flujo will start on the schema.
func (c *check) start(vector, reached bool) {
	var against []string
	if !vector {
		against = append(against, "its migration 3 needs pgvector")
	}
	if !reached {
		against = append(against, "its address does not lead to the schema")
	}
	if c.lacksRights() {
		against = append(against, "its role lacks rights")
	}
	if len(against) > 0 {
		c.stop("Flujo's start", "see the lines above", "Flujo will not start there: %s", strings.Join(against, ", "))
		return
	}
	c.ok("Flujo's start", "Flujo will start there: its %d migrations will be recorded, and its role may work", len(mapping.SchemaVersions))
}

// lacksRights reports whether the line on rights would stop a migration.
func (c *check) lacksRights() bool {
	return slices.ContainsFunc(c.report.Lines, func(l report.Line) bool { return l.Name == "rights" && l.State == report.Stop })
}
