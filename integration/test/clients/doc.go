// Package clients lets the programs that people sign in with do so on the
// filesystem, unmodified and as they were installed from Debian, npm or the Go
// module proxy: they sign in, use what they cached, refresh it, sign out, and
// sign in again after a wipe; eight of them at once; and then everything that
// the user wrote on a disk, deleted files included, is searched for the tokens.
//
// Nothing leaves the machine: tokens come from the stand-in in package entra.
// What is only imitated, because the program cannot be had here, is called an
// emulation in its name. make test-apps installs the programs and runs it all.
package clients
