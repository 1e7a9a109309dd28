package login

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// mosh's client logs in by ssh, which ends at once, and speaks to a server of
// its own from then on.
func TestHoldMosh(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	key, err := os.Open(u.cache + "/id")
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	copied := u.root("install -m 600 /dev/stdin /root/id-mosh")
	copied.Stdin = key
	u.must(run(copied))

	// It wants a terminal with a size and a character set.
	const ssh = "ssh -i /root/id-mosh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
	command := fmt.Sprintf("stty rows 24 cols 80; exec mosh --server=\"tokenfs hold -- mosh-server\" --ssh=\"%s\" %s@127.0.0.1", ssh, u.name)
	client := u.root("TERM=xterm LC_ALL=C.UTF-8 script --quiet --command '" + command + "' /dev/null")
	typed, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	screen := &output{}
	client.Stdout, client.Stderr = screen, screen
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		typed.Close()
		client.Wait()
		if t.Failed() {
			t.Logf("the screen: %q", &screen.text)
		}
	}()
	u.eventually("a shell shows its prompt", func() bool { _, shown := screen.after(u.name + "@"); return shown })
	fmt.Fprintln(typed, put)
	u.eventually("what was typed is done", func() bool { return u.look("cat $XDG_RUNTIME_DIR/tokenfs/token") == "secret" })
	u.eventually("ssh has ended", func() bool {
		return u.must(u.as("loginctl show-user "+u.name+" --property State --value")) == "closing"
	})
	u.outlive()
	fmt.Fprintln(typed, "tr a-z A-Z <$XDG_RUNTIME_DIR/tokenfs/token >~/said")
	u.eventually("the shell has read its token", func() bool { said, _ := u.as("cat ~" + u.name + "/said"); return said == "SECRET" })
	if u.lingers() {
		t.Error("lingering is on without need")
	}
	u.must(u.as("pkill --signal KILL --exact mosh-client")) // as a laptop that is lost
	u.outlive()
	now := u.login("cat $XDG_RUNTIME_DIR/tokenfs/token; tokenfs status | grep ^lease; pkill mosh-server")
	if !strings.HasPrefix(now, "secret\n") || !strings.Contains(now, "while mosh-server runs") {
		t.Errorf("at the next login: %q\n%s", now, u.journal())
	}
	u.seen("with mosh --server='tokenfs hold -- mosh-server' the token was there in mosh's shell when all of a later login had gone, and after its client was killed; everything was gone %v after its server", u.gone())
}
