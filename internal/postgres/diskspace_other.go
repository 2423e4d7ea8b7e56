//go:build !unix

package postgres

func availableBytes(string) (bytes int64, known bool) { return 0, false }
