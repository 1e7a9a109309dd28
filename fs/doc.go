// Package fs is the filesystem: inodes, directories, files, quota, callers and
// the FUSE transport. It has no cryptography of its own and knows nothing of
// how it was mounted.
package fs
