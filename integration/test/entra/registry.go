package entra

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// registry is one of container images that signs in with a password and then
// with an identity token, which is a refresh token, as Azure's does.
func (s *Server) registry(name string, handle func(string, func(*http.Request) reply)) {
	guarded := func(pattern string, body func() (any, http.Header)) {
		handle(pattern, func(r *http.Request) reply {
			user, ok := s.valid("access", bearer(r))
			if !ok {
				a := refuse(http.StatusUnauthorized, "unauthorized", "no valid token")
				a.body = map[string]any{"errors": []any{map[string]any{"code": "UNAUTHORIZED", "message": "authentication required"}}}
				a.header = http.Header{
					"Www-Authenticate":                {`Bearer realm="https://` + name + `/token",service="` + name + `",scope="repository:app:pull"`},
					"Docker-Distribution-Api-Version": {"registry/2.0"}}
				return a
			}
			b, header := body()
			return reply{user: user, body: b, header: header}
		})
	}
	guarded("GET "+name+"/v2/{$}", func() (any, http.Header) {
		return map[string]any{}, http.Header{"Docker-Distribution-Api-Version": {"registry/2.0"}}
	})
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
		"config": map[string]any{"mediaType": "application/vnd.docker.container.image.v1+json", "size": len(config), "digest": digest(config)},
		"layers": []any{},
	})
	if err != nil {
		panic("internal error: " + err.Error())
	}
	guarded("GET "+name+"/v2/app/manifests/{reference}", func() (any, http.Header) {
		return string(manifest), http.Header{"Docker-Content-Digest": {digest(string(manifest))},
			"Content-Type": {"application/vnd.docker.distribution.manifest.v2+json"}}
	})
	guarded("GET "+name+"/v2/app/blobs/{digest}", func() (any, http.Header) {
		return config, http.Header{"Content-Type": {"application/octet-stream"}}
	})
	handle("GET "+name+"/token", s.registryToken)
	handle("POST "+name+"/token", s.registryToken)
}

func digest(text string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))) }

// registryToken gives a token for a password, or for an identity token.
func (s *Server) registryToken(r *http.Request) reply {
	user, password, basic := r.BasicAuth()
	how := "password"
	if !basic {
		user, password, how = r.FormValue("username"), r.FormValue("password"), r.FormValue("grant_type")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kind := "password"
	if how == "refresh_token" {
		kind, password = "refresh", r.FormValue("refresh_token")
	}
	t := s.tokens[password]
	if t == nil || t.kind != kind || kind == "password" && t.user != user {
		return refuse(http.StatusUnauthorized, "unauthorized", "wrong "+kind)
	}
	access := s.sign(map[string]any{"iss": Registry, "sub": t.user, "jti": random(16), "exp": time.Now().Add(time.Hour).Unix()})
	s.keep("access", t.user, access, &token{kind: "access", user: t.user, expires: time.Now().Add(time.Hour)})
	body := map[string]any{"token": access, "access_token": access, "expires_in": 3600}
	if kind == "password" && (r.FormValue("offline_token") == "true" || strings.Contains(r.FormValue("access_type"), "offline")) {
		refresh := random(200)
		s.keep("refresh", t.user, refresh, &token{kind: "refresh", user: t.user, expires: time.Now().Add(24 * time.Hour)})
		body["refresh_token"] = refresh
	}
	return reply{body: body, grant: how, user: t.user}
}
