//go:build tokenfs_reveal

package fs

import "tokenfs/crypt"

// Reveal is crypt's, for tests.
func (s *Server) Reveal() (r crypt.Revelation) {
	s.quietly(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		r = s.mem.Reveal()
	})
	return r
}
