package crypt

// What is too small for a cell of its own is sealed into memory of the caller's,
// which need not be locked: nonce, ciphertext and tag, in this order.

// InlineOverhead is how much longer than its plaintext such a text is.
const InlineOverhead = NonceSize + TagSize

// SealInline encrypts plaintext, locked memory, and returns it sealed.
func (a *Arena) SealInline(key Key, p Place, plaintext []byte) []byte {
	sealed := make([]byte, NonceSize, len(plaintext)+InlineOverhead)
	a.nonces.next((*[NonceSize]byte)(sealed))
	return a.keys.state(key).seal(sealed, sealed[:NonceSize], plaintext, a.bind(p))
}

// OpenInline decrypts what SealInline returned into dst, locked memory of the
// plaintext's length at least.
func (a *Arena) OpenInline(key Key, p Place, sealed, dst []byte) error {
	if len(sealed) < InlineOverhead {
		return ErrSealed
	}
	if _, err := a.keys.state(key).open(dst[:0], sealed[:NonceSize], sealed[NonceSize:], a.bind(p)); err != nil {
		return ErrSealed
	}
	return nil
}
