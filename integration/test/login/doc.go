// Package login boots a Debian with its own systemd and logind, installs tokenfs
// in it as a package would, and has users log in and out over ssh.
package login
