package entra

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// hosts are the names that the proxy answers for.
var hosts = append([]string{Login, Manager, Graph, GitHub, "api." + GitHub, NPM, Cluster, awsOIDC, awsPortal, awsSTS}, registries...)

// connect connects a client to the services, whichever of them it asks for.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) {
	host, port, err := net.SplitHostPort(r.Host)
	if r.Method != http.MethodConnect || err != nil || port != "443" || !slices.Contains(hosts, strings.ToLower(host)) {
		s.note(Request{Host: r.Host, Method: r.Method, Path: r.URL.Path, Status: http.StatusForbidden,
			Refused: "the stand-in does not stand for this name"})
		http.Error(w, "the stand-in does not stand for this name", http.StatusForbidden)
		return
	}
	service, err := net.Dial("tcp", s.Direct())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer service.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		io.Copy(service, buffered)
		service.(*net.TCPConn).CloseWrite()
	})
	io.Copy(client, service)
	client.Close()
	both.Wait()
}
