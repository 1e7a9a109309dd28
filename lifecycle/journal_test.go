package lifecycle

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"tokenfs/lifecycle/process"
)

func TestJournalNeverWaits(t *testing.T) {
	stuck, got := make(chan bool), make(chan string, 1000)
	j := newJournal(func(format string, args ...any) {
		<-stuck
		got <- fmt.Sprintf(format, args...)
	})
	const n = 3 * queuedMessages
	for i := range n {
		j.logf("message %d", i) // would hang here if it waited for the sink
	}
	recent := j.messages()
	if len(recent) != keptMessages || recent[keptMessages-1].Text != fmt.Sprintf("message %d", n-1) {
		t.Errorf("kept %v", recent)
	}
	close(stuck)
	j.flush()
	j.logf("after")
	j.flush()
	close(got)
	var all []string
	for m := range got {
		all = append(all, m)
	}
	text := strings.Join(all, "\n")
	if !strings.HasPrefix(text, "message 0\n") || !strings.HasSuffix(text, "were lost\nafter") {
		t.Errorf("the sink got %q", text)
	}
}

func TestNotify(t *testing.T) {
	path := filepath.Join(runtimeDir(t), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := process.Notify("READY=1"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, err := l.Read(b); err != nil || string(b[:n]) != "READY=1" {
		t.Errorf("%q, %v", b[:n], err)
	}
	t.Setenv("NOTIFY_SOCKET", path+"x")
	if err := process.Notify("READY=1"); err == nil {
		t.Error("no error without a service manager")
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := process.Notify("READY=1"); err != nil {
		t.Error(err)
	}
}
