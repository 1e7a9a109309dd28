package apps

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goodList has every field once; %s is the desk.
const goodList = `{"format_version":1,"mountpoint":"%[1]s/mnt","links":[
	{"dir":"%[1]s/home/.azure","name":"azure","mode":448,"apps":["azure-cli"],"phase":"erasing","moved":["accessTokens.json"],"kept":["config"],"made":["%[1]s/home/.azure/bin"],"times":["0001-01-01T00:00:00Z","0001-01-01T00:00:00Z"],"stays":true,"back":["x"]},
	{"dir":"%[1]s/home","file":".npmrc","variable":"NPM_CONFIG_USERCONFIG","name":"npm","mode":448,"apps":["npm"],"phase":"linked","moved":[".npmrc"],"times":["0001-01-01T00:00:00Z","0001-01-01T00:00:00Z"]}]}`

func TestBadListsAreRefused(t *testing.T) {
	root := memoryDir(t)
	for name, c := range map[string]struct{ old, new, want string }{
		"good":                   {"", "", ""},
		"not JSON":               {"{", "", "invalid"},
		"empty entry":            {`"links":[`, `"links":[null,`, "entry 0 is empty"},
		"other format":           {`"format_version":1`, `"format_version":99`, "format 99"},
		"relative mountpoint":    {`"mountpoint":"`, `"mountpoint":"x`, "not a mountpoint"},
		"moved climbs out":       {`"accessTokens.json"`, `"../important"`, `"../important" is not the name of a file`},
		"moved is absolute":      {`"accessTokens.json"`, `"/etc/passwd"`, "not the name of a file"},
		"moved is all of it":     {`"accessTokens.json"`, `"."`, "not the name of a file"},
		"kept climbs out":        {`"config"`, `".."`, "not the name of a file"},
		"back climbs out":        {`"back":["x"]`, `"back":["a/../../b"]`, "not the name of a file"},
		"relative directory":     {`"dir":"`, `"dir":"x`, "not the path of a directory"},
		"root directory":         {`/home/.azure","name"`, `/../../../../../..","name"`, "not the path of a directory"},
		"climbing directory":     {`/home/.azure","name"`, `/home/../x","name"`, "not the path of a directory"},
		"name with a slash":      {`"name":"azure"`, `"name":"../azure"`, "not the name of a directory on the mount"},
		"mode with setuid":       {`"mode":448`, `"mode":2496`, "not a mode"},
		"no app":                 {`"apps":["azure-cli"]`, `"apps":[]`, "no app"},
		"unknown phase":          {`"phase":"erasing"`, `"phase":"gone"`, "not how far"},
		"made elsewhere":         {`/home/.azure/bin`, `/home/.ssh`, "was not made for"},
		"file without variable":  {`"variable":"NPM_CONFIG_USERCONFIG",`, "", "do not go together"},
		"variable with more":     {`NPM_CONFIG_USERCONFIG`, `A=b\nLD_PRELOAD`, "do not go together"},
		"another file moved":     {`"moved":[".npmrc"]`, `"moved":[".bashrc"]`, "not the file of the variable"},
		"a place twice":          {`{"dir":"%[1]s/home","file":".npmrc","variable":"NPM_CONFIG_USERCONFIG"`, `{"dir":"%[1]s/home/.azure"`, "is there twice"},
		"too long":               {"{", "{" + strings.Repeat(" ", listLimit), "too long"},
		"a file no app has":      {`NPM_CONFIG_USERCONFIG`, `LD_PRELOAD`, "no app has the file"},
		"a file of another home": {`"dir":"%[1]s/home","file"`, `"dir":"%[1]s/home/x","file"`, "no app has the file"},
	} {
		t.Run(name, func(t *testing.T) {
			os.RemoveAll(root)
			d := newDesk(t, root)
			d.write(map[string]string{"important": "important", ".azure.tokenfs/config": "config"})
			text := fmt.Sprintf(strings.Replace(goodList, c.old, c.new, 1), root)
			d.write(map[string]string{".config/tokenfs/apps.json": text})
			os.Chmod(List(d.Dirs), 0o600)
			before := d.snapshot()
			err := d.Unlink("gh", false, false) // settles what is in the list
			if c.want == "" {
				if err != nil && !strings.Contains(err.Error(), "interrupted") {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), List(d.Dirs)) {
				t.Errorf("error %v, want one with %q and the list's path", err, c.want)
			}
			d.same("after a bad list", d.snapshot(), before)
			if folders, err := Skeleton(List(d.Dirs), d.Dirs.Home, d.Mountpoint); err == nil && !strings.Contains(name, "a file") || len(folders) > 0 && err != nil {
				t.Errorf("mount would get %v, %v", folders, err)
			}
			if _, err := d.Survey(); err == nil && !strings.Contains(name, "a file") {
				t.Error("the survey takes it")
			}
		})
	}
}

func TestListThatOthersCanWrite(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.must(d.Link(d.app("terraform"), false))
	d.must(os.Chmod(List(d.Dirs), 0o666))
	if _, err := Skeleton(List(d.Dirs), d.Dirs.Home, d.Mountpoint); err == nil || !strings.Contains(err.Error(), "everybody may write") {
		t.Errorf("error %v", err)
	}
	d.must(os.Chmod(List(d.Dirs), 0o600))
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root can give the list away")
	}
	d.must(os.Chown(List(d.Dirs), 65534, 65534))
	if _, err := Skeleton(List(d.Dirs), d.Dirs.Home, d.Mountpoint); err == nil || !strings.Contains(err.Error(), "belongs to uid 65534") {
		t.Errorf("error %v", err)
	}
}

// A name that the list cannot write down would be left on disk by a run that
// takes up where another one was killed.
func TestNamesThatAreNoText(t *testing.T) {
	d := newDesk(t, memoryDir(t))
	d.write(map[string]string{"own/\xff": secret})
	if err := d.Link(d.app(d.home("own")), true); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "not UTF-8") {
		t.Errorf("error %v", err)
	}
	long := d.home(strings.Repeat("ä", 120))
	d.must(os.Mkdir(long, 0o700))
	d.must(d.Link(d.app(long), true))
	if st, err := os.Stat(long); err != nil || !st.IsDir() {
		t.Errorf("a long name: %v", err)
	}
	az := d.app("azure-cli")
	d.must(d.Link(az, false))
	os.Remove(d.home(".azure"))
	d.write(map[string]string{".azure/\xff": ""})
	if err := d.Link(az, false); !errors.Is(err, ErrUsage) {
		t.Errorf("mending: %v", err)
	}
}

// Whatever is in the list: nothing panics, and what lies outside of the linked
// directories stays.
func FuzzList(f *testing.F) {
	const root = "/desk" // stands for the directory, whose name differs each time
	f.Add([]byte(fmt.Sprintf(goodList, root)))
	for _, s := range []string{`null`, `{}`, `{"format_version":1,"links":[null]}`, `{"format_version":1,"links":null}`} {
		f.Add([]byte(s))
	}
	for _, phase := range phases {
		f.Add([]byte(strings.Replace(fmt.Sprintf(goodList, root), `"phase":"erasing","moved":["accessTokens.json"]`, `"phase":"`+string(phase)+`","moved":["../important"]`, 1)))
		f.Add([]byte(strings.Replace(fmt.Sprintf(goodList, root), `"erasing"`, `"`+string(phase)+`"`, 1)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := memoryDir(t)
		d := newDesk(t, dir)
		d.write(map[string]string{"important": "important", ".azure.tokenfs/config": "config", ".azure.tokenfs/accessTokens.json": secret})
		d.must(os.MkdirAll(filepath.Dir(List(d.Dirs)), 0o700))
		d.must(os.WriteFile(List(d.Dirs), []byte(strings.ReplaceAll(string(text), root, dir)), 0o600))
		if s, err := loadState(List(d.Dirs), d.Dirs.Home); err == nil {
			for _, l := range s.Links {
				if !below(dir, l.Dir) {
					t.Skip("about something outside, which is really there")
				}
			}
		}
		Skeleton(List(d.Dirs), d.Dirs.Home, d.Mountpoint)
		d.Survey()
		d.Underminings()
		d.Link(d.app("terraform"), false)
		d.Unlink("azure-cli", true, true)
		if got := d.read(d.home("important")); got != "important" {
			t.Errorf("what it was not about holds %q now", got)
		}
	})
}
