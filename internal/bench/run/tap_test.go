package main

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

// packet is a message of PostgreSQL's protocol; a type of 0 is none.
func packet(kind byte, payload string) string {
	length := binary.BigEndian.AppendUint32(nil, uint32(len(payload)+4))
	if kind == 0 {
		return string(length) + payload
	}
	return string(kind) + string(length) + payload
}

// TestTap: all that a client sends reaches the server, and of it the rows of each
// COPY that has some are taken down.
func TestTap(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	received := make(chan string, 1)
	go func() {
		conn, err := server.Accept()
		if err != nil {
			received <- err.Error()
			return
		}
		defer conn.Close()
		all, _ := io.ReadAll(io.LimitReader(conn, 1<<20)) // what came is compared
		received <- string(all)
	}()
	tap := &tap{upstream: server.Addr().String(), folder: t.TempDir()}
	if err := tap.listen(); err != nil {
		t.Fatal(err)
	}
	none := strings.Repeat("n", noRows)
	said := packet(0, "\x04\xd2\x16\x2f") + packet(0, "\x00\x03\x00\x00user\x00me\x00\x00") + packet('Q', "BEGIN\x00") +
		packet(
			'Q',
			`COPY "flujo"."runs" ("run_id") FROM STDIN (FORMAT binary)`+"\x00",
		) + packet('d', "rows of ") + packet('d', "runs, and what makes them long enough") + packet('c', "") +
		packet(
			'Q',
			`COPY "flujo"."runs" ("run_id") FROM STDIN (FORMAT binary)`+"\x00",
		) + packet('d', none) + packet('c', "") +
		packet(
			'Q',
			`COPY "flujo"."traces" ("run_id") FROM STDIN (FORMAT binary)`+"\x00",
		) + packet('d', "traces"+none) + packet('c', "") + packet('X', "")
	client, err := net.Dial("tcp", tap.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(client, said); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if got := <-received; got != said {
		t.Errorf("the server got %q", got)
	}
	files, err := tap.Close()
	if err != nil {
		t.Fatal(err)
	}
	var taken []string
	for _, f := range files {
		text, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, f.table+": "+string(text))
	}
	if got, want := strings.Join(taken, "\n"),
		"runs: rows of runs, and what makes them long enough\ntraces: traces"+none; got != want {
		t.Errorf("taken down: %q", got)
	}
}
