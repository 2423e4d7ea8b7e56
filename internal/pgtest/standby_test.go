package pgtest

import (
	"testing"
	"time"
)

func TestStandby(t *testing.T) {
	primary, standby := PrimaryAndStandby(t, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
	wantRows(t, standby, 1)
	for url, want := range map[string]bool{primary: false, standby: true} {
		var recovering bool
		if err := queryRow(url, "SELECT pg_is_in_recovery()", &recovering); err != nil {
			t.Fatal(err)
		}
		if recovering != want {
			t.Errorf("in recovery: %v, want %v", recovering, want)
		}
	}
	wantCode(t, execAll(standby, "INSERT INTO t VALUES (2)"), "25006")

	mustExec(t, primary, "INSERT INTO t VALUES (2)")
	deadline := time.After(startTimeout)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var rows int
		if err := queryRow(standby, "SELECT count(*) FROM t", &rows); err != nil {
			t.Fatal(err)
		}
		if rows == 2 {
			return
		}
		select {
		case <-deadline:
			t.Fatal("the row did not arrive on the standby")
		case <-tick.C:
		}
	}
}
