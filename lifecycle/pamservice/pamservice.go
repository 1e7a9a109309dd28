// Package pamservice tells services of PAM apart by their names. It is so small
// because a program that runs as root at every login needs it.
package pamservice

import "strings"

// OpensLogin says whether a session of that service may be what a person opens:
// over ssh, on a console or in a display manager. Changing user and running jobs
// is not that, although PAM is asked to open a session for it.
func OpensLogin(service string) bool {
	kind, _, _ := strings.Cut(service, "-")
	switch kind {
	case "su", "sudo", "runuser", "doas", "pkexec", "polkit", "cron", "crond", "atd", "systemd":
		return false
	}
	return !strings.HasSuffix(service, "greeter") && service != "gdm-launch-environment"
}
