// Package pam has users log in over a real sshd on a Debian without systemd as
// its first process, without logind, and with nothing that makes /run/user/UID
// but what the package installs for PAM.
package pam
