//go:build tools

// Package kubo pins the IPFS daemon that the tests run against; go.sum beside it fixes every byte.
package kubo

import _ "github.com/ipfs/kubo/cmd/ipfs"
