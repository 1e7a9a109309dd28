package entra

import "net/http"

const subscription = "5b5c0000-0000-4000-8000-00000000a23e"

// manager has what Azure Resource Manager is asked for by a login.
func (s *Server) manager(handle func(string, func(*http.Request) reply)) {
	guarded := func(pattern string, body any) {
		handle(pattern, func(r *http.Request) reply {
			user, ok := s.valid("access", bearer(r))
			if !ok {
				return reply{status: http.StatusUnauthorized, refused: "no valid token",
					body: map[string]any{"error": map[string]any{"code": "ExpiredAuthenticationToken", "message": "no valid token"}}}
			}
			return reply{body: body, user: user}
		})
	}
	value := func(v map[string]any) any { return map[string]any{"value": []any{v}} }
	guarded("GET /tenants", value(map[string]any{"id": "/tenants/" + Tenant, "tenantId": Tenant,
		"displayName": "Tests", "defaultDomain": "example.org", "tenantType": "AAD"}))
	guarded("GET /subscriptions", value(map[string]any{"id": "/subscriptions/" + subscription, "subscriptionId": subscription,
		"displayName": "Tests", "state": "Enabled", "tenantId": Tenant, "authorizationSource": "RoleBased",
		"subscriptionPolicies": map[string]any{}}))
	guarded("GET /subscriptions/{subscription}/resourcegroups", value(map[string]any{
		"id": "/subscriptions/" + subscription + "/resourceGroups/tests", "name": "tests", "location": "westeurope",
		"properties": map[string]any{"provisioningState": "Succeeded"}}))
}
