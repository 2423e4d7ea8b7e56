// Command generate creates a state file as Flujo writes it, of about the given
// size: generate -mb 730 PATH. With -cell and -long, some cells of each run are
// that long.
package main

import (
	"flag"
	"fmt"
	"os"

	"flujo-port/internal/bench"
)

func main() {
	megabytes := flag.Int64("mb", 100, "size of the file in `MB`")
	cell := flag.Int64("cell", 0, "minimum number of `bytes` of a long cell")
	long := flag.Int("long", 0, "`number` of long cells in each run")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: generate [-mb SIZE] [-cell BYTES -long NUMBER] PATH")
		os.Exit(2)
	}
	if err := bench.Generate(flag.Arg(0), *megabytes*1_000_000, *cell, *long, 1); err != nil {
		fmt.Fprintf(os.Stderr, "generate %s: %v\n", flag.Arg(0), err)
		os.Exit(1)
	}
}
