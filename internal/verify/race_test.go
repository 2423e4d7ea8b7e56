package verify_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
	"testing"
)

// TestRaceDetector tests that the race detector, as make test sets it up, knows what sync.Map and sync.Once order:
// goroutines that encode a new type at the same time meet in both. It fails by the detector's reports.
func TestRaceDetector(t *testing.T) {
	t.Parallel()
	for i := range 100 {
		fields := make([]reflect.StructField, 20)
		for j := range fields {
			fields[j] = reflect.StructField{Name: fmt.Sprintf("Race%d_%d", i, j), Type: reflect.TypeFor[string]()}
		}
		value := reflect.New(reflect.StructOf(fields)).Interface()
		var encoding sync.WaitGroup
		start := make(chan struct{})
		for range 4 {
			encoding.Go(func() {
				<-start
				if _, err := json.Marshal(value); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		encoding.Wait()
	}
}
