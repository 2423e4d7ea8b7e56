// Package torture runs the program against a real server while something breaks: signals,
// the network, the server, disks, files, or another run of the same command. After each
// trial it looks at the database and the files, and compares them with what the program
// said. `make torture` runs it, and writes docs/reliability.md.
package torture
