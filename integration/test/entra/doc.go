// Package entra stands in for Microsoft Entra ID, for the Azure Resource
// Manager and for the other services that command line clients sign in to, so
// that tests can let unmodified clients do real logins with nobody's account.
//
// Clients reach it as a proxy, under the services' real names, and trust the
// certificate authority it makes up; see Env. Every other name is refused and
// noted, so that nothing that a client sends leaves the machine.
//
// It issues tokens as the real services do: signed access tokens and ID tokens,
// opaque refresh tokens that are replaced at every use, where the old one is
// refused once Grace has passed. It remembers every secret it gave out, so that
// a test can search for them, and every request, so that a test can tell a
// token from a cache from one that was asked for.
//
// It is no identity provider: whoever asks is let in.
package entra
