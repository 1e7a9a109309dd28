package entra

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Secret is something the stand-in gave out or was shown, that may lie
// nowhere but on the filesystem. Value is what is random of it.
type Secret struct {
	Kind  string // access, refresh, id, client
	User  string
	Value string
}

// Secrets are all so far.
func (s *Server) Secrets() []Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.issued)
}

// Plant makes up a secret that a test gives to a client itself: a client
// secret, a password, a token to paste. The services accept it as user's. It
// begins with prefix: there are programs that know tokens by that.
func (s *Server) Plant(kind, user, prefix string) string {
	value := prefix + letters(36)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(kind, user, value, &token{kind: kind, user: user, expires: time.Now().Add(24 * time.Hour)})
	return value
}

// A token is one that the stand-in knows again.
type token struct {
	kind, user, client, scope string
	expires                   time.Time
	replaced                  time.Time // a refresh token's, by the next
	family                    *family
}

// A family is what came of one login.
type family struct{ revoked bool }

// keep remembers a token; the caller holds s.mu.
func (s *Server) keep(kind, user, value string, t *token) {
	s.tokens[value] = t
	if i := strings.LastIndexByte(value, '.'); i >= 0 && kind != "refresh" {
		value = value[i+1:] // the signature: the rest is not random
	}
	s.issued = append(s.issued, Secret{kind, user, value})
}

// valid says whose a token is, if it may be used.
func (s *Server) valid(kind, value string) (user string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tokens[value]
	if t == nil || t.kind != kind || time.Now().After(t.expires) || t.family != nil && t.family.revoked {
		return "", false
	}
	return t.user, true
}

// revoke makes a token worthless.
func (s *Server) revoke(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, value)
}

// A grant is what leads to tokens.
type grant struct {
	how, user, client, scope, issuer string
	signedIn                         bool // a user is, rather than a program
	family                           *family
}

// issue makes the tokens of a grant and the reply with them; the caller holds
// s.mu. An access token is accepted for an hour, whatever its client is told
// of its life, so that nobody depends on the clock.
func (s *Server) issue(g grant) reply {
	now := time.Now()
	claims := map[string]any{
		"iss": g.issuer, "aud": audience(g.scope), "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(s.lifetime).Unix(),
		"jti": random(16), "sub": "sub-" + g.user, "oid": oid(g.user), "tid": Tenant, "appid": g.client, "ver": "1.0",
	}
	if g.signedIn {
		claims["upn"], claims["unique_name"], claims["name"] = g.user, g.user, g.user
	}
	access := s.sign(claims)
	body := map[string]any{"token_type": "Bearer", "scope": g.scope, "expires_in": int(s.lifetime.Seconds()),
		"ext_expires_in": int(s.lifetime.Seconds()), "access_token": access}
	hour := now.Add(time.Hour)
	s.keep("access", g.user, access, &token{"access", g.user, g.client, g.scope, hour, time.Time{}, g.family})
	if g.signedIn {
		claims["aud"], claims["jti"], claims["preferred_username"], claims["ver"] = g.client, random(16), g.user, "2.0"
		id := s.sign(claims)
		s.keep("id", g.user, id, &token{"id", g.user, g.client, g.scope, hour, time.Time{}, g.family})
		refresh := "1." + random(700)
		s.keep("refresh", g.user, refresh, &token{"refresh", g.user, g.client, g.scope, now.Add(24 * time.Hour), time.Time{}, g.family})
		body["id_token"], body["refresh_token"], body["foci"] = id, refresh, "1"
		body["client_info"] = encode(map[string]any{"uid": oid(g.user), "utid": Tenant})
	}
	return reply{body: body, grant: g.how, user: g.user}
}

// sign makes a JSON Web Token.
func (s *Server) sign(claims map[string]any) string {
	text := encode(map[string]any{"typ": "JWT", "alg": "RS256", "kid": "1"}) + "." + encode(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.signing, crypto.SHA256, sum[:])
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// oid makes an object's ID out of its name.
func oid(name string) string {
	h := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%x-%x-4%x-8%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])[:36]
}

// audience is the resource that a scope belongs to.
func audience(scope string) string {
	first, _, _ := strings.Cut(scope, " ")
	if i := strings.LastIndexByte(first, '/'); i > len("https://") {
		return first[:i]
	}
	return first
}
