package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tokenfs/integration/apps"
)

const aToken = "eyJ0eXAi-nobody-finds-me"

func TestLinkedAppFindsItsDirectory(t *testing.T) {
	eachAccount(t, func(a *account) {
		a.must(`mkdir -p ~/.azure/cliextensions && echo ` + aToken + ` > ~/.azure/msal_token_cache.json && echo settings > ~/.azure/config && touch -d 2001-02-03 ~/.azure/* ~/.azure`)
		before := a.must("cd ~ && ls -lAR --full-time .azure")
		a.tokenfs(exitNotMounted, "run tokenfs mount", "link", "azure-cli")
		a.tokenfs(exitOK, "mounted on", "mount")
		a.tokenfs(exitOK, "~/.azure/msal_token_cache.json", "apps")
		a.tokenfs(exitOK, "linked ~/.azure", "link", "azure-cli")
		a.tokenfs(exitOK, "linked already", "link", "azure-cli")
		a.must(`test "$(cat ~/.azure/msal_token_cache.json)" = ` + aToken + ` && test "$(cat ~/.azure/config)" = settings && test -d ~/.azure/cliextensions`)
		a.must("! grep -rqs " + aToken + " ~ --exclude-dir=run")

		found := "test -d ~/.azure/ && test -d ~/.azure/bin/ && cat ~/.azure/config && ! test -e ~/.azure/msal_token_cache.json && echo new > ~/.azure/msal_token_cache.json"
		a.tokenfs(exitOK, "wiped everything", "wipe")
		a.must(found)
		a.tokenfs(exitOK, "wiped 1 file", "wipe", a.mountpoint()+"/azure")
		a.must(found)
		a.tokenfs(exitOK, "unmounted", "unmount")
		a.fails("", "mkdir -p ~/.azure/x")
		a.tokenfs(exitOK, "mounted on", "mount")
		a.must(found)

		// A keeper that may have to wipe by itself, because its worker hangs.
		unix.Kill(a.status().Worker.PID, unix.SIGSTOP)
		a.tokenfs(exitOK, "wiped everything", "wipe")
		a.must(found)
		pid := a.status().Worker.PID
		unix.Kill(pid, unix.SIGKILL)
		a.must(strings.Replace(found, "! test", "test", 1))

		// At no moment of a wipe is it missing. Who walks a path while everything
		// is wiped twice may see that, as an error: it never is that nothing is there.
		a.must(`export LC_ALL=C
			for i in 1 2 3 4 5; do ` + command + ` wipe; done > /dev/null &
			while kill -0 $! 2>/dev/null; do
				case "$(stat -L ~/.azure/ ~/.azure/bin/ 2>&1 >/dev/null; stat ~/.azure/config 2>&1 >/dev/null)" in
				*"No such file"*) echo missing >&2; exit 1;;
				esac
			done
			wait $!`)

		var r apps.Report
		if err := json.Unmarshal([]byte(a.tokenfs(exitOK, "", "apps", "--json")), &r); err != nil || r.FormatVersion != 1 || r.Apps[0].Name != "azure-cli" || !r.Apps[0].Linked || len(r.Apps[0].Plaintext) > 0 {
			a.Errorf("apps --json: %+v, %v", r, err)
		}
		a.tokenfs(exitOK, "AZURE_CONFIG_DIR='"+a.mountpoint()+"/azure'", "env")
		a.tokenfs(exitOK, `ENV NPM_CONFIG_USERCONFIG="`, "env", "npm", "--format", "dockerfile")
		a.must("echo " + aToken + " > ~/.azure/msal_token_cache.json && chmod 600 ~/.azure/msal_token_cache.json && touch -d 2001-02-03 ~/.azure/msal_token_cache.json && chmod 644 ~/.azure/msal_token_cache.json")
		a.tokenfs(exitOK, "unlinked ~/.azure", "unlink", "azure-cli", "--keep-tokens")
		if after := a.must("cd ~ && ls -lAR --full-time .azure"); after != before {
			a.Errorf("came back as\n%s, was\n%s", after, before)
		}
		a.must(fmt.Sprintf("test -z \"$(ls %s)\"", a.mountpoint()))
		a.tokenfs(exitOK, "unmounted", "unmount")
	})
}

func TestLinkUsage(t *testing.T) {
	asUser(t, func(a *account) {
		for _, args := range [][]string{
			{"link"}, {"link", "--all", "npm"}, {"link", "--all", "--yes-lose"}, {"link", "emacs"}, {"unlink"}, {"unlink", "emacs"}, {"unlink", "--all", "npm"},
			{"env", "--format", "csh", "npm"}, {"env"}, {"env", "emacs"}, {"apps", "emacs"}, {"apps", "--json", "npm"}, {"link", "/etc/passwd"},
		} {
			a.tokenfs(exitUsage, "", args...)
		}
		a.tokenfs(exitOK, "access and refresh tokens", "apps", "azure-cli", "npm")
		a.tokenfs(exitOK, "mounted", "mount")
		a.tokenfs(exitFailure, "--yes-lose", "link", "npm")
		a.must("echo '//r/:_authToken=" + aToken + "' > ~/.npmrc")
		a.tokenfs(exitOK, "environment.d/60-tokenfs.conf", "link", "--yes-lose", "npm")
		a.must("! grep -rqs " + aToken + " ~ --exclude-dir=run && eval \"$(" + command + " env npm)\" && grep -q " + aToken + " $NPM_CONFIG_USERCONFIG")
		a.tokenfs(exitFailure, "--keep-tokens", "unlink", "npm")
		a.tokenfs(exitOK, "unlinked ~/.npmrc", "unlink", "--keep-tokens", "npm")
		a.must("grep -q " + aToken + " ~/.npmrc")
		a.tokenfs(exitOK, "", "unmount")
	})
}
