// An emulation of git-credential-manager, and of what else keeps its tokens by
// MSAL.NET: the system calls that .NET makes for the cache of MSAL.NET and for
// GCM's plain store, around a real login. It is not the program: that needs
// .NET, which neither Debian nor a package registry of the tests has.
//
// Usage: gcm VERB CACHE STORE [COUNT], with the verbs of app.py. Without a
// STORE (-) there is only the cache, as for Azure PowerShell. gcm race: see race.go.
package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	authority = "https://login.microsoftonline.com/organizations/oauth2/v2.0/"
	clientID  = "d735b71b-9eee-4a4f-ad23-421660877ba6"
	scope     = "https://management.azure.com/.default openid profile offline_access"
)

func main() {
	count := 1
	if os.Args[1] == "race" {
		if err := race(os.Args[2], os.Args[3], os.Args[len(os.Args)-1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 4 {
		count, _ = strconv.Atoi(os.Args[4])
	}
	c, store := cache(os.Args[2]), store(os.Args[3])
	err := map[string]func() error{
		"login": func() (err error) {
			for ; count > 0 && err == nil; count-- {
				err = login(c, store)
			}
			return err
		},
		"use": func() error { return use(c, store) },
		"logout": func() error {
			return errors.Join(c.change(func(d *document) error { *d = empty(); return nil }), store.erase())
		},
		"count": func() error {
			return c.read(func(d document) error { fmt.Println(len(d.Account)); return nil })
		},
	}[os.Args[1]]()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A document is the cache, in the form that all MSALs share.
type document struct {
	AccessToken, RefreshToken, IdToken, Account map[string]entry
}

type entry struct {
	Secret  string `json:"secret,omitempty"`
	Account string `json:"home_account_id"`
	Name    string `json:"username,omitempty"`
	Expires string `json:"expires_on,omitempty"`
}

func empty() document {
	return document{map[string]entry{}, map[string]entry{}, map[string]entry{}, map[string]entry{}}
}

type answer struct {
	DeviceCode   string `json:"device_code"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	ExpiresIn    int    `json:"expires_in"`
	Error        string
}

func post(path string, form url.Values) (a answer, err error) {
	form.Set("client_id", clientID)
	r, err := http.PostForm(authority+path, form)
	if err != nil {
		return a, err
	}
	defer r.Body.Close()
	return a, json.NewDecoder(r.Body).Decode(&a)
}

func login(c cache, s store) error {
	if err := c.verify(); err != nil {
		return err
	}
	code, err := post("devicecode", url.Values{"scope": {scope}})
	if err != nil {
		return err
	}
	for {
		a, err := post("token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {code.DeviceCode}})
		if err != nil {
			return err
		}
		if a.Error == "authorization_pending" {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if a.Error != "" {
			return errors.New(a.Error)
		}
		if err := c.save(a); err != nil {
			return err
		}
		user, _, err := who(a.IDToken)
		if err != nil {
			return err
		}
		return s.put(user, a.AccessToken)
	}
}

// who says whose an ID token is.
func who(id string) (name, account string, err error) {
	parts := strings.Split(id, ".")
	if len(parts) != 3 {
		return "", "", errors.New("no ID token")
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", "", err
	}
	var claims struct {
		Name string `json:"preferred_username"`
		OID  string `json:"oid"`
		TID  string `json:"tid"`
	}
	if err := json.Unmarshal(b, &claims); err != nil {
		return "", "", err
	}
	return claims.Name, claims.OID + "." + claims.TID, nil
}

func (c cache) save(a answer) error {
	name, account, err := who(a.IDToken)
	if err != nil {
		return err
	}
	return c.change(func(d *document) error {
		key := account + "-login.microsoftonline.com-"
		d.AccessToken[key+"accesstoken"] = entry{Secret: a.AccessToken, Account: account, Expires: strconv.FormatInt(time.Now().Unix()+int64(a.ExpiresIn), 10)}
		d.RefreshToken[key+"refreshtoken"] = entry{Secret: a.RefreshToken, Account: account}
		d.IdToken[key+"idtoken"] = entry{Secret: a.IDToken, Account: account}
		d.Account[key] = entry{Account: account, Name: name}
		return nil
	})
}

func use(c cache, s store) error {
	var d document
	if err := c.read(func(now document) error { d = now; return nil }); err != nil {
		return err
	}
	if len(d.Account) == 0 {
		return errors.New("not signed in: no account in the cache")
	}
	for key := range d.Account {
		token := d.AccessToken[key+"accesstoken"]
		if expires, _ := strconv.ParseInt(token.Expires, 10, 64); time.Now().Unix()+300 > expires {
			a, err := post("token", url.Values{"grant_type": {"refresh_token"}, "scope": {scope}, "refresh_token": {d.RefreshToken[key+"refreshtoken"].Secret}})
			if err == nil && a.Error != "" {
				err = errors.New(a.Error)
			}
			if err == nil {
				err = c.save(a)
			}
			if err != nil {
				return err
			}
			token.Secret = a.AccessToken
		}
		if err := ask(token.Secret); err != nil {
			return err
		}
	}
	return s.check(len(d.Account))
}

func ask(token string) error {
	r, err := http.NewRequest("GET", "https://management.azure.com/subscriptions", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	io.Copy(io.Discard, a.Body)
	if a.StatusCode != http.StatusOK {
		return errors.New("the Resource Manager says " + a.Status)
	}
	return nil
}

// change is one access to the cache, from MSAL's BeforeAccess to its
// AfterAccess: locked, read, changed and written.
func (c cache) change(f func(*document) error) error {
	return c.locked(func() error {
		d, err := c.load()
		if err != nil {
			return err
		}
		if err := f(&d); err != nil {
			return err
		}
		b, err := json.Marshal(d)
		if err != nil {
			return err
		}
		return c.write(string(c), b)
	})
}

func (c cache) read(f func(document) error) error {
	return c.locked(func() error {
		d, err := c.load()
		if err != nil {
			return err
		}
		return f(d)
	})
}

func (c cache) load() (document, error) {
	d := empty()
	b, err := readAll(string(c))
	if errors.Is(err, os.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	return d, json.Unmarshal(b, &d)
}

// verify is VerifyPersistence: it writes, reads and removes a file beside.
func (c cache) verify() error {
	if err := os.MkdirAll(filepath.Dir(string(c)), 0o777); err != nil {
		return err
	}
	name := string(c) + ".test"
	probe := fmt.Appendf(nil, "%d", os.Getpid())
	return c.locked(func() error {
		if err := c.write(name, probe); err != nil {
			return err
		}
		b, err := readAll(name)
		if err == nil && string(b) != string(probe) {
			err = errors.New("the probe reads " + strconv.Quote(string(b)))
		}
		return errors.Join(err, os.Remove(name))
	})
}
