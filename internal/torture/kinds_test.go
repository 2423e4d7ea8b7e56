//go:build slow && unix

package torture

import (
	"syscall"
	"testing"
)

// kind is a kind of trial.
type kind struct {
	name string
	how  string // for docs/reliability.md
	run  func(t *testing.T, w *worker) outcome
}

var kinds []kind

// patient are kinds in which little happens for seconds or minutes. They run beside the others.
var patient []kind

func init() { // the functions refer to kinds by the results
	kinds = []kind{
		{"SIGKILL", "`kill -9`.", signalled(syscall.SIGKILL)},
		{"SIGINT", "Ctrl-C.", signalled(syscall.SIGINT)},
		{"SIGTERM", "`kill`.", signalled(syscall.SIGTERM)},
		{"at a file call", "SIGKILL, SIGINT or SIGTERM while the command is stopped (ptrace) right before or right " +
			"after a system call that changes a file; in half of the trials it is the rename of the restored file or " +
			"of the env file.", atFileCall},
		{
			"SIGKILL in COMMIT",
			"SIGKILL while COMMIT waits for a synchronous standby that does not exist.",
			killInCommit,
		},
		{"COMMIT ended", "While COMMIT waits, in half of the trials after SIGINT, the server's process is canceled, " +
			"terminated, or killed with -9, so that the whole server restarts.", signalInCommit},
		{"server restart in COMMIT", "While COMMIT waits, the server is shut down (fast or immediate) and started " +
			"again.", restartedInCommit},
		{"message cut", "The connection breaks before, within or after any message, of the command or of the server.",
			cutMessage},
		{"split and delayed", "All bytes arrive in pieces of 1 to 1,000, now and then after a pause, and stall for a " +
			"second.", slowWire},
		{"session terminated", "pg_terminate_backend for all sessions of the command.", terminated},
		{"session killed", "A server's process of the command is killed with -9, so that the whole server restarts.",
			crashed},
		{"session stopped", "The server's process of the command is stopped for a second (SIGSTOP, SIGCONT).", stopped},
		{"server restart", "The server is shut down (fast or immediate) and started again.", restarted},
		{"server down", "The server is shut down until the command has ended.", down},
		{"two at once", "The same command runs twice at the same time.", twice},
		{"folder full", "The folder of the new file has up to 1 MB, that of the env file nothing (needs root).",
			folderFull},
		{"TMPDIR full", "TMPDIR has no room or 4 KiB, and the command prints JSON (needs root).", temporaryFull},
		{"tablespace full", "The tablespace of the database has up to 2.2 MB (needs root).", tablespaceFull},
		{"output lost", "stdout, stderr or both are a full device, or a pipe that nobody reads.", outputLost},
		{"damaged file", "Random bytes of the state file are changed, or its end is cut off.", damaged},
		{
			"hostile file",
			"The state file has views, triggers, virtual tables, generated columns, names that differ in " +
				"case, odd names and values, by random SQL.",
			hostile,
		},
	}
	patient = []kind{
		{"message late", "Any message, of the command or of the server, is held back for 1 to 9 seconds.", stall},
		{
			"no answer",
			"The address accepts connections and never answers; connect_timeout is a second. The command must " +
				"end within 45 seconds.",
			unanswered,
		},
		{"silence", "From any message on nothing arrives any more, on new connections neither. The command must end " +
			"within 200 seconds.", mute},
		{"SIGINT in silence", "The same, and then SIGINT. Except in COMMIT, the command must end within a minute.",
			muteInterrupted},
		{"server down in COMMIT", "The server is shut down while COMMIT waits, until the command has ended.",
			downInCommit},
		{
			"failover in COMMIT",
			"The connection breaks before or after COMMIT reaches the server, and from then on its " +
				"standby, which was promoted, answers at the address.",
			failover,
		},
		{"WAL disk full", "The disk of the server's write-ahead log is full, so that the server ends (needs root).",
			walFull},
	}
}
