package verify

import (
	"context"

	"flujo-port/internal/report"
)

// RunInParts is Run with about maxUnits units at a time.
func RunInParts(ctx context.Context, o Options, maxUnits int64) (*report.Verification, error) {
	v := &verification{options: o, maxUnits: maxUnits}
	return v.measure(ctx)
}
