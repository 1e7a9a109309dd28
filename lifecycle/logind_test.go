package lifecycle

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

// A bus that cannot be reached now was there before, if logins are followed.
func TestBusGone(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	s := testSession(t, AtLogout{})
	if again := s.ask(); !again || !s.state.Follows {
		t.Errorf("try again %v, follows %v", again, s.state.Follows)
	}
	// At the start that means that there is nobody to ask.
	if err := s.awaitLogin(t.Context(), false); err != nil || s.state.Follows || s.bus != nil {
		t.Errorf("at the start: %v, follows %v", err, s.state.Follows)
	}
}
