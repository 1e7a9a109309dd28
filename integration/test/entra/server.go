package entra

import (
	"crypto/rsa"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Names of the services.
const (
	Login    = "login.microsoftonline.com"
	Manager  = "management.azure.com"
	Graph    = "graph.microsoft.com"
	GitHub   = "github.com"
	NPM      = "registry.npmjs.org"
	Registry = "registry.example" // of container images
	Cluster  = "cluster.example"  // a Kubernetes API server
)

// registries are Registry and eight others, each named by a digit before it.
var registries = func() []string {
	names := []string{Registry}
	for i := range 8 {
		names = append(names, strconv.Itoa(i)+"."+Registry)
	}
	return names
}()

// Tenant is the only one there is.
const Tenant = "7e4a1f00-0000-4000-8000-00000000e17a"

// A Server is a stand-in that runs.
type Server struct {
	Grace time.Duration // for which a replaced refresh token still works

	dir      string
	listener net.Listener // for TLS
	proxy    net.Listener
	servers  []*http.Server
	ca       authority
	signing  *rsa.PrivateKey

	mu       sync.Mutex
	lifetime time.Duration
	devices  map[string]*device
	tokens   map[string]*token
	issued   []Secret
	requests []Request
	users    int
}

// A Request is one that a client made.
type Request struct {
	Host, Method, Path string
	Grant              string // how a token was asked for
	User               string // who asked, once known
	Status             int
	Refused            string // why
}

// New starts a stand-in that keeps its certificates in dir.
func New(dir string) (*Server, error) {
	s := &Server{dir: dir, lifetime: time.Hour, devices: map[string]*device{}, tokens: map[string]*token{}}
	err := s.start()
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("start the stand-in: %w", err)
	}
	return s, nil
}

func (s *Server) start() (err error) {
	if s.signing, err = newKey(); err != nil {
		return err
	}
	if s.ca, err = newAuthority(); err != nil {
		return err
	}
	if err := os.WriteFile(s.CA(), s.ca.pem, 0o644); err != nil {
		return err
	}
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	if s.proxy, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	quiet := log.New(io.Discard, "", 0)
	services := &http.Server{Handler: s.routes(), ErrorLog: quiet}
	proxy := &http.Server{Handler: http.HandlerFunc(s.connect), ErrorLog: quiet}
	s.servers = []*http.Server{services, proxy}
	go services.Serve(tls.NewListener(s.listener, &tls.Config{GetCertificate: s.ca.certificate, NextProtos: []string{"http/1.1"}}))
	go proxy.Serve(s.proxy)
	return nil
}

// Close ends it.
func (s *Server) Close() {
	for _, server := range s.servers {
		server.Close()
	}
}

// CA is the file of the certificate authority that clients have to trust.
func (s *Server) CA() string { return filepath.Join(s.dir, "ca.pem") }

// Proxy is the address at which clients find all of the services.
func (s *Server) Proxy() string { return "http://" + s.proxy.Addr().String() }

// Direct is the address of the services for a client that knows no proxy.
func (s *Server) Direct() string { return s.listener.Addr().String() }

// Env is what makes clients use it.
func (s *Server) Env() []string {
	return []string{
		"HTTPS_PROXY=" + s.Proxy(), "https_proxy=" + s.Proxy(), "HTTP_PROXY=" + s.Proxy(), "http_proxy=" + s.Proxy(),
		"NO_PROXY=", "no_proxy=",
		"SSL_CERT_FILE=" + s.CA(),       // Go, OpenSSL
		"REQUESTS_CA_BUNDLE=" + s.CA(),  // Python's requests
		"NODE_EXTRA_CA_CERTS=" + s.CA(), // Node
		"NPM_CONFIG_CAFILE=" + s.CA(),   // npm
	}
}

// Lifetime sets how long the access tokens live that are issued from now on.
func (s *Server) Lifetime(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifetime = d
}

// Requests are those so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *Server) note(r Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
}

// A reply is what a service answers with.
type reply struct {
	status  int
	body    any // sent as JSON, but for a string
	header  http.Header
	grant   string
	user    string
	refused string
}

func refuse(status int, code, why string) reply {
	return reply{status: status, refused: why, body: map[string]any{"error": code, "error_description": why}}
}

// routes has every service under its own name, and Entra under any name too,
// for clients that are given an authority of their own.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(*http.Request) reply) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.answer(w, r, f(r))
		})
	}
	s.entra(handle)
	s.manager(handle)
	s.github(handle)
	s.npm(handle)
	for _, name := range registries {
		s.registry(name, handle)
	}
	s.cluster(handle)
	s.aws(handle)
	handle("/", func(r *http.Request) reply {
		return refuse(http.StatusNotFound, "not_found", "the stand-in has nothing at "+r.Host+r.URL.Path)
	})
	return mux
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, a reply) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	s.note(Request{r.Host, r.Method, r.URL.Path, a.grant, a.user, a.status, a.refused})
	for name, values := range a.header {
		w.Header()[name] = values
	}
	text, plain := a.body.(string)
	if !plain {
		w.Header().Set("Content-Type", "application/json")
		b, err := json.Marshal(a.body)
		if err != nil {
			panic("internal error: " + err.Error())
		}
		text = string(b)
	}
	w.WriteHeader(a.status)
	io.WriteString(w, text)
}

// base is the address under which a client asked.
func base(r *http.Request) string { return "https://" + r.Host }

// bearer is the token that a request carries.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "bearer") || strings.EqualFold(scheme, "token") {
		return token
	}
	return ""
}
