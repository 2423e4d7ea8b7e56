package jsonb

import "testing"

func TestDepth(t *testing.T) {
	t.Parallel()
	for stack, most := range map[int]int{100: 596, 512: 3233, 1024: 6509, 2048: 13063, 4096: 26170, 7168: 45831} {
		if got := Depth(stack); got < most/2 || got > most {
			t.Errorf("%d kB: %d levels, the server takes %d", stack, got, most)
		}
	}
}
