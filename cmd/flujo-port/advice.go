package main

import (
	"fmt"
	"strings"

	"flujo-port/internal/clierr"
)

// advices are the texts of the advices that the operations attach to their errors and
// check results. Each continues a hint, if there is one. %s is Advice.Arg.
var advices = map[clierr.Topic]string{
	clierr.NameStateFile:  "pass Flujo's state file with --sqlite",
	clierr.MigratedSchema: "name the schema that was migrated to with --schema, and the database with --postgres",
	clierr.OtherSchema:    "or name another schema with --schema",
	clierr.SchemaHoldsRows: "if it was migrated already, run verify; otherwise see --replace and --merge, " +
		"or use another schema (--schema)",
	clierr.OwnByInit: "or have an administrator run \"flujo-port init --owner %s\" first",
	clierr.StartAsOwner: "by having an administrator run \"flujo-port init --owner %s\", or, if another role needs " +
		"to own them, start Flujo with FLUJO_AUTO_MIGRATE=false and set that here too",
	clierr.GrantToByInit:   "or have the owner of the tables or a superuser run \"flujo-port init --grant-to %s\"",
	clierr.GrantReadByInit: "or have the owner of the tables run \"flujo-port init --grant-read %s\"",
	clierr.WithoutPGVector: "or use --without-pgvector: Flujo then starts and works, without memory indexing",
	clierr.UsePGVector:     "and run without --without-pgvector",
	clierr.Quarantine:      "or use --quarantine, which stores them in flujo_port_originals",
	clierr.NotStrict:       "run without --strict to convert them and store the original values",
	clierr.NotStrictZone: "run without --strict to convert them and store the original values; " +
		"--naive-timezone names the zone of timestamps without one",
	clierr.NameZone:        "name the time zone with --naive-timezone",
	clierr.NotMigratedBase: "or use --merge to keep the changes of both sides, or restore without --base",
	clierr.NameBase:        "pass the state file that was migrated with --base",
	clierr.RevealPassword:  "copy an address that was printed with --reveal, or the file of --env-file",
	clierr.NoBase:          "restore without --base",
	clierr.CheckIntegrity:  "run without --skip-integrity",
}

// withAdvice returns a hint followed by an advice; either may be empty.
func withAdvice(hint string, a clierr.Advice) string {
	advice := advices[a.Topic]
	if strings.Contains(advice, "%s") {
		advice = fmt.Sprintf(advice, shellWord(a.Arg))
	}
	switch {
	case hint == "":
		return strings.TrimPrefix(advice, "or ")
	case advice == "":
		return hint
	case strings.HasPrefix(advice, "or "):
		return hint + ", " + advice
	case strings.HasPrefix(advice, "and "), strings.HasPrefix(advice, "by "):
		return hint + " " + advice
	}
	return hint + "; " + advice
}
