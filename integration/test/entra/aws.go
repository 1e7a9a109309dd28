package entra

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// Names of Amazon's services in the region that the tests are in.
const (
	AWSRegion = "eu-west-1"
	awsOIDC   = "oidc." + AWSRegion + ".amazonaws.com"
	awsPortal = "portal.sso." + AWSRegion + ".amazonaws.com"
	awsSTS    = "sts." + AWSRegion + ".amazonaws.com"
)

// aws has single sign-on by device code, the keys of a role for who signed in,
// and whose they are.
func (s *Server) aws(handle func(string, func(*http.Request) reply)) {
	handle("POST "+awsOIDC+"/client/register", func(*http.Request) reply {
		now := time.Now()
		s.mu.Lock()
		defer s.mu.Unlock()
		secret := random(100)
		s.keep("client", "aws", secret, &token{kind: "client", user: "aws", expires: now.Add(time.Hour)})
		return reply{body: map[string]any{"clientId": "aws", "clientSecret": secret,
			"clientIdIssuedAt": now.Unix(), "clientSecretExpiresAt": now.Add(90 * 24 * time.Hour).Unix()}}
	})
	handle("POST "+awsOIDC+"/device_authorization", func(*http.Request) reply {
		s.mu.Lock()
		defer s.mu.Unlock()
		code, user := random(30), s.nextUser()
		s.devices[code] = &device{user: user}
		s.issued = append(s.issued, Secret{"device", user, code})
		return reply{user: user, body: map[string]any{"deviceCode": code, "userCode": "TOKE-NFSX", "expiresIn": 600, "interval": 1,
			"verificationUri": "https://device.sso.example/", "verificationUriComplete": "https://device.sso.example/?user_code=TOKE-NFSX"}}
	})
	handle("POST "+awsOIDC+"/token", s.awsToken)
	handle("GET "+awsPortal+"/federation/credentials", func(r *http.Request) reply {
		user, ok := s.valid("access", r.Header.Get("X-Amz-Sso_bearer_token"))
		if !ok {
			return awsError(http.StatusUnauthorized, "UnauthorizedException", "Session token not found or invalid")
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		key, session := letters(40), random(300)
		hour := time.Now().Add(time.Hour)
		s.keep("key", user, key, &token{kind: "key", user: user, expires: hour})
		s.keep("session", user, session, &token{kind: "session", user: user, expires: hour})
		return reply{user: user, grant: "role", body: map[string]any{"roleCredentials": map[string]any{
			"accessKeyId": "ASIA" + letters(16), "secretAccessKey": key, "sessionToken": session,
			"expiration": time.Now().Add(s.lifetime).UnixMilli()}}}
	})
	handle("POST "+awsPortal+"/logout", func(r *http.Request) reply {
		s.revoke(r.Header.Get("X-Amz-Sso_bearer_token"))
		return reply{body: map[string]any{}}
	})
	handle("POST "+awsSTS+"/", func(r *http.Request) reply {
		// A role's keys come with a token, long-lived ones without. What was signed
		// with them is not checked.
		user, ok := s.valid("session", r.Header.Get("X-Amz-Security-Token"))
		who := "assumed-role/tests/" + user
		if !ok {
			_, id, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
			id, _, _ = strings.Cut(id, "/")
			user, ok = s.valid("access key", id)
			who = "user/" + user
		}
		if !ok {
			return awsError(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid")
		}
		return reply{user: user, header: http.Header{"Content-Type": {"text/xml"}},
			body: `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>` +
				`<Arn>arn:aws:sts::123456789012:` + who + `</Arn><UserId>AROA:` + user + `</UserId><Account>123456789012</Account>` +
				`</GetCallerIdentityResult></GetCallerIdentityResponse>`}
	})
}

// AccessKey is a long-lived key of user's, and its ID.
func (s *Server) AccessKey(user string) (id, key string) {
	id = "AKIA" + letters(16)
	s.mu.Lock()
	s.tokens[id] = &token{kind: "access key", user: user, expires: time.Now().Add(24 * time.Hour)} // no secret itself
	s.mu.Unlock()
	return id, s.Plant("key", user, "")
}

func awsError(status int, name, text string) reply {
	return reply{status: status, refused: text, header: http.Header{"X-Amzn-Errortype": {name}},
		body: map[string]any{"error": name, "error_description": text, "message": text}}
}

func (s *Server) awsToken(r *http.Request) reply {
	var asked struct{ GrantType, DeviceCode, RefreshToken string }
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return awsError(http.StatusBadRequest, "InvalidRequestException", err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	user, how := "", "refresh_token"
	if asked.GrantType == "refresh_token" {
		t := s.tokens[asked.RefreshToken]
		if t == nil || t.kind != "refresh" || !t.replaced.IsZero() && time.Since(t.replaced) > s.Grace {
			return awsError(http.StatusBadRequest, "InvalidGrantException", "the refresh token is not valid")
		}
		if t.replaced.IsZero() {
			t.replaced = time.Now()
		}
		user = t.user
	} else {
		d := s.devices[asked.DeviceCode]
		switch {
		case d == nil || d.used:
			return awsError(http.StatusBadRequest, "InvalidGrantException", "no such code")
		case !d.asked:
			d.asked = true
			return awsError(http.StatusBadRequest, "AuthorizationPendingException", "not signed in yet")
		}
		d.used = true
		user, how = d.user, "device_code"
	}
	access, refresh := random(300), random(300)
	s.keep("access", user, access, &token{kind: "access", user: user, expires: time.Now().Add(time.Hour)})
	s.keep("refresh", user, refresh, &token{kind: "refresh", user: user, expires: time.Now().Add(24 * time.Hour)})
	return reply{user: user, grant: how, body: map[string]any{"accessToken": access, "refreshToken": refresh,
		"tokenType": "Bearer", "expiresIn": int(s.lifetime.Seconds())}}
}
