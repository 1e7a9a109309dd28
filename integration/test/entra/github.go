package entra

import (
	"crypto/rand"
	"net/http"
	"strings"
	"time"
)

// github has what gh asks for at a login, and who is signed in.
func (s *Server) github(handle func(string, func(*http.Request) reply)) {
	handle("POST "+GitHub+"/login/device/code", func(r *http.Request) reply {
		s.mu.Lock()
		defer s.mu.Unlock()
		code, user := random(30), s.nextUser()
		s.devices[code] = &device{user: user, client: r.PostFormValue("client_id"), scope: r.PostFormValue("scope")}
		s.issued = append(s.issued, Secret{"device", user, code})
		return reply{user: user, body: map[string]any{"device_code": code, "user_code": "TOKE-NFSX",
			"verification_uri": "https://" + GitHub + "/login/device", "expires_in": 900, "interval": 1}}
	})
	handle("POST "+GitHub+"/login/oauth/access_token", func(r *http.Request) reply {
		s.mu.Lock()
		defer s.mu.Unlock()
		d := s.devices[r.PostFormValue("device_code")]
		switch {
		case d == nil || d.used:
			return reply{refused: "no such code", body: map[string]any{"error": "incorrect_device_code"}}
		case !d.asked: // GitHub says so with status 200
			d.asked = true
			return reply{refused: "not signed in yet", body: map[string]any{"error": "authorization_pending"}}
		}
		d.used = true
		access := "gho_" + letters(36)
		s.keep("access", d.user, access, &token{kind: "access", user: d.user, expires: time.Now().Add(24 * time.Hour)})
		return reply{user: d.user, grant: "device_code",
			body: map[string]any{"access_token": access, "token_type": "bearer", "scope": strings.ReplaceAll(d.scope, " ", ",")}}
	})
	account := func(answer func(login string) any) func(*http.Request) reply {
		return func(r *http.Request) reply {
			user, ok := s.valid("access", bearer(r))
			if !ok {
				return reply{status: http.StatusUnauthorized, refused: "no valid token", body: map[string]any{"message": "Bad credentials"}}
			}
			login, _, _ := strings.Cut(user, "@")
			return reply{user: user, body: answer(login), header: http.Header{
				"X-Oauth-Scopes": {"repo, read:org, gist"}, "X-Accepted-Oauth-Scopes": {""}}}
		}
	}
	handle("GET api."+GitHub+"/{$}", account(func(string) any { return map[string]any{"current_user_url": "https://api." + GitHub + "/user"} }))
	handle("GET api."+GitHub+"/user", account(func(login string) any { return map[string]any{"login": login, "id": 1, "type": "User"} }))
	handle("POST api."+GitHub+"/graphql", account(func(login string) any {
		return map[string]any{"data": map[string]any{"viewer": map[string]any{"login": login}}}
	}))
}

// letters are random ones, as in tokens of GitHub and npm.
func letters(n int) string {
	s := ""
	for len(s) < n {
		s += rand.Text()
	}
	return s[:n]
}
