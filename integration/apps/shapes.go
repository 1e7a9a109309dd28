package apps

import (
	"bytes"
	"os"
	"regexp"

	"golang.org/x/sys/unix"
)

// Where the name of a file does not tell what is lost with it, what is in it
// does: a token that somebody has pasted, or a private key, comes back by no
// login, whatever file it is in.

// A shape is how such a secret looks.
type shape struct {
	mark string // is in each, and quickly looked for
	like *regexp.Regexp
	what string
}

var shapes = []shape{
	{"PRIVATE KEY", regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----`), "a private key"},
	{"PuTTY-User-Key-File-", regexp.MustCompile(`PuTTY-User-Key-File-[0-9]`), "a private key"},
	{"AGE-SECRET-KEY-", regexp.MustCompile(`AGE-SECRET-KEY-1[0-9A-Z]{20}`), "a private key"},
	{"service_account", regexp.MustCompile(`"type"\s*:\s*"service_account"`), "the key of a service account"},
	{"ghp_", token(`ghp_[A-Za-z0-9]{20}`), "a personal access token of GitHub"},
	{"github_pat_", token(`github_pat_[A-Za-z0-9_]{20}`), "a personal access token of GitHub"},
	{"glpat-", token(`glpat-[A-Za-z0-9_-]{16}`), "a personal access token of GitLab"},
	{"npm_", token(`npm_[A-Za-z0-9]{30}`), "an access token of npm"},
	{"pypi-", token(`pypi-AgE[A-Za-z0-9_-]{20}`), "an API token of PyPI"},
	{"dckr_pat_", token(`dckr_pat_[A-Za-z0-9_-]{20}`), "a personal access token of Docker"},
	{"hf_", token(`hf_[A-Za-z0-9]{30}`), "an access token of Hugging Face"},
	{"sk-", token(`sk-(?:ant-|proj-|svcacct-)?[A-Za-z0-9_-]{32}`), "an API key"},
	{"AIza", token(`AIza[A-Za-z0-9_-]{35}`), "an API key of Google"},
	{"xox", token(`xox[abpr]-[0-9A-Za-z-]{20}`), "a token of Slack"},
	{"AKIA", token(`AKIA[A-Z0-9]{16}`), "an access key of AWS"},
	{"AZDO", token(`[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}`), "a personal access token of Azure DevOps"},
	{"Personal Access Token", regexp.MustCompile(`(?m)^Personal Access Token\s*=\s*\S`), "a personal access token of Azure DevOps"},
	// Nobody can tell what terraform login has put there from what was pasted.
	{`"credentials"`, regexp.MustCompile(`(?s)^\s*\{\s*"credentials"\s*:\s*\{.*"token"\s*:\s*"[^"]`), "API tokens of Terraform registries, by a login or pasted"},
}

// token is for one that begins there: base64 has every beginning somewhere.
func token(like string) *regexp.Regexp {
	return regexp.MustCompile(`(?:^|[^A-Za-z0-9_+/-])` + like)
}

// shapesIn finds what a file of this user has that no login brings back.
func shapesIn(name string) (what string) {
	if !ours(name) {
		return ""
	}
	withContents(name, func(text []byte) { what = shapeOf(text) })
	return what
}

func shapeOf(text []byte) string {
	for _, s := range shapes {
		if bytes.Contains(text, []byte(s.mark)) && s.like.Match(text) {
			return s.what
		}
	}
	return ""
}

func ours(name string) bool {
	var st unix.Stat_t
	return unix.Lstat(name, &st) == nil && int(st.Uid) == os.Geteuid()
}
