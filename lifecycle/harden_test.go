package lifecycle

import (
	"os"
	"runtime"
	"slices"
	"testing"
)

func TestGodebug(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "",
		"asyncpreemptoff=1":               "",
		"asyncpreemptoff=0":               "",
		"gctrace=1":                       "gctrace=1,",
		"asyncpreemptoff=0,,http2debug=1": "http2debug=1,",
	} {
		want += "updatemaxprocs=0,decoratemappings=0,asyncpreemptoff=1"
		if got := godebug(in); got != want || godebug(got) != got {
			t.Errorf("godebug(%q) = %q, want %q, and no change to that", in, got, want)
		}
	}
}

func TestDaemonGetsNoSecretsOfTheEnvironment(t *testing.T) {
	t.Setenv("AZURE_CLIENT_SECRET", "x")
	t.Setenv("PATH", "/somewhere")
	t.Setenv("GODEBUG", "gctrace=0")
	env := daemonEnv()
	if !slices.Contains(env, "PATH=/somewhere") || !slices.Contains(env, "GODEBUG=gctrace=0,updatemaxprocs=0,decoratemappings=0,asyncpreemptoff=1") {
		t.Errorf("environment %q", env)
	}
	if slices.Contains(env, "AZURE_CLIENT_SECRET=x") {
		t.Errorf("environment %q", env)
	}
}

func TestNameProcess(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	comm := func() string {
		b, err := os.ReadFile("/proc/thread-self/comm")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := comm()
	defer NameProcess(before[:len(before)-1])
	NameProcess("tokenfs")
	if got := comm(); got != "tokenfs\n" {
		t.Errorf("named %q", got)
	}
}
