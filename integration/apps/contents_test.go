package apps

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"tokenfs/integration/test/scan"
)

// A child process does all that this package does with secrets, and is searched,
// with the registers that the kernel keeps of its threads.
func TestSecretsPassThrough(t *testing.T) {
	root, err := os.MkdirTemp("/dev/shm", "passing-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	d := newDesk(t, root)
	var token string
	for range 100 {
		token += rand.Text()
	}
	d.write(map[string]string{".azure/msal_token_cache.json": token, ".azure/config": "[core]", ".azure/cliextensions/x/key.json": token, ".npmrc": "_authToken=" + token, ".aws/sso/cache/a.json": token})
	c := exec.Command("/proc/self/exe", "-test.run=^TestSecretsPassThroughChild$")
	c.Env = append(os.Environ(), "TOKENFS_TEST_PASSING="+root)
	c.Stderr = os.Stderr
	stdin, err := c.StdinPipe() // what it waits for
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		c.Wait()
	}()
	said := bufio.NewReader(stdout)
	await := func(want string) {
		t.Helper()
		if line, _ := said.ReadString('\n'); line != want+"\n" {
			t.Fatalf("the child said %q", line)
		}
	}
	var set scan.Set
	if err := set.Add("the token", []byte(token)); err != nil {
		t.Fatal(err)
	}
	await("reading")
	rep, err := scan.Process(c.Process.Pid, &set)
	if os.IsPermission(err) {
		t.Skipf("NOT MEASURED: the child's memory cannot be read: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Hits) == 0 {
		t.Error("the search does not find what the child is reading")
	}
	for _, h := range rep.Hits {
		if !h.Region.Locked || !h.Region.NoDump {
			t.Errorf("while it is read, %d bytes of it are in memory that can be swapped or dumped, %v", h.Len, h.Region)
		}
	}
	fmt.Fprintln(stdin)
	await("done")
	if text, _ := os.ReadFile(filepath.Join(d.Dirs.Home, ".azure/msal_token_cache.json")); string(text) != token {
		t.Fatal("the token is not where it was")
	}
	if rep, err = scan.Process(c.Process.Pid, &set); err != nil {
		t.Fatal(err)
	}
	for _, h := range rep.Hits {
		t.Errorf("afterwards, %d bytes of it are in %v", h.Len, h.Region)
	}
	threads, err := scan.Threads(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for i, thread := range threads {
		thread.Search(func(f scan.Found) {
			t.Errorf("%d bytes of it are in registers that are kept of thread %d of %d", f.Len, i, len(threads))
		}, &set)
	}
}

// TestSecretsPassThroughChild is the child. It never has the token but in files.
func TestSecretsPassThroughChild(t *testing.T) {
	root := os.Getenv("TOKENFS_TEST_PASSING")
	if root == "" {
		return
	}
	d := newDesk(t, root)
	in := bufio.NewReader(os.Stdin)
	err := withContents(d.home(".azure/msal_token_cache.json"), func(text []byte) {
		fmt.Println("reading")
		in.ReadString('\n')
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Survey(); err != nil {
		t.Fatal(err)
	}
	if err := d.Link(d.app("azure-cli"), false); err != nil {
		t.Fatal(err)
	}
	d.LeftCopies(filepath.Join(root, "tmp"))
	if err := d.Unlink("azure-cli", true, false); err != nil {
		t.Fatal(err)
	}
	fmt.Println("done")
	in.ReadString('\n')
}
