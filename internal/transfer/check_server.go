package transfer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"

	"github.com/dustin/go-humanize"
)

// checkLockWait is how long check waits for a lock, and makes others wait behind it.
const checkLockWait = time.Second

// targetFacts are what survey finds and the rest of the check needs.
type targetFacts struct {
	have        map[string]*postgres.TableShape // the tables that are there
	differences []string                        // what sets them apart from Flujo's
	empty       bool                            // no row is in them, and they are Flujo's
	extension   *postgres.Extension             // nil where it could, or need, not be asked
	reached     bool                            // through the cutover address
	vectorSize  int                             // of the file's vectors
}

// survey looks at the server and at what is in the schema, by a connection that
// is closed afterwards: reading the file may take longer than an idle one lives.
func (c *checker) survey(ctx context.Context) error {
	c.group = report.GroupServer
	conn, err := postgres.Open(ctx, c.Postgres, c.Schema)
	if err != nil {
		return c.addError(ctx, "reachable", unseen, err)
	}
	conn.LockWait = checkLockWait
	c.conn = conn
	defer func() {
		grace, cancel := postgres.CleanupContext()
		defer cancel()
		conn.End(grace)
	}()
	s := conn.Server
	c.report.Target = &report.Target{Server: s.Name, Database: s.Database, Role: s.Role, Schema: c.Schema}
	c.ok("reachable", "database %q as role %q", s.Database, s.Role)
	if err := s.CheckVersion(); err != nil {
		c.failure("version", "use a newer server", "PostgreSQL %s is older than 13", s.Name)
		return nil
	}
	c.ok("version", "PostgreSQL %s", s.Name)
	if err := c.server(ctx); err != nil {
		return err
	}
	c.group = report.GroupTarget
	if err := c.query(ctx, "schema", c.tables); err != nil {
		return err
	}
	if c.WithoutPGVector {
		return nil
	}
	return c.query(ctx, "pgvector", c.findExtension)
}

// hasServer reports whether there is a server that survey could ask.
func (c *checker) hasServer() bool { return c.conn != nil && c.conn.Server.CheckVersion() == nil }

// query does a part of the check that asks the server, in a read-only transaction
// of its own: its error becomes the line of that name. What comes back ends the
// check: ctx's end, or a lost connection.
func (c *checker) query(ctx context.Context, name string, part func(context.Context) error) error {
	err := c.conn.Run(ctx, "ROLLBACK; BEGIN READ ONLY;"+c.conn.Settings())
	if err != nil {
		err = c.conn.WrapError("begin a snapshot", err)
	} else {
		err = part(ctx)
	}
	return c.queryResult(ctx, name, err)
}

func (c *checker) queryResult(ctx context.Context, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case c.conn.IsClosed():
		return err
	}
	return c.addError(ctx, name, unseen, err)
}

// server looks at the server as such.
func (c *checker) server(ctx context.Context) error {
	s := c.conn.Server
	if s.Encoding == "UTF8" {
		c.ok("encoding", "UTF8")
	} else {
		c.failure("encoding", "use a database with ENCODING 'UTF8'", "database %q is encoded as %s, into which Flujo's text does not fit", s.Database, s.Encoding)
	}
	switch {
	case s.Standby:
		c.failure("primary", "connect to the primary", "the server is a standby, which takes no writes")
	case s.ReadOnly:
		c.warning(
			"primary",
			"Flujo could not write there: see default_transaction_read_only of role and database",
			"transactions begin read-only",
		)
	default:
		c.ok("primary", "it takes writes")
	}
	if s.Replica {
		c.failure(
			"foreign keys",
			"reset it for this role and database",
			"session_replication_role is not origin, so nothing would check them",
		)
	} else {
		c.ok("foreign keys", "they are checked (session_replication_role is origin)")
	}
	c.tls(c.conn.TLS())
	timeouts, err := c.conn.Timeouts(ctx) // before Settings switches them off
	if err := c.queryResult(ctx, "timeouts", err); err != nil {
		return err
	}
	if err == nil {
		c.timeouts(timeouts)
	}
	if err := c.query(ctx, "rights", c.rights); err != nil {
		return err
	}
	if err := c.query(ctx, "disk", c.space); err != nil {
		return err
	}
	return c.query(ctx, "lz4", c.lz4)
}

func (c *checker) lz4(ctx context.Context) error {
	lz4, err := c.conn.LZ4(ctx)
	switch {
	case err != nil:
		return err
	case lz4:
		c.ok("lz4", "large values are compressed by lz4 while they are loaded")
	default:
		c.warning(
			"lz4",
			"nothing has to be done: the load takes longer (PostgreSQL 14 or later, built with lz4, has it)",
			"the server compresses by pglz alone",
		)
	}
	return nil
}

func (c *checker) tls(t postgres.TLS) {
	const verify = "use sslmode=verify-full, with sslrootcert where the certificate is your own authority's"
	switch {
	case t.Used && t.Checked:
		c.ok("TLS", "%s, and the server's certificate is checked", t.Version)
	case t.Used:
		c.warning("TLS", verify, "%s, but nobody checks the server's certificate", t.Version)
	case t.Local:
		c.ok("TLS", "not used: this hop does not leave this machine; what is behind a tunnel or proxy is not seen")
	default:
		c.warning("TLS", verify, "not used: password and rows cross the network in the clear")
	}
}

func (c *checker) rights(ctx context.Context) error {
	lacking, err := c.conn.MissingPrivileges(ctx)
	if err != nil {
		return err
	}
	if len(lacking) == 0 {
		c.ok("rights", "role %q may do what a migration does", c.conn.Server.Role)
		return nil
	}
	c.failure(
		"rights",
		fmt.Sprintf(
			"have them granted, or have an owner run \"flujo-port init --grant-to %s\" first",
			c.conn.Server.Role,
		),
		"role %q lacks %s",
		c.conn.Server.Role,
		strings.Join(lacking, ", "),
	)
	return nil
}

func (c *checker) timeouts(all []string) {
	if len(all) == 0 {
		c.ok("timeouts", "none that would cut a long transaction")
		return
	}
	c.warning(
		"timeouts",
		"nothing for the migration, which switches them off for its own transaction; Flujo's statements will be cut by them",
		"role, database or server set %s",
		strings.Join(all, ", "),
	)
}

// spaceFactor is how much more than the file a migration may take on the
// server's disk, with indexes and the write-ahead log.
const spaceFactor = 3

// space compares what is free with what may be needed. That is an estimate either
// way, and never stops.
func (c *checker) space(ctx context.Context) error {
	if c.report.Source == nil {
		return nil
	}
	need := uint64(c.report.Source.Bytes) * spaceFactor
	free, known := c.conn.FreeBytes(ctx)
	switch {
	case !known:
		c.warning(
			"disk",
			"see that as much is free on the server",
			"what is free there can't be asked from here; up to %s may be needed",
			humanize.IBytes(need),
		)
	case uint64(free) < need:
		c.warning(
			"disk",
			"free space on the server's disk; a migration that runs out of it is rolled back",
			"%s are free, and up to %s may be needed",
			humanize.IBytes(uint64(free)),
			humanize.IBytes(need),
		)
	default:
		c.ok("disk", "%s are free, up to %s may be needed", humanize.IBytes(uint64(free)), humanize.IBytes(need))
	}
	return nil
}

// target tries what can be tried without a trace, when the file was read.
func (c *checker) target(ctx context.Context) error {
	vector := c.pgvector()
	writes := !c.conn.Server.Standby && c.conn.Server.Encoding == "UTF8"
	if c.extraction != nil && c.empty && vector && writes && !c.conn.Server.Replica && !c.lacksRights() {
		if err := c.tryMigration(ctx); err != nil {
			return err
		}
	}
	c.start(vector)
	if c.extraction == nil || !c.empty || !writes {
		return nil
	}
	return c.estimate(ctx)
}

// tables says what is in the schema.
func (c *checker) tables(ctx context.Context) error {
	there, err := c.conn.HasSchema(ctx)
	if err != nil {
		return err
	}
	if !there {
		c.empty = true
		c.ok("schema", "%q is not there yet, and will be made", c.Schema)
		return nil
	}
	if c.lacksRights() {
		c.warning("schema", "see the line on rights", "%q is there, and what is in it can't be asked", c.Schema)
		return nil
	}
	if c.have, err = c.conn.Inspect(ctx); err != nil {
		return err
	}
	if c.differences, err = c.conn.Differences(ctx, mapping.Tables, c.have); err != nil {
		return err
	}
	if len(c.differences) > 0 {
		c.failure(
			"schema",
			"name another schema with --schema, or move these tables away",
			"%q has tables of Flujo's names in another shape: %s",
			c.Schema,
			strings.Join(c.differences, "; "),
		)
		return nil
	}
	full, err := c.conn.TablesWithRows(ctx)
	switch {
	case err != nil:
		return err
	case len(full) > 0:
		c.failure(
			"schema",
			"was it migrated already? migrate with --replace, which keeps them, or with --merge, or name another schema with --schema",
			"%q already holds rows: %s",
			c.Schema,
			strings.Join(full, ", "),
		)
		return nil
	case len(c.have) == 0:
		c.ok("schema", "%q is there, without Flujo's tables, which will be made", c.Schema)
	default:
		c.ok("schema", "%q is there, with %d of Flujo's tables, in Flujo's shape and empty", c.Schema, len(c.have))
	}
	c.empty = true
	return nil
}

func (c *checker) findExtension(ctx context.Context) error {
	e, err := c.conn.Extension(ctx)
	if err == nil {
		c.extension = &e
	}
	return err
}

func (c *checker) pgvector() (fit bool) {
	var e postgres.Extension
	switch {
	case c.extension != nil:
		e = *c.extension
	case !c.WithoutPGVector:
		return false // its line is there
	}
	memories := int64(0)
	if c.extraction != nil {
		for _, t := range c.extraction.findings.Tables {
			if t.Name == mapping.Memories {
				memories = t.RowsRead
			}
		}
	}
	const without = "or migrate with --without-pgvector: Flujo then starts and works, without memory indexing"
	switch {
	case c.WithoutPGVector && memories > 0 && c.have[mapping.Memories] == nil:
		c.failure(
			"pgvector",
			"install pgvector on the server and migrate without --without-pgvector",
			"the file holds %d memories, and without pgvector there is no table for them",
			memories,
		)
		return false
	case c.WithoutPGVector:
		c.warning(
			"pgvector",
			"nothing, where Flujo's memory indexing is not used",
			"not asked for (--without-pgvector)",
		)
	case e.Version != "" && !postgres.SupportsHNSW(e.Version):
		c.failure(
			"pgvector",
			"install a newer one and run ALTER EXTENSION vector UPDATE, "+without,
			"%s is there, older than 0.5, the first with the index that Flujo makes",
			e.Version,
		)
		return false
	case e.Version != "":
		c.ok("pgvector", "%s is there, in schema %q", e.Version, e.Schema)
	case e.Available == "":
		c.failure("pgvector", "install it on the server, "+without, "the server does not have it")
		return false
	case !e.Creatable:
		c.failure(
			"pgvector",
			fmt.Sprintf(
				"have a superuser run CREATE EXTENSION vector in database %q, %s",
				c.conn.Server.Database,
				without,
			),
			"%s could be created, but role %q may not",
			e.Available,
			c.conn.Server.Role,
		)
		return false
	case !postgres.SupportsHNSW(e.Available):
		c.failure(
			"pgvector",
			"install a newer one, "+without,
			"%s could be created, older than 0.5, the first with the index that Flujo makes",
			e.Available,
		)
		return false
	default:
		c.ok("pgvector", "%s will be created", e.Available)
	}
	return true
}

// address looks through the cutover address.
func (c *checker) address(ctx context.Context) error {
	trial, err := postgres.TryAddress(ctx, c.Cutover.Reveal())
	if err != nil {
		return c.addError(ctx, "cutover address", unseen, err)
	}
	if trial.Pooled {
		c.warning(
			"pooler",
			"use the server's own address, or see that the pooler passes the parameter options on and keeps sessions",
			"a pooler is in the way: the process that answers is not the one that was announced",
		)
	} else {
		c.ok("pooler", "none is in the way")
	}
	err = trial.CheckSession(c.conn.Server, c.Schema)
	if err == nil && c.have[mapping.Runs] != nil {
		err = trial.CheckSchema(c.Schema)
	}
	if err != nil {
		return c.addError(ctx, "cutover address", unseen, err)
	}
	c.reached = true
	c.ok("cutover address", "through it search_path is %s", trial.SearchPath)
	return nil
}

// start says whether Flujo will start on the schema.
func (c *checker) start(vector bool) {
	var against []string
	add := func(is bool, what string) {
		if is {
			against = append(against, what)
		}
	}
	add(c.conn.Server.Standby, "the server takes no writes")
	add(c.conn.Server.Encoding != "UTF8", "its text does not fit into the database's encoding")
	add(len(c.differences) > 0, "its tables are there in another shape")
	add(c.extension != nil && !vector, "its migration 3 needs pgvector")
	add(!c.reached, "its address does not lead to the schema")
	add(c.lacksRights(), "its role lacks rights")
	unknown := slices.DeleteFunc(slices.Clone(c.unknown), func(name string) bool {
		return !slices.Contains([]string{"rights", "schema", "pgvector", "dry run"}, name)
	})
	switch {
	case len(against) > 0:
		c.failure("Flujo's start", "see the lines above", "Flujo will not start there: %s", strings.Join(against, ", "))
	case len(unknown) > 0:
		c.warning(
			"Flujo's start",
			"see the lines above",
			"it can't be said whether Flujo will start there, by what stands on the line %s",
			strings.Join(unknown, ", "),
		)
	default:
		c.ok(
			"Flujo's start",
			"Flujo will start there: its %d migrations will be recorded, and its role may work",
			len(mapping.SchemaVersions),
		)
	}
}

// lacksRights reports whether the line on rights would stop a migration.
func (c *checker) lacksRights() bool {
	return slices.ContainsFunc(
		c.report.Results,
		func(l report.CheckResult) bool { return l.Name == "rights" && l.Status == report.Error },
	)
}
