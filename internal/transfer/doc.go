// Package transfer holds the tests of the operations until they are moved to their
// packages.
package transfer
