package report

import (
	"math/rand/v2"
	"strconv"
	"testing"
)

func TestUpperBound(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]string{
		5.291710541755667e-8: "6e-08", 5.96e-8: "6e-08", 6e-8: "6e-08", 6.0000001e-8: "7e-08", 9.3e-8: "1e-07",
		9.9e-8: "1e-07", 1e-9: "1e-09", 1.4e-9: "2e-09", 0.31: "0.4", 1: "1", 5e-324: "5e-324",
	} {
		if got := upperBound(x); got != want {
			t.Errorf("got %s for %g, want %s", got, x, want)
		}
	}
	random := rand.New(rand.NewPCG(1, 1))
	for range 100_000 {
		x := random.ExpFloat64() * 1e-7
		bound, err := strconv.ParseFloat(upperBound(x), 64)
		if err != nil || bound < x || bound > 2*x {
			t.Fatalf("got %g for %g (%v)", bound, x, err)
		}
	}
}
