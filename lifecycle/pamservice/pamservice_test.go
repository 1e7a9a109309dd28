package pamservice

import "testing"

func TestOpensLogin(t *testing.T) {
	for service, want := range map[string]bool{
		"sshd": true, "login": true, "gdm-password": true, "lightdm": true, "sddm": true, "xrdp-sesman": true,
		"su": false, "su-l": false, "sudo": false, "sudo-i": false, "runuser-l": false, "cron": false, "crond": false,
		"atd": false, "systemd-user": false, "polkit-1": false,
		"gdm-launch-environment": false, "lightdm-greeter": false, "sddm-greeter": false,
	} {
		if got := OpensLogin(service); got != want {
			t.Errorf("OpensLogin(%q) = %v", service, got)
		}
	}
}
