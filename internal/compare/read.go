package compare

import (
	"context"

	"flujo-port/internal/extract"
	"flujo-port/internal/postgres"
	"flujo-port/internal/rowdigest"

	"golang.org/x/sync/errgroup"
)

// ReadBoth extracts a state file while the server computes the digests of what it stored,
// by table. The first error ends both. ctx ends if damage is found in the file. explain
// returns the cause of an error in reading the file, or of the end of ctx.
func ReadBoth(
	ctx context.Context, file *extract.Extraction, stored *postgres.Snapshot, explain func(error) error,
) (result *extract.Result, digests map[string]rowdigest.Digest, err error) {
	group, reading := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		result, err = file.Run(reading, extract.Discard{})
		if err != nil && (reading.Err() == nil || ctx.Err() != nil) { // not because of the server
			return explain(err)
		}
		return err
	})
	group.Go(func() (err error) {
		digests, err = stored.Digests(reading)
		if err != nil && ctx.Err() != nil {
			return explain(err)
		}
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	return result, digests, nil
}
