package migrate_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"flujo-port/internal/clierr"
	"flujo-port/internal/flujotest"
	"flujo-port/internal/migrate"
	"flujo-port/internal/pgtest"
	"flujo-port/internal/progress"
	"flujo-port/internal/report"
	"flujo-port/internal/sink"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestConnectionLostInCopy(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	copies := 0
	proxy.OnClientMessage(func(kind byte, _ []byte) bool {
		if kind == 'd' {
			copies++
		}
		return copies == 3 // inside steps
	})
	flujotest.WantError(t, flujotest.Options(t, flujotest.Fixture, proxy.Rewrite(url)), clierr.Failed)
	conn := flujotest.Connect(t, url)
	flujotest.Exec(
		t,
		conn,
		"SELECT pg_advisory_xact_lock(4059087070)",
	) // waits until the server has ended the transaction
	if got := flujotest.Leftovers(t, conn); got != "" {
		t.Errorf("got leftovers %s, want none", got)
	}
}

// isCommit reports whether a message of the client is the COMMIT.
func isCommit(kind byte, payload []byte) bool {
	var q pgproto3.Query
	return kind == 'Q' && q.Decode(payload) == nil && strings.TrimSpace(q.String) == "COMMIT"
}

// TestConnectionLostInCommit tests that the program finds out the outcome of a COMMIT whose answer is lost.
func TestConnectionLostInCommit(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.CutAfterClientMessage(isCommit)
	result := flujotest.Migrate(t, flujotest.Options(t, flujotest.Fixture, proxy.Rewrite(url)))
	if !result.Committed {
		t.Error("the report says that the migration was not committed")
	}
	if got := flujotest.One(t, flujotest.Connect(t, url), "SELECT count(*) FROM flujo.runs"); got != "60" {
		t.Errorf("got %s runs, want 60", got)
	}
}

// TestConnectionLostBeforeCommit tests a COMMIT that does not reach the server.
func TestConnectionLostBeforeCommit(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
	proxy.OnClientMessage(isCommit)
	flujotest.WantError(t, flujotest.Options(t, flujotest.Fixture, proxy.Rewrite(url)), clierr.Failed, "commit")
	if got := flujotest.Leftovers(t, flujotest.Connect(t, url)); got != "" {
		t.Errorf("got leftovers %s, want none", got)
	}
}

// TestInterruptDuringLostCommit tests that an interrupt hides neither what is known of a COMMIT nor that it is not
// known.
func TestInterruptDuringLostCommit(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lose func(*pgtest.Proxy)
		want func(*report.Migration, error) bool
	}{
		"committed": {
			func(p *pgtest.Proxy) { p.CutAfterClientMessage(isCommit) },
			func(r *report.Migration, err error) bool { return err == nil && r.Committed },
		},
		"not known": {
			func(p *pgtest.Proxy) {
				var sent atomic.Bool
				p.CutAfterClientMessage(func(typ byte, payload []byte) bool {
					if isCommit(typ, payload) {
						sent.Store(true)
					}
					return sent.Load()
				})
			},
			func(_ *report.Migration, err error) bool {
				_, unknown := errors.AsType[*sink.CommitUnknownError](err)
				return unknown && !errors.Is(err, context.Canceled) && clierr.KindOf(err) == clierr.Failed
			},
		},
	} {
		url := pgtest.Database(t)
		proxy := pgtest.NewProxy(t, pgtest.Upstream(t, url))
		tc.lose(proxy)
		ctx, cancel := context.WithCancel(context.Background())
		o := flujotest.Options(t, flujotest.Fixture, proxy.Rewrite(url))
		o.OutcomeWait = time.Second
		o.OnProgress = func(p progress.Event) {
			if p.Phase == progress.Commit {
				cancel()
			}
		}
		if result, err := migrate.Run(ctx, o); !tc.want(result, err) {
			t.Errorf("%s: got %+v and error %v", name, result, err)
		}
		cancel()
	}
}

func TestInterruptRollsBack(t *testing.T) {
	t.Parallel()
	for _, phase := range []progress.Phase{progress.Connect, progress.Schema, progress.Copy,
		progress.Indexes, progress.Verify, progress.Commit} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			o := flujotest.Options(t, flujotest.Fixture, url)
			o.OnProgress = func(p progress.Event) {
				if p.Phase == phase && (phase != progress.Copy || p.Table == "spans" && p.Rows == 100) {
					cancel()
				}
			}
			_, err := migrate.Run(ctx, o)
			conn := flujotest.Connect(t, url)
			if phase == progress.Commit {
				// An interrupt does not stop a COMMIT that has begun.
				if got := flujotest.One(t, conn, "SELECT count(*) FROM flujo.runs"); got != "60" {
					t.Errorf("got %s runs, want 60", got)
				}
				return
			}
			if !errors.Is(err, context.Canceled) || clierr.KindOf(err) != clierr.Interrupted {
				t.Errorf("got error %v of kind %d, want an interruption", err, clierr.KindOf(err))
			}
			if got := flujotest.Leftovers(t, conn); got != "" {
				t.Errorf("got leftovers %s, want none", got)
			}
		})
	}
}

// TestChangedFileIsRefused tests that a commit to the file in any phase of the migration refuses it, and that a dry run
// warns. A process that has the file open without writing to it is accepted.
func TestChangedFileIsRefused(t *testing.T) {
	t.Parallel()
	for _, phase := range []progress.Phase{progress.Connect, progress.Schema, progress.Copy,
		progress.Indexes, progress.Verify, progress.Commit} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			url, file := pgtest.Database(t), flujotest.Copy(t, flujotest.Fixture)
			o := flujotest.Options(t, file, url)
			written := false
			o.OnProgress = func(p progress.Event) {
				if p.Phase == phase && !written {
					written = true
					flujotest.Change(t, file,
						"INSERT INTO system_state VALUES (hex(randomblob(9)), '1', '2026-01-05T09:00:00+00:00')")
				}
			}
			flujotest.WantError(t, o, clierr.Refused, "changed while it was read", "stop Flujo and run again")
			if got := flujotest.Leftovers(t, flujotest.Connect(t, url)); got != "" {
				t.Errorf("got leftovers %s, want none", got)
			}
			if phase == progress.Commit {
				return // a dry run does not commit
			}
			written, o.DryRun = false, true
			result := flujotest.Migrate(t, o)
			warnings := strings.Join(result.Warnings, "\n")
			if !strings.Contains(warnings, "changed while it was read") {
				t.Errorf("the dry run does not warn that the file changed: %s", warnings)
			}
		})
	}
	t.Run("open without writes", func(t *testing.T) {
		t.Parallel()
		url, file := pgtest.Database(t), flujotest.Copy(t, flujotest.Fixture)
		flujotest.KeepOpen(t, file, "SELECT count(*) FROM runs", func() {
			if result := flujotest.Migrate(t, flujotest.Options(t, file, url)); !result.Committed {
				t.Error("the migration was not committed")
			}
		})
	})
}
