// Command throwaway runs a command with a PostgreSQL server that ends when the
// command does:
//
//	go run ./internal/pgtest/throwaway -- CMD ARGS…
//
// CMD finds an empty database through DATABASE_URL and PGHOST, PGPORT, PGUSER,
// PGPASSWORD and PGDATABASE. The server's psql is first on PATH.
// FLUJO_PORT_THROWAWAY=1 tells CMD that the database is a throwaway one.
// Variables that could lead CMD to another database are not passed on.
//
// The exit code is that of CMD (128 + N if signal N ended it), 127 if CMD
// cannot be run, and 1 if the server fails. `go run` passes on only whether it
// was zero.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"flujo-port/internal/pgtest"
)

const database = "throwaway"

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "throwaway:", err)
	}
	os.Exit(code)
}

func run(args []string) (code int, err error) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return 2, errors.New("usage: throwaway -- CMD ARGS…")
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)

	pgtest.ForgetEnvironment()
	server, err := pgtest.Start()
	if err != nil {
		return 1, err
	}
	defer func() {
		if stopErr := server.Stop(); stopErr != nil {
			code, err = max(code, 1), errors.Join(err, stopErr)
		}
	}()
	if err := server.CreateDatabase(database); err != nil {
		return 1, err
	}
	if err := setEnvironment(server); err != nil {
		return 1, err
	}
	return runCommand(args, signals)
}

// setEnvironment sets the variables that lead CMD to the server.
func setEnvironment(server *pgtest.Server) error {
	var errs []error
	for name, value := range map[string]string{
		"DATABASE_URL":         server.URL(database),
		"FLUJO_PORT_THROWAWAY": "1",
		"PATH":                 server.Bin() + string(os.PathListSeparator) + os.Getenv("PATH"),
		"PGDATABASE":           database,
		"PGHOST":               server.Host(),
		"PGPASSWORD":           server.Password(),
		"PGPORT":               server.Port(),
		"PGUSER":               server.User(),
	} {
		errs = append(errs, os.Setenv(name, value))
	}
	return errors.Join(errs...)
}

// runCommand runs CMD and passes signals on to it. A signal that arrived before
// CMD started ends the run.
func runCommand(args []string, signals <-chan os.Signal) (code int, err error) {
	select {
	case sig := <-signals:
		return 128 + int(sig.(syscall.Signal)), nil
	default:
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 127, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			if !sentByTerminal(sig) {
				_ = cmd.Process.Signal(sig) // it may have just ended
			}
		case err := <-ended:
			return exitCode(cmd.ProcessState, err)
		}
	}
}

// exitCode returns the exit code that a shell would report for an ended
// command.
func exitCode(state *os.ProcessState, err error) (int, error) {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 1, err
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return state.ExitCode(), nil
}
