package main

import (
	"testing"

	"golang.org/x/tools/go/analysis/analysistest"
)

// TestIgnoredErrors compares what is reported with the comments "want" in
// testdata.
func TestIgnoredErrors(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), ignoredErrors, "a")
}
