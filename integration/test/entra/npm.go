package entra

import (
	"net/http"
	"time"
)

// npm has the login of npm's registry by browser, who is signed in, and the
// end of a token.
func (s *Server) npm(handle func(string, func(*http.Request) reply)) {
	handle("POST "+NPM+"/-/v1/login", func(r *http.Request) reply {
		s.mu.Lock()
		defer s.mu.Unlock()
		code, user := random(30), s.nextUser()
		s.devices[code] = &device{user: user}
		return reply{user: user, body: map[string]any{"loginUrl": base(r) + "/login/" + code, "doneUrl": base(r) + "/-/v1/done?code=" + code}}
	})
	handle("GET "+NPM+"/-/v1/done", func(r *http.Request) reply {
		s.mu.Lock()
		defer s.mu.Unlock()
		d := s.devices[r.FormValue("code")]
		switch {
		case d == nil || d.used:
			return refuse(http.StatusNotFound, "not_found", "no such login")
		case !d.asked:
			d.asked = true
			return reply{status: http.StatusAccepted, header: http.Header{"Retry-After": {"1"}}, body: map[string]any{}}
		}
		d.used = true
		access := "npm_" + letters(36)
		s.keep("access", d.user, access, &token{kind: "access", user: d.user, expires: time.Now().Add(24 * time.Hour)})
		return reply{user: d.user, grant: "web", body: map[string]any{"token": access}}
	})
	guarded := func(pattern string, answer func(r *http.Request, user string) reply) {
		handle(pattern, func(r *http.Request) reply {
			user, ok := s.valid("access", bearer(r))
			if !ok {
				return refuse(http.StatusUnauthorized, "unauthorized", "no valid token")
			}
			return answer(r, user)
		})
	}
	guarded("GET "+NPM+"/-/whoami", func(_ *http.Request, user string) reply {
		return reply{user: user, body: map[string]any{"username": user}}
	})
	guarded("DELETE "+NPM+"/-/user/token/{token}", func(r *http.Request, user string) reply {
		s.revoke(r.PathValue("token"))
		return reply{user: user, body: map[string]any{"ok": true}}
	})
}
