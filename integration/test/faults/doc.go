// Package faults lets everything around the filesystem fail: its worker and its
// keeper stop, spin, die and are refused what they ask the kernel for, and so
// do its clients. The filesystem goes on, or ends cleanly and says why.
package faults
