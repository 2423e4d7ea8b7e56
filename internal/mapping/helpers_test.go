package mapping

import (
	"os"
	"testing"

	"flujo-port/internal/pgtest"
	"flujo-port/internal/sqlite"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// Short names for the cells of the tests' rows.

func integer(v int64) sqlite.Value { return sqlite.IntegerValue(v) }
func real(v float64) sqlite.Value  { return sqlite.RealValue(v) }
func text(v string) sqlite.Value   { return sqlite.TextValue(v) }
func blob(v []byte) sqlite.Value   { return sqlite.BlobValue(v) }
