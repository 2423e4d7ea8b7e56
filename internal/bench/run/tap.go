package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"sync"
)

// tap is a proxy to the server that stores what clients send with COPY: a file
// for each COPY that has rows.
type tap struct {
	listener net.Listener
	upstream string
	folder   string

	wait  sync.WaitGroup
	mu    sync.Mutex // protects the fields below
	files []copyFile
	errs  []error
}

// copyFile is a stream of PostgreSQL's binary COPY format, for a table.
type copyFile struct{ table, path string }

// noRows is the size of a stream without rows: header and trailer.
const noRows = 21

// listen starts to accept connections at Addr.
func (t *tap) listen() (err error) {
	if t.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	t.wait.Go(func() {
		for {
			client, err := t.listener.Accept()
			if err != nil {
				return // it was closed
			}
			t.wait.Go(func() {
				if err := t.serve(client); err != nil {
					t.mu.Lock()
					defer t.mu.Unlock()
					t.errs = append(t.errs, err)
				}
			})
		}
	})
	return nil
}

// Addr returns the proxy's address, host:port.
func (t *tap) Addr() string { return t.listener.Addr().String() }

// Close waits until all sessions have ended and returns the files in the order
// in which their COPY ended.
func (t *tap) Close() ([]copyFile, error) {
	err := t.listener.Close()
	t.wait.Wait()
	return t.files, errors.Join(append(t.errs, err)...)
}

func (t *tap) serve(client net.Conn) error {
	defer client.Close()
	server, err := net.Dial("tcp", t.upstream)
	if err != nil {
		return err
	}
	defer server.Close()
	t.wait.Go(func() { _, _ = io.Copy(client, server) }) // ends with the session
	in := bufio.NewReaderSize(io.TeeReader(client, server), 1<<16)
	// The first packets have no type byte: requests for encryption, which the
	// server does not support, and the startup packet.
	var payload []byte
	for begun := false; !begun; {
		if _, payload, err = message(in, payload, 0); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		begun = binary.BigEndian.Uint16(payload) != askEncryption
	}
	var table string
	var file *os.File
	for {
		var kind byte
		if kind, payload, err = message(in, payload, 1); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		switch kind {
		case 'Q':
			found := copyInto.FindSubmatch(payload)
			if found == nil {
				continue
			}
			table = string(found[1])
			if file, err = os.CreateTemp(t.folder, table+".*.sent"); err != nil {
				return err
			}
		case 'd':
			if _, err := file.Write(payload); err != nil {
				return err
			}
		case 'c':
			if err := t.store(table, file); err != nil {
				return err
			}
		}
	}
}

// store adds the file of a COPY to t.files if it has rows.
func (t *tap) store(table string, file *os.File) error {
	info, err := file.Stat()
	if err := errors.Join(err, file.Chmod(0o644), file.Close()); err != nil || info.Size() == noRows {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files = append(t.files, copyFile{table: table, path: file.Name()})
	return nil
}

// askEncryption is the upper half of the codes that request encryption or
// cancel a query. They stand in the place of the protocol version.
const askEncryption = 1234

var copyInto = regexp.MustCompile(`^COPY "flujo"\."(\w+)" .* FROM STDIN`)

// message reads a message of PostgreSQL's protocol: types bytes of its type, its
// length, and the rest, which is good until the next.
func message(in io.Reader, buf []byte, types int) (kind byte, payload []byte, err error) {
	head := make([]byte, types+4)
	if _, err := io.ReadFull(in, head); err != nil {
		return 0, buf, err
	}
	size := int(binary.BigEndian.Uint32(head[types:])) - 4
	if cap(buf) < size {
		buf = make([]byte, size)
	}
	_, err = io.ReadFull(in, buf[:size])
	return head[0], buf[:size], err
}
