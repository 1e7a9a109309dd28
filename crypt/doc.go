// Package crypt keeps bytes sealed in memory: locked memory, keys, seal and
// open, and the arena with its log. It knows nothing of files or paths.
//
// All state that must outlive a process lives in three memfds (Memory); the
// heap holds only what can be rebuilt from them.
package crypt
