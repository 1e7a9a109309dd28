package entra

import (
	"encoding/base64"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A device waits for its user to sign in elsewhere. The user does so between
// its first question and its second.
type device struct {
	user, client, scope, issuer string
	asked                       bool
	used                        bool
}

// entra has the paths that Entra ID has, with v2.0 and without.
func (s *Server) entra(handle func(string, func(*http.Request) reply)) {
	handle("GET /common/discovery/instance", s.instance)
	for _, v := range []string{"", "/v2.0"} {
		handle("GET /{tenant}"+v+"/.well-known/openid-configuration", s.configuration)
		handle("POST /{tenant}/oauth2"+v+"/devicecode", s.deviceCode)
		handle("POST /{tenant}/oauth2"+v+"/token", s.token)
		handle("GET /{tenant}/discovery"+v+"/keys", s.keys)
	}
}

func (s *Server) instance(r *http.Request) reply {
	return reply{body: map[string]any{
		"tenant_discovery_endpoint": base(r) + "/" + Tenant + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata": []any{map[string]any{
			"preferred_network": Login, "preferred_cache": "login.windows.net",
			"aliases": []string{Login, "login.windows.net", "login.microsoft.com", "sts.windows.net"},
		}},
	}}
}

func (s *Server) configuration(r *http.Request) reply {
	tenant := base(r) + "/" + r.PathValue("tenant")
	v := ""
	if strings.Contains(r.URL.Path, "/v2.0/") {
		v = "/v2.0"
	}
	return reply{body: map[string]any{
		"issuer":                                issuer(r),
		"authorization_endpoint":                tenant + "/oauth2" + v + "/authorize",
		"token_endpoint":                        tenant + "/oauth2" + v + "/token",
		"device_authorization_endpoint":         tenant + "/oauth2" + v + "/devicecode",
		"jwks_uri":                              tenant + "/discovery" + v + "/keys",
		"response_types_supported":              []string{"code", "id_token"},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"scopes_supported":                      []string{"openid", "profile", "email", "offline_access"},
		"tenant_region_scope":                   "EU",
	}}
}

// issuer is the tenant's own, also for those who asked for any tenant.
func issuer(r *http.Request) string { return base(r) + "/" + Tenant + "/v2.0" }

func (s *Server) keys(*http.Request) reply {
	public := s.signing.PublicKey
	return reply{body: map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "use": "sig", "kid": "1", "alg": "RS256",
		"n": base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()),
	}}}}
}

func (s *Server) deviceCode(r *http.Request) reply {
	client := r.PostFormValue("client_id")
	if client == "" {
		return refuse(http.StatusBadRequest, "invalid_request", "no client_id")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	code := random(48)
	user := s.nextUser()
	s.devices[code] = &device{user: user, client: client, scope: scope(r), issuer: issuer(r)}
	s.issued = append(s.issued, Secret{"device", user, code})
	return reply{user: user, body: map[string]any{
		"device_code": code, "user_code": "TOKENFS" + strconv.Itoa(s.users), "verification_uri": "https://microsoft.com/devicelogin",
		"expires_in": 900, "interval": 1, "message": "The stand-in signs " + user + " in.",
	}}
}

// SignedIn are the tokens of somebody who has just signed in by other means,
// for a client that is given its tokens.
func (s *Server) SignedIn(client, scope string) (id, refresh string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.issue(grant{how: "elsewhere", user: s.nextUser(), client: client, scope: scope, issuer: Issuer, signedIn: true, family: &family{}})
	body := a.body.(map[string]any)
	return body["id_token"].(string), body["refresh_token"].(string)
}

// Issuer is who signs under Entra's real name.
const Issuer = "https://" + Login + "/" + Tenant + "/v2.0"

// nextUser is another for every login; the caller holds s.mu.
func (s *Server) nextUser() string {
	s.users++
	return "user" + strconv.Itoa(s.users) + "@example.org"
}

func scope(r *http.Request) string {
	if v := r.PostFormValue("scope"); v != "" {
		return v
	}
	return r.PostFormValue("resource")
}

func (s *Server) token(r *http.Request) (a reply) {
	how := r.PostFormValue("grant_type")
	defer func() { a.grant = how[strings.LastIndexByte(how, ':')+1:] }()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch how {
	case "client_credentials":
		return s.program(r)
	case "urn:ietf:params:oauth:grant-type:device_code", "device_code":
		return s.signIn(r)
	case "refresh_token":
		return s.refresh(r)
	}
	return refuse(http.StatusBadRequest, "unsupported_grant_type", "the stand-in does not grant "+how)
}

// program signs a service principal in, by the secret that was planted for it.
func (s *Server) program(r *http.Request) reply {
	client, secret := r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	if id, password, ok := r.BasicAuth(); ok {
		client, secret = id, password
	}
	if t := s.tokens[secret]; t == nil || t.kind != "client" || t.user != client {
		return refuse(http.StatusUnauthorized, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
	}
	return s.issue(grant{user: client, client: client, scope: scope(r), issuer: issuer(r), family: &family{}})
}

func (s *Server) signIn(r *http.Request) reply {
	d := s.devices[r.PostFormValue("device_code")]
	if d == nil {
		d = s.devices[r.PostFormValue("code")] // as the first version of the endpoint has it
	}
	switch {
	case d == nil || d.used || d.client != r.PostFormValue("client_id"):
		return refuse(http.StatusBadRequest, "invalid_grant", "AADSTS70000: The device code is not valid.")
	case !d.asked:
		d.asked = true
		return refuse(http.StatusBadRequest, "authorization_pending", "AADSTS70016: The user has not signed in yet.")
	}
	d.used = true
	return s.issue(grant{user: d.user, client: d.client, scope: d.scope, issuer: d.issuer, signedIn: true, family: &family{}})
}

// refresh replaces a refresh token by the next. An old one that turns up when
// its time is over is taken for stolen, and ends what came of the whole login.
func (s *Server) refresh(r *http.Request) reply {
	t := s.tokens[r.PostFormValue("refresh_token")]
	switch {
	case t == nil || t.kind != "refresh" || t.family.revoked:
		return refuse(http.StatusBadRequest, "invalid_grant", "AADSTS70000: The refresh token is not valid.")
	case !t.replaced.IsZero() && time.Since(t.replaced) > s.Grace:
		t.family.revoked = true
		return refuse(http.StatusBadRequest, "invalid_grant", "AADSTS70000: The refresh token was used before.")
	}
	if t.replaced.IsZero() {
		t.replaced = time.Now()
	}
	wanted := scope(r)
	if wanted == "" {
		wanted = t.scope
	}
	return s.issue(grant{user: t.user, client: t.client, scope: wanted, issuer: issuer(r), signedIn: true, family: t.family})
}
