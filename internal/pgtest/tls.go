package pgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// WithTLS makes the server accept TLS connections in addition to plain ones.
// Its certificate is for 127.0.0.1 and localhost and is issued by a CA of its
// own (see [Server.RootCert]). libpq before 15 does not compare IP addresses
// and accepts only localhost. [Server.URL] still has sslmode=disable.
func WithTLS() Option {
	return func(s *Server) { s.tls = true }
}

// RootCert returns the path of the CA's certificate in PEM, for sslrootcert, or
// "" for a server without TLS. The file is removed with the server.
func (s *Server) RootCert() string {
	if !s.tls {
		return ""
	}
	return filepath.Join(s.dir, "root.crt")
}

// certify writes the CA's certificate and the server's certificate and key, and
// returns the settings that enable TLS.
func (s *Server) certify() (settings []string, err error) {
	root, cert, key, err := makeCertificates()
	if err != nil {
		return nil, fmt.Errorf("create certificates: %w", err)
	}
	certFile, keyFile := filepath.Join(s.dir, "server.crt"), filepath.Join(s.dir, "server.key")
	for path, block := range map[string]*pem.Block{
		s.RootCert(): {Type: "CERTIFICATE", Bytes: root},
		certFile:     {Type: "CERTIFICATE", Bytes: cert},
		keyFile:      {Type: "PRIVATE KEY", Bytes: key},
	} {
		// PostgreSQL refuses a key that others could read.
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, fmt.Errorf("write certificates: %w", err)
		}
		if err := s.account.own(path); err != nil {
			return nil, err
		}
	}
	return []string{"ssl=on", "ssl_cert_file=" + certFile, "ssl_key_file=" + keyFile}, nil
}

// makeCertificates returns, in DER, the certificate of a new CA, and a
// certificate that it issued for the server, with the server's key. They are
// valid for one day.
func makeCertificates() (root, cert, key []byte, err error) {
	rootKey, rootErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	serverKey, serverErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(rootErr, serverErr); err != nil {
		return nil, nil, nil, err
	}
	from := time.Now().Add(-time.Hour) // clocks differ
	until := from.Add(25 * time.Hour)

	ca := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "pgtest CA"},
		NotBefore:             from,
		NotAfter:              until,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	if root, err = x509.CreateCertificate(rand.Reader, ca, ca, rootKey.Public(), rootKey); err != nil {
		return nil, nil, nil, err
	}
	// Only the parsed one has the key id that strict clients look for.
	if ca, err = x509.ParseCertificate(root); err != nil {
		return nil, nil, nil, err
	}
	server := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "localhost"},
		NotBefore:   from,
		NotAfter:    until,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.ParseIP(host)},
	}
	if cert, err = x509.CreateCertificate(rand.Reader, server, ca, serverKey.Public(), rootKey); err != nil {
		return nil, nil, nil, err
	}
	key, err = x509.MarshalPKCS8PrivateKey(serverKey)
	return root, cert, key, err
}
