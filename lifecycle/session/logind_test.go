package session

import "testing"

func TestIsLogin(t *testing.T) {
	for _, c := range []struct {
		class, service, state string
		want                  bool
	}{
		{"user", "sshd", "active", true},
		{"user", "sshd", "opening", true},
		{"user", "login", "online", true},
		{"user", "gdm-password", "active", true},
		{"user-early", "sshd", "active", true},
		{"user-incomplete", "login", "active", true},
		{"user", "sshd", "closing", false},
		{"user", "su", "active", false},
		{"user", "su-l", "active", false},
		{"user", "sudo", "active", false},
		{"user", "sudo-i", "active", false},
		{"background", "cron", "active", false},
		{"user", "crond", "active", false},
		{"user", "runuser-l", "active", false},
		{"manager", "systemd-user", "active", false},
		{"greeter", "gdm-launch-environment", "active", false},
		{"lock-screen", "gdm", "active", false},
		{"background", "sshd", "active", false},
		{"user-none", "sshd", "active", false},
		{"", "", "", false},
	} {
		if got := isLogin(c.class, c.service, c.state); got != c.want {
			t.Errorf("isLogin(%q, %q, %q) = %v", c.class, c.service, c.state, got)
		}
	}
}
