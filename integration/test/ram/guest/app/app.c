// app.c: stands in for a program that signs in, and leaves nothing in memory itself.
//
//   app VERB SEED TOKEN LENGTH [PATH]
//
// A token is text (the alphabet of base64url) derived from SEED and the name TOKEN, so
// no channel that starts this program ever carries one. Everything that holds a token,
// or leads to it, lies in one locked mapping that is cleared at the end. There is no
// libc, and the compiler may use no vector register, so the kernel never saves one that
// holds a token. A run with the verb null shows that nothing is left: see doc.go.
//
// put... writes the token to PATH, get... reads PATH and compares.
#include <stddef.h>
#include <stdint.h>

static long sys(long n, long a, long b, long c, long d, long e, long f)
{
	long r;
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		: "rcx", "r11", "memory");
	return r;
}
#define S1(n, a) sys(n, (long)(a), 0, 0, 0, 0, 0)
#define S2(n, a, b) sys(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define S3(n, a, b, c) sys(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define S4(n, a, b, c, d) sys(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define S5(n, a, b, c, d, e) sys(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define S6(n, a, b, c, d, e, f) sys(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
enum { READ = 0, WRITE = 1, OPEN = 2, CLOSE = 3, MMAP = 9, MUNMAP = 11, PIPE = 22, SENDFILE = 40, SOCKET = 41,
	CONNECT = 42, SOCKETPAIR = 53, EXIT = 60, FTRUNCATE = 77, RENAME = 82, SYMLINK = 88, READLINK = 89,
	MLOCK = 149, SETXATTR = 188, SPLICE = 275, VMSPLICE = 278 };

#define MOST (64 << 10)
static struct area {
	uint32_t hash[8], w[64];
	uint8_t block[64];
	uint8_t token[MOST + 1] __attribute__((aligned(4096)));
	uint8_t back[MOST + 4096] __attribute__((aligned(4096)));
} *A;

static void __attribute__((noreturn)) end(int status)
{
	if (A)
		for (volatile uint64_t *p = (void *)A; p < (uint64_t *)(A + 1); p++) *p = 0;
	S1(EXIT, status);
	__builtin_unreachable();
}

static void say(const char *s)
{
	size_t n = 0;
	while (s[n]) n++;
	S3(WRITE, 2, s, n);
}

static void fail(const char *what, long number)
{
	char b[24];
	int i = 24;
	long m = number < 0 ? -number : number;
	say("app: "); say(what); say(": ");
	b[--i] = '\n';
	do b[--i] = '0' + m % 10; while (m /= 10);
	if (number < 0) b[--i] = '-';
	S3(WRITE, 2, b + i, 24 - i);
	end(1);
}

static long ok(const char *what, long r)
{
	if (r < 0) fail(what, r);
	return r;
}

// SHA-256 (FIPS 180-4). Its constants are computed: roots of the first primes.
static uint32_t K[64], H0[8];
static uint32_t ror(uint32_t x, int n) { return x >> n | x << (32 - n); }

static uint32_t fraction(uint32_t prime, int cube) // 32 bits of a root's fraction, by bisection
{
	uint64_t lo = 0, hi = (uint64_t)1 << 37;
	while (lo + 1 < hi) {
		uint64_t m = (lo + hi) / 2;
		unsigned __int128 square = (unsigned __int128)m * m;
		int above = cube ? (square >> 16) * m >= (unsigned __int128)prime << 80 : square > (unsigned __int128)prime << 64;
		if (above) hi = m; else lo = m;
	}
	return (uint32_t)lo;
}

static void constants(void)
{
	int n = 0;
	for (uint32_t p = 2; n < 64; p++) {
		int prime = 1;
		for (uint32_t d = 2; d * d <= p; d++) if (p % d == 0) prime = 0;
		if (!prime) continue;
		if (n < 8) H0[n] = fraction(p, 0);
		K[n++] = fraction(p, 1);
	}
}

static void compress(void)
{
	uint32_t *w = A->w, *s = A->hash;
	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)A->block[4*i] << 24 | (uint32_t)A->block[4*i+1] << 16 | (uint32_t)A->block[4*i+2] << 8 | A->block[4*i+3];
	for (int i = 16; i < 64; i++)
		w[i] = w[i-16] + (ror(w[i-15], 7) ^ ror(w[i-15], 18) ^ w[i-15] >> 3) + w[i-7] + (ror(w[i-2], 17) ^ ror(w[i-2], 19) ^ w[i-2] >> 10);
	uint32_t a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
	for (int i = 0; i < 64; i++) {
		uint32_t t = h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i];
		uint32_t u = (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
		h = g; g = f; f = e; e = d + t; d = c; c = b; b = a; a = t + u;
	}
	s[0] += a; s[1] += b; s[2] += c; s[3] += d; s[4] += e; s[5] += f; s[6] += g; s[7] += h;
}

// derive: characters 32 i to 32 i + 31 are SHA-256(SEED.TOKEN.i), each byte modulo 64.
static void derive(uint8_t *to, long len, const char *seed, const char *token)
{
	static const char text[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	for (long at = 0, count = 0; at < len; at += 32, count++) {
		int n = 0, d = 0;
		char digits[24];
		long c = count;
		for (int i = 0; i < 64; i++) A->block[i] = 0;
		for (const char *s = seed; *s; s++) if (n < 56) A->block[n++] = *s;
		A->block[n++] = '.';
		for (const char *s = token; *s; s++) if (n < 56) A->block[n++] = *s;
		A->block[n++] = '.';
		do digits[d++] = '0' + c % 10; while (c /= 10);
		if (n + d > 55) fail("SEED and TOKEN are too long", n + d);
		while (d) A->block[n++] = digits[--d];
		A->block[n] = 0x80;
		A->block[62] = (uint8_t)(n * 8 >> 8); A->block[63] = (uint8_t)(n * 8);
		for (int i = 0; i < 8; i++) A->hash[i] = H0[i];
		compress();
		for (int i = 0; i < 32 && at + i < len; i++) to[at + i] = text[A->hash[i / 4] >> (24 - 8 * (i % 4)) & 63];
	}
}

static long parse(const char *s) { long n = 0; while (*s >= '0' && *s <= '9') n = n * 10 + *s++ - '0'; return n; }
static int same(const char *a, const char *b) { while (*a && *a == *b) a++, b++; return *a == *b; }
static void writeall(int fd, const uint8_t *p, long n) { while (n > 0) { long r = ok("write", S3(WRITE, fd, p, n)); p += r; n -= r; } }
static void readall(int fd, uint8_t *p, long n) { while (n > 0) { long r = ok("read", S3(READ, fd, p, n)); if (!r) fail("short file", n); p += r; n -= r; } }
static void compare(long n) { for (long i = 0; i < n; i++) if (A->back[i] != A->token[i]) fail("read something else at", i); }
static long piece(long n) { return n < 4096 ? n : 4096; }

enum { RDONLY = 0, WRONLY = 1, RDWR = 2, CREATE = 0100, TRUNCATE = 01000, DIRECT = 040000, NEW = WRONLY | CREATE | TRUNCATE };

static void put(const char *path, long n, int flags, long at_once)
{
	int fd = ok("create", S3(OPEN, path, flags, 0600));
	for (long i = 0; i < n; i += at_once) writeall(fd, A->token + i, n - i < at_once ? n - i : at_once);
	ok("close", S1(CLOSE, fd));
}

static void put_mmap(const char *path, long n)
{
	int fd = ok("create", S3(OPEN, path, RDWR | CREATE | TRUNCATE, 0600));
	ok("ftruncate", S2(FTRUNCATE, fd, n));
	uint8_t *m = (void *)ok("mmap shared", S6(MMAP, 0, n, 3, 1, fd, 0));
	for (long i = 0; i < n; i++) m[i] = A->token[i];
	ok("munmap", S2(MUNMAP, m, n));
	ok("close", S1(CLOSE, fd));
}

static void put_splice(const char *path, long n) // vmsplice into a pipe, splice from there
{
	int p[2], fd = ok("create", S3(OPEN, path, NEW, 0600));
	ok("pipe", S1(PIPE, p));
	for (long i = 0; i < n;) {
		struct { void *base; size_t len; } iov = { A->token + i, piece(n - i) };
		long m = ok("vmsplice", S4(VMSPLICE, p[1], &iov, 1, 0));
		for (long k = m; k > 0;) k -= ok("splice", S6(SPLICE, p[0], 0, fd, 0, k, 0));
		i += m;
	}
	ok("close", S1(CLOSE, fd));
}

static void put_replace(const char *path, long n) // PATH.new, renamed to PATH
{
	char other[512];
	int i = 0;
	for (; path[i] && i < 500; i++) other[i] = path[i];
	for (const char *t = ".new"; *t; t++) other[i++] = *t;
	other[i] = 0;
	put(other, n, NEW, n);
	ok("rename", S2(RENAME, other, path));
}

static void get(const char *path, long n, int flags)
{
	int fd = ok("open", S3(OPEN, path, flags, 0));
	readall(fd, A->back, n);
	ok("close", S1(CLOSE, fd));
}

static void get_mmap(const char *path, long n)
{
	int fd = ok("open", S3(OPEN, path, RDONLY, 0));
	uint8_t *m = (void *)ok("mmap private", S6(MMAP, 0, n, 1, 2, fd, 0));
	for (long i = 0; i < n; i++) A->back[i] = m[i];
	ok("munmap", S2(MUNMAP, m, n));
	ok("close", S1(CLOSE, fd));
}

static void get_splice(const char *path, long n) // splice into a pipe, read from there
{
	int p[2], fd = ok("open", S3(OPEN, path, RDONLY, 0));
	ok("pipe", S1(PIPE, p));
	for (long i = 0; i < n;) {
		long m = ok("splice", S6(SPLICE, fd, 0, p[1], 0, piece(n - i), 0));
		if (!m) fail("splice: short file", i);
		readall(p[0], A->back + i, m);
		i += m;
	}
	ok("close", S1(CLOSE, fd));
}

static void get_sendfile(const char *path, long n) // to a socket, read from its other end
{
	int p[2], fd = ok("open", S3(OPEN, path, RDONLY, 0));
	ok("socketpair", S4(SOCKETPAIR, 1, 1, 0, p));
	for (long i = 0; i < n;) {
		long m = ok("sendfile", S4(SENDFILE, p[0], fd, 0, piece(n - i)));
		if (!m) fail("sendfile: short file", i);
		readall(p[1], A->back + i, m);
		i += m;
	}
	ok("close", S1(CLOSE, fd));
}

static void name(const char *directory, long n) // the token is the name of an empty file
{
	int i = 0;
	for (; directory[i]; i++) A->back[i] = directory[i];
	A->back[i++] = '/';
	for (long j = 0; j < n; j++) A->back[i++] = A->token[j];
	A->back[i] = 0;
	ok("close", S1(CLOSE, ok("create", S3(OPEN, A->back, NEW, 0600))));
}

static uint8_t *string(uint8_t *p, const void *s, uint32_t n)
{
	*p++ = n >> 24; *p++ = n >> 16; *p++ = n >> 8; *p++ = n;
	for (uint32_t i = 0; i < n; i++) *p++ = ((const uint8_t *)s)[i];
	return p;
}

// agent: give the token's first 32 bytes to the ssh-agent at PATH, as an Ed25519 private
// key (draft-miller-ssh-agent, 3.2.3). An agent does not ask whether the public half,
// another 32 bytes of the token, belongs to it.
static void agent(const char *path, long n)
{
	struct { uint16_t family; char path[108]; } a = { 1, { 0 } };
	if (n < 64) fail("too short for an agent", n);
	for (int i = 0; path[i] && i < 107; i++) a.path[i] = path[i];
	int fd = ok("socket", S3(SOCKET, 1, 1, 0));
	ok("connect", S3(CONNECT, fd, &a, sizeof a));
	uint8_t *m = A->back, *p = m + 4;
	*p++ = 17; // SSH_AGENTC_ADD_IDENTITY
	p = string(p, "ssh-ed25519", 11);
	p = string(p, A->token + 32, 32);
	p = string(p, A->token, 64);
	p = string(p, "app", 3);
	string(m, 0, 0);
	m[2] = (p - m - 4) >> 8; m[3] = p - m - 4;
	writeall(fd, m, p - m);
	readall(fd, m, 5);
	if (m[4] != 6) fail("the agent refuses", m[4]);
}

static __attribute__((used)) void run(long *stack)
{
	long argc = stack[0];
	char **v = (char **)(stack + 1);
	if (argc < 5) fail("usage: app VERB SEED TOKEN LENGTH [PATH]", argc);
	const char *verb = v[1], *path = argc > 5 ? v[5] : "";
	long n = parse(v[4]);
	if (n > MOST || n <= 0) fail("length", n);
	A = (void *)ok("mmap", S6(MMAP, 0, sizeof *A, 3, 0x22, -1, 0));
	ok("mlock", S2(MLOCK, A, sizeof *A));
	constants();
	derive(A->token, n, v[2], v[3]);

	if (same(verb, "null")) {
	} else if (same(verb, "put")) put(path, n, NEW, n);
	else if (same(verb, "put-small")) put(path, n, NEW, 100);
	else if (same(verb, "put-inplace")) put(path, n, WRONLY, n);
	else if (same(verb, "put-direct")) put(path, n, NEW | DIRECT, n);
	else if (same(verb, "put-mmap")) put_mmap(path, n);
	else if (same(verb, "put-splice")) put_splice(path, n);
	else if (same(verb, "put-replace")) put_replace(path, n);
	else if (same(verb, "put-pipe")) writeall(1, A->token, n);
	else if (same(verb, "name")) name(path, n);
	else if (same(verb, "agent")) agent(path, n);
	else if (same(verb, "xattr")) {
		ok("close", S1(CLOSE, ok("create", S3(OPEN, path, NEW, 0600))));
		ok("setxattr", S5(SETXATTR, path, "user.token", A->token, n, 0));
	} else if (same(verb, "symlink")) {
		A->token[n] = 0;
		ok("symlink", S2(SYMLINK, A->token, path));
	} else {
		if (same(verb, "get")) get(path, n, RDONLY);
		else if (same(verb, "get-pipe")) readall(0, A->back, n);
		else if (same(verb, "get-direct")) get(path, n, RDONLY | DIRECT);
		else if (same(verb, "get-mmap")) get_mmap(path, n);
		else if (same(verb, "get-splice")) get_splice(path, n);
		else if (same(verb, "get-sendfile")) get_sendfile(path, n);
		else if (same(verb, "readlink")) {
			if (ok("readlink", S3(READLINK, path, A->back, n)) != n) fail("readlink: short", n);
		} else
			fail("no such verb", 0);
		compare(n);
	}
	end(0);
}
__asm__(".globl _start\n_start:\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall run\n");
