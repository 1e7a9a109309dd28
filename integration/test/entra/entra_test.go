package entra

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// start starts a stand-in, and a client that takes it for the real services.
func start(t *testing.T) (*Server, *http.Client) {
	t.Helper()
	s, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ca, err := os.ReadFile(s.CA())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	proxy, err := url.Parse(s.Proxy())
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return s, &http.Client{Transport: transport, Timeout: time.Minute}
}

type answer struct {
	Device  string `json:"device_code"`
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Error   string
}

func post(t *testing.T, c *http.Client, path string, form url.Values) (a answer) {
	t.Helper()
	r, err := c.PostForm("https://"+Login+"/organizations/oauth2/v2.0/"+path, form)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a
}

func signIn(t *testing.T, c *http.Client) answer {
	t.Helper()
	code := post(t, c, "devicecode", url.Values{"client_id": {"app"}, "scope": {"https://" + Manager + "/.default"}}).Device
	form := url.Values{"client_id": {"app"}, "grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {code}}
	if a := post(t, c, "token", form); a.Error != "authorization_pending" {
		t.Fatalf("before the user signed in: %q", a.Error)
	}
	a := post(t, c, "token", form)
	if a.Access == "" || a.Refresh == "" {
		t.Fatalf("no tokens: %q", a.Error)
	}
	if again := post(t, c, "token", form); again.Error != "invalid_grant" {
		t.Errorf("a device code works twice: %q", again.Error)
	}
	return a
}

func status(t *testing.T, c *http.Client, token string) int {
	t.Helper()
	r, err := http.NewRequest("GET", "https://"+Manager+"/subscriptions", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	a, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	io.Copy(io.Discard, a.Body)
	return a.StatusCode
}

func TestSignIn(t *testing.T) {
	s, c := start(t)
	a := signIn(t, c)
	if got := status(t, c, a.Access); got != http.StatusOK {
		t.Errorf("the token that was issued: %d", got)
	}
	for _, wrong := range []string{"", "made up", a.Refresh, a.Access + "x"} {
		if got := status(t, c, wrong); got != http.StatusUnauthorized {
			t.Errorf("another token: %d", got)
		}
	}
	secrets := map[string]bool{}
	for _, secret := range s.Secrets() {
		secrets[secret.Value] = true
	}
	if !secrets[a.Refresh] || !secrets[a.Access[strings.LastIndexByte(a.Access, '.')+1:]] {
		t.Error("the secrets that were given out are not all remembered")
	}
}

func renew(t *testing.T, c *http.Client, refresh string) answer {
	t.Helper()
	return post(t, c, "token", url.Values{"client_id": {"app"}, "grant_type": {"refresh_token"}, "refresh_token": {refresh}})
}

func TestRefreshTokensRotate(t *testing.T) {
	s, c := start(t)
	first := signIn(t, c)
	second := renew(t, c, first.Refresh)
	if second.Access == "" || second.Refresh == first.Refresh {
		t.Fatalf("not renewed: %q", second.Error)
	}
	if third := renew(t, c, first.Refresh); third.Error != "invalid_grant" {
		t.Errorf("an old refresh token works: %q", third.Error)
	}
	if got := status(t, c, second.Access); got != http.StatusUnauthorized {
		t.Errorf("the login of a refresh token that was used twice goes on: %d", got)
	}

	s.Grace = time.Minute
	first = signIn(t, c)
	for range 2 {
		if renew(t, c, first.Refresh).Error != "" {
			t.Error("within its grace, an old refresh token does not work")
		}
	}
}

func TestPrograms(t *testing.T) {
	s, c := start(t)
	form := url.Values{"client_id": {"program"}, "client_secret": {s.Plant("client", "program", "")}, "grant_type": {"client_credentials"}}
	if a := post(t, c, "token", form); a.Access == "" || status(t, c, a.Access) != http.StatusOK {
		t.Errorf("with its secret: %q", a.Error)
	}
	form.Set("client_id", "another")
	if a := post(t, c, "token", form); a.Error != "invalid_client" {
		t.Errorf("with another's secret: %q", a.Error)
	}
}

func TestNothingLeavesTheMachine(t *testing.T) {
	s, c := start(t)
	if r, err := c.Get("https://elsewhere.example/"); err == nil {
		r.Body.Close()
		t.Error("a name that it does not stand for is answered")
	}
	if all := s.Requests(); len(all) != 1 || all[0].Refused == "" {
		t.Errorf("not noted: %+v", all)
	}
}
