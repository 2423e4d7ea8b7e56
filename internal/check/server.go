package check

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/load"
	"flujo-port/internal/mapping"
	"flujo-port/internal/postgres"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"
	"flujo-port/internal/stateuri"

	"github.com/dustin/go-humanize"
)

// checkLockWait is the lock timeout of check. Sessions that queue behind its
// lock request wait no longer than this.
const checkLockWait = time.Second

// targetFacts are the facts that survey finds and other checks need.
type targetFacts struct {
	have        map[string]*postgres.TableShape // existing tables
	differences []string                        // between the existing tables and Flujo's
	empty       bool                            // the tables match Flujo's and have no rows, or do not exist
	extension   *sink.Schema                    // pgvector, found or created in a trial; nil if unknown or not needed
	noExtension *clierr.Error                   // why pgvector can be neither found nor created; nil otherwise
	reached     bool                            // the cutover address leads to the schema
	address     stateuri.Address                // the cutover address by which it was reached
	unprepared  bool                            // prepared statements are lost at the cutover address
	vectorSize  int                             // of the vectors of the first file that has some
	start       sink.FlujoStart                 // how Flujo will start; set if reached
	started     bool                            // what Flujo does at its start was tried and works
}

// survey checks the server and the schema. It closes its connection, since an
// idle connection may be closed while the file is read.
func (c *checker) survey(ctx context.Context) error {
	c.group = report.GroupServer
	conn, err := postgres.Open(ctx, c.options.Postgres, c.options.Schema)
	if err != nil {
		return c.addError(ctx, "reachable", notChecked, err)
	}
	conn.LockWait = checkLockWait
	c.conn = conn
	defer func() {
		grace, cancel := postgres.CleanupContext()
		defer cancel()
		conn.End(grace)
	}()
	s := conn.Server
	c.report.Target = &report.Target{Host: s.Host, Server: s.Name, Database: s.Database, Role: s.Role,
		Schema: c.options.Schema}
	c.ok("reachable", "database %q as role %q", s.Database, s.Role)
	if err := s.CheckVersion(); err != nil {
		return c.addError(ctx, "version", notChecked, err)
	}
	c.ok("version", "PostgreSQL %s", s.Name)
	if err := conn.Run(ctx, "BEGIN"); err != nil {
		c.conn = nil // a pooler in statement mode has closed it
		return c.addError(ctx, "transactions", notChecked, conn.WrapError("begin a transaction", err))
	}
	if err := conn.Run(ctx, "ROLLBACK"); err != nil {
		return conn.WrapError("roll back a transaction", err)
	}
	if err := c.server(ctx); err != nil {
		return err
	}
	c.group = report.GroupTarget
	if err := c.query(ctx, "schema", c.tables); err != nil {
		return err
	}
	if c.options.WithoutPGVector || !s.Standby {
		return nil
	}
	return c.query(ctx, vectorLine, c.findExtension)
}

// hasServer reports whether survey could connect to a supported server.
func (c *checker) hasServer() bool { return c.conn != nil && c.conn.Server.CheckVersion() == nil }

// query runs part in a read-only transaction. An error of part becomes the
// result with the given name. query returns an error only if the check must end:
// the error of ctx, or a lost connection.
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
	return c.addError(ctx, name, notChecked, err)
}

// server checks the server itself.
func (c *checker) server(ctx context.Context) error {
	s := c.conn.Server
	if s.Encoding == "UTF8" {
		c.ok("encoding", "UTF8")
	} else {
		c.failure("encoding", "use a database with ENCODING 'UTF8'",
			"database %q has the encoding %s, which cannot store all of Flujo's text", s.Database, s.Encoding)
	}
	switch {
	case s.Standby:
		c.failure("primary", "connect to the primary", "the server is a standby, which is read-only")
	case s.ReadOnly:
		c.warning(
			"primary",
			"Flujo could not write: change default_transaction_read_only of the role or database",
			"transactions are read-only by default",
		)
	default:
		c.ok("primary", "the server accepts writes")
	}
	if s.Replica {
		c.failure(
			"foreign keys",
			"reset it for this role and database",
			"session_replication_role is not origin, so foreign keys would not be checked",
		)
	} else {
		c.ok("foreign keys", "foreign keys are checked (session_replication_role is origin)")
	}
	c.tls(c.conn.TLS())
	timeouts, err := c.conn.Timeouts(ctx) // before Settings switches them off
	if err := c.queryResult(ctx, "timeouts", err); err != nil {
		return err
	}
	if err == nil {
		c.timeouts(timeouts)
	}
	if err := c.query(ctx, "privileges", c.privileges); err != nil {
		return err
	}
	if err := c.query(ctx, "disk", c.space); err != nil {
		return err
	}
	if err := c.query(ctx, "replication", c.replication); err != nil {
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
		c.ok("lz4", "large values are compressed with lz4")
	default:
		c.warning(
			"lz4",
			"no action is required; the load takes longer (lz4 needs PostgreSQL 14 or later, built with lz4)",
			"not available: large values are compressed with pglz",
		)
	}
	return nil
}

func (c *checker) tls(t postgres.TLS) {
	const verify = "use sslmode=verify-full, and sslrootcert if a private authority issued the certificate"
	switch {
	case t.Used && t.Checked:
		c.ok("TLS", "%s, and the server's certificate is verified", t.Version)
	case t.Used:
		c.warning("TLS", verify, "%s, but the server's certificate is not verified", t.Version)
	case t.Local:
		c.ok("TLS", "not used: the connection does not leave this machine; a tunnel or proxy is not checked")
	default:
		c.warning("TLS", verify, "not used: the password and the rows cross the network unencrypted")
	}
}

func (c *checker) privileges(ctx context.Context) error {
	lacking, err := c.conn.MissingPrivileges(ctx, c.options.WithoutPGVector)
	if err != nil {
		return err
	}
	if len(lacking) == 0 {
		if err := c.conn.CheckOwners(ctx); err != nil {
			return err
		}
		c.ok("privileges", "role %q has the privileges that a migration needs", c.conn.Server.Role)
		return nil
	}
	var names, grants []string
	inSchema := false
	for _, p := range lacking {
		names = append(names, p.Name)
		if p.Grant != "" {
			grants = append(grants, p.Grant)
		}
		inSchema = inSchema || p.Grant == ""
	}
	hint := "grant them"
	if len(grants) > 0 && !inSchema {
		hint = "have an administrator run " + strings.Join(grants, "; ")
	}
	role := c.conn.Server.Role
	c.failure("privileges", hint, "role %q lacks %s", role, strings.Join(names, ", "))
	switch exists, err := c.conn.HasSchema(ctx); {
	case err != nil:
		return err
	case inSchema:
		c.advise(clierr.GrantToByInit, role)
	case !exists && len(lacking) == 1: // what init creates belongs to no other role yet
		c.advise(clierr.OwnByInit, role)
	}
	return nil
}

func (c *checker) timeouts(all []string) {
	if len(all) == 0 {
		c.ok("timeouts", "none that would end a long transaction")
		return
	}
	c.warning(
		"timeouts",
		"no action is required for the migration, which disables them; they apply to Flujo's statements",
		"set by the role, database or server: %s",
		strings.Join(all, ", "),
	)
}

// spaceFactor is the disk space that a migration may need on the server,
// including indexes and write-ahead log, as a multiple of the files' size.
const spaceFactor = 3

// space compares the free disk space with what a migration may need. Both are
// estimates, so the result is never an error.
func (c *checker) space(ctx context.Context) error {
	need := uint64(0)
	for _, f := range c.distinct() {
		if f.report.Source == nil {
			return nil
		}
		need += uint64(f.report.Source.Bytes) * spaceFactor
	}
	free, known := c.conn.FreeSpace(ctx)
	switch {
	case !known:
		c.warning(
			"disk",
			"make sure that the server has that much free space",
			"the free space on the server cannot be determined; up to %s may be needed",
			humanize.IBytes(need),
		)
	case uint64(free.Bytes) < need:
		c.warning(
			"disk",
			"free disk space on the server; a migration that runs out of it is rolled back",
			"%s free in tablespace %s, up to %s may be needed",
			humanize.IBytes(uint64(free.Bytes)),
			free.Tablespace,
			humanize.IBytes(need),
		)
	default:
		c.ok("disk", "%s free in tablespace %s, up to %s may be needed", humanize.IBytes(uint64(free.Bytes)),
			free.Tablespace, humanize.IBytes(need))
	}
	return nil
}

// target checks, after the files were read, what a migration would do in the
// schema.
func (c *checker) target(ctx context.Context) error {
	vector := c.pgvector()
	writes := !c.conn.Server.Standby && c.conn.Server.Encoding == "UTF8"
	if c.wereRead() && c.facts.empty && vector && writes && !c.conn.Server.Replica && !c.lacksPrivileges() {
		if err := c.tryMigration(ctx); err != nil {
			return err
		}
	}
	if c.facts.reached && c.facts.empty && len(c.facts.have) > 0 && writes && !c.lacksPrivileges() &&
		!c.hasLine(startLine) && !slices.Contains(c.unknown, dryRunLine) {
		if err := c.tryStart(ctx); err != nil {
			return err
		}
	}
	c.start(vector)
	if !c.wereRead() || !c.facts.empty || !writes {
		return nil
	}
	return c.estimate(ctx)
}

// tables checks the tables in the schema.
func (c *checker) tables(ctx context.Context) error {
	there, err := c.conn.HasSchema(ctx)
	if err != nil {
		return err
	}
	if !there {
		c.facts.empty = true
		c.ok("schema", "%q does not exist and will be created", c.options.Schema)
		return nil
	}
	if c.lacksPrivileges() {
		c.warning(
			"schema",
			"see the line on privileges",
			"%q exists, but its tables cannot be inspected",
			c.options.Schema,
		)
		return nil
	}
	if c.facts.have, err = c.conn.Inspect(ctx); err != nil {
		return err
	}
	if c.facts.differences, err = c.conn.Differences(ctx, mapping.Tables, c.facts.have); err != nil {
		return err
	}
	if len(c.facts.differences) > 0 {
		c.failure(
			"schema",
			"move these tables to another schema",
			"%q has tables that differ from Flujo's: %s",
			c.options.Schema,
			strings.Join(c.facts.differences, "; "),
		)
		c.advise(clierr.OtherSchema, "")
		return nil
	}
	full, err := c.conn.TablesWithRows(ctx)
	switch {
	case err != nil:
		return err
	case len(full) > 0:
		c.failure(
			"schema",
			"",
			"%q already holds rows (%s)",
			c.options.Schema,
			strings.Join(full, ", "),
		)
		c.advise(clierr.SchemaHoldsRows, "")
		return nil
	case len(c.facts.have) == 0:
		c.ok("schema", "%q exists without Flujo's tables, which will be created", c.options.Schema)
	default:
		c.ok("schema", "%q exists with %d of Flujo's tables, which are empty", c.options.Schema, len(c.facts.have))
	}
	c.facts.empty = true
	return nil
}

// findExtension finds pgvector on a standby, which creates nothing.
func (c *checker) findExtension(ctx context.Context) error {
	version, _, err := c.conn.PGVector(ctx)
	switch {
	case err != nil:
		return err
	case version == "":
		c.facts.noExtension = &clierr.Error{Message: "not installed", Hint: "connect to the primary"}
	default:
		c.facts.extension = &sink.Schema{PGVector: version}
	}
	return nil
}

// tryExtension finds pgvector, or tries to create it, and rolls that back.
func (c *checker) tryExtension(ctx context.Context) error {
	c.group = report.GroupTarget
	found, err := sink.TryPGVector(ctx, c.options.Postgres, c.options.Schema, checkLockWait)
	if err == nil {
		c.facts.extension = found
		return nil
	}
	if refused, ok := errors.AsType[*clierr.Error](err); ok && refused.Advice.Topic == clierr.WithoutPGVector {
		c.facts.noExtension = refused
		return nil
	}
	return c.addError(ctx, vectorLine, notChecked, err)
}

// vectorLine is the name of the line on pgvector.
const vectorLine = "pgvector"

// pgvector adds the result for the extension, and reports whether a migration
// can use it or does not need it.
func (c *checker) pgvector() (fit bool) {
	if c.facts.extension == nil && c.facts.noExtension == nil && !c.options.WithoutPGVector {
		return false // survey has added the error
	}
	memories := int64(0)
	for _, f := range c.distinct() {
		if f.found == nil {
			continue
		}
		for _, t := range f.found.Findings.Tables {
			if t.Name == mapping.Memories {
				memories += t.RowsRead
			}
		}
	}
	switch {
	case c.options.WithoutPGVector && memories > 0 && c.facts.have[mapping.Memories] == nil:
		err := load.NeedsMemories(memories)
		c.failure(vectorLine, err.Hint, "%s", err.Message)
		c.advise(err.Advice.Topic, err.Advice.Arg)
		return false
	case c.options.WithoutPGVector:
		c.warning(vectorLine, "no action is required if Flujo's memory indexing is not used", "not used")
		return true
	case c.facts.noExtension != nil:
		e := *c.facts.noExtension
		hint := e.Hint
		e.Hint = ""
		c.failure(vectorLine, hint, "%s", e.Error())
		c.advise(e.Advice.Topic, e.Advice.Arg)
		return false
	case c.facts.extension.CreatedPGVector:
		c.ok(vectorLine, "%s will be created; this was tried and rolled back", c.facts.extension.PGVector)
	default:
		c.ok(vectorLine, "%s is installed in schema %q", c.facts.extension.PGVector, c.facts.extension.VectorSchema())
	}
	return true
}

// address connects by the cutover address and checks the session.
func (c *checker) address(ctx context.Context) error {
	address, trial, notes, err := postgres.ResolveAddress(
		ctx, c.options.Cutover, c.options.Schema, !c.options.WithoutPGVector)
	if err != nil {
		return c.addError(ctx, "cutover address", notChecked, err)
	}
	if err := trial.CheckPrepared(); err != nil {
		if err := c.addError(ctx, "pooler", notChecked, err); err != nil {
			return err
		}
		c.facts.unprepared = true
	} else if message, hint := trial.PreparedUnknown(); message != "" {
		c.warning("pooler", hint, "%s", message)
	} else if trial.Pooled {
		c.ok(
			"pooler",
			"the address leads to a pooler; prepared statements, which Flujo's driver uses, work through it",
		)
	} else {
		c.ok("pooler", "none")
	}
	err = trial.CheckSession(c.conn.Server, c.options.Schema)
	if err == nil && c.facts.have[mapping.Runs] != nil {
		err = trial.CheckSchema(c.options.Schema)
	}
	if err != nil {
		return c.addError(ctx, "cutover address", notChecked, err)
	}
	c.facts.reached, c.facts.address = true, address
	c.facts.start = sink.FlujoStart{SearchPath: trial.SearchPath, NoMigrations: c.options.NoMigrations}
	c.ok(
		"cutover address",
		"%s",
		strings.Join(
			slices.Concat([]string{"its search_path is " + trial.SearchPath}, notes, c.options.CutoverNotes),
			"; ",
		),
	)
	return c.stateURI(ctx)
}

// stateURI warns if the FLUJO_STATE_URI that is set does not lead to the schema: the cutover
// address, which is derived from it, does.
func (c *checker) stateURI(ctx context.Context) error {
	if c.options.StateURI == "" {
		return nil
	}
	const line = "FLUJO_STATE_URI"
	trial, err := postgres.TryAddress(ctx, c.options.StateURI, c.options.Schema)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		c.warning(line, "", "no session can be opened by the one that is set: %v", err)
		c.advise(clierr.SetCutover, "")
	case trial.First != c.options.Schema:
		c.warning(
			line,
			"",
			"the one that is set does not lead to schema %q: its search_path is %s",
			c.options.Schema,
			trial.SearchPath,
		)
		c.advise(clierr.SetCutover, "")
	}
	return nil
}

// tryStart tries what Flujo does at its start with existing tables, by the cutover
// address. Tables that do not exist are tried in the dry run.
func (c *checker) tryStart(ctx context.Context) error {
	err := sink.TryStartAt(ctx, c.facts.address.Reveal(), c.options.Schema, checkLockWait, c.facts.start)
	if err != nil {
		return c.addError(ctx, startLine, notChecked, err)
	}
	c.facts.started = true
	return nil
}

// startLine is the name of the line that says whether Flujo will start.
const startLine = "Flujo startup"

// start adds whether Flujo will start on the schema.
func (c *checker) start(vector bool) {
	var against []string
	add := func(is bool, what string) {
		if is {
			against = append(against, what)
		}
	}
	add(c.conn.Server.Standby, "the server accepts no writes")
	add(c.conn.Server.Encoding != "UTF8", "the database's encoding cannot store all of its text")
	add(len(c.facts.differences) > 0, "existing tables differ from Flujo's")
	add((c.facts.extension != nil || c.facts.noExtension != nil) && !vector, "its migration 3 needs pgvector")
	add(!c.facts.reached, "the cutover address does not lead to the schema")
	add(c.facts.unprepared, "its prepared statements are lost")
	add(c.lacksPrivileges(), "its role lacks privileges")
	unknown := slices.DeleteFunc(slices.Clone(c.unknown), func(name string) bool {
		return !slices.Contains([]string{"privileges", "schema", vectorLine, dryRunLine}, name)
	})
	switch {
	case c.hasLine(startLine): // the trial has failed
	case len(against) > 0:
		c.failure(startLine, "see the lines above", "Flujo will not start: %s", strings.Join(against, ", "))
	case len(unknown) > 0:
		c.warning(
			startLine,
			"see the lines above",
			"cannot be determined, because of %s",
			strings.Join(unknown, ", "),
		)
	case !c.facts.started:
		c.warning(
			startLine,
			"run check again with a state file and a schema that the lines above accept",
			"what Flujo does at its start was not tried",
		)
	case c.options.NoMigrations:
		c.ok(
			startLine,
			"Flujo will start with FLUJO_AUTO_MIGRATE=false, as it is set here: its role %q finds its tables",
			c.conn.Server.Role,
		)
	default:
		c.ok(
			startLine,
			"Flujo will start: what it does at its start was tried as role %q and rolled back",
			c.conn.Server.Role,
		)
	}
}

// hasLine reports whether there is a result of that name.
func (c *checker) hasLine(name string) bool {
	return slices.ContainsFunc(c.report.Results, func(l report.CheckResult) bool { return l.Name == name })
}

// lacksPrivileges reports whether the line on privileges is an error.
func (c *checker) lacksPrivileges() bool {
	return slices.ContainsFunc(
		c.report.Results,
		func(l report.CheckResult) bool { return l.Name == "privileges" && l.Status == report.Error },
	)
}
