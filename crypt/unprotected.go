//go:build tokenfs_unprotected

package crypt

const Unprotected = true
