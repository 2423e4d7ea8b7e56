package flujotest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
)

// Seed returns the seed of a test's files: FLUJO_PORT_TEST_SEED, or 1.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(1)
	if s := os.Getenv("FLUJO_PORT_TEST_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatalf("FLUJO_PORT_TEST_SEED is %q: %v", s, err)
		}
	}
	return seed
}

// Random returns the source of random numbers for file n.
func Random(seed uint64, n int) *rand.Rand {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], uint64(n))
	return rand.New(rand.NewChaCha8(key))
}
