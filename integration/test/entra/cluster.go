package entra

import "net/http"

// cluster is a Kubernetes API server that takes the ID tokens that were issued,
// and has one namespace.
func (s *Server) cluster(handle func(string, func(*http.Request) reply)) {
	handle("GET "+Cluster+"/api/v1/namespaces", func(r *http.Request) reply {
		user, ok := s.valid("id", bearer(r))
		if !ok {
			return reply{status: http.StatusUnauthorized, refused: "no valid token", body: map[string]any{
				"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "Unauthorized", "reason": "Unauthorized", "code": 401}}
		}
		return reply{user: user, body: map[string]any{"kind": "NamespaceList", "apiVersion": "v1", "metadata": map[string]any{},
			"items": []any{map[string]any{"metadata": map[string]any{"name": "tests"}}}}}
	})
}
