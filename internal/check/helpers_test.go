package check_test

import (
	"os"
	"testing"

	"flujo-port/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
