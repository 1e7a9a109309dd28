package main

import (
	"golang.org/x/sys/unix"
)

// The file accesses of az login for a user (azure-cli 2.45, msal 1.21,
// msal-extensions 1.0 with portalocker) as strace saw them: which files of its
// configuration directory, how they are opened, in which order and with what
// sizes; every token response is five modify() cycles on the cache. Starting
// Python is not part of it, nor is the network.

type azure struct {
	cache, lock                                  file
	config, clouds, profile, http, sessions      file
	az, index, versions, principals, enc, encSP  file
	telemetry, commands, logFile, telemetryCache file
	dir                                          file
	st                                           unix.Stat_t
}

func prepareLogin(c *client) {
	dir := c.directory("azure")
	for _, sub := range []string{"commands", "telemetry", "logs"} {
		c.directory("azure/" + sub)
	}
	in := func(name string) file { return path(dir + "/" + name) }
	a := &azure{dir: path(dir),
		cache: in("msal_token_cache.json"), lock: in("msal_token_cache.json.lockfile"),
		enc: in("msal_token_cache.bin"), encSP: in("service_principal_entries.bin"),
		config: in("config"), clouds: in("clouds.config"), profile: in("azureProfile.json"),
		http: in("msal_http_cache.bin"), sessions: in("az.sess"), az: in("az.json"),
		index: in("commandIndex.json"), versions: in("versionCheck.json"),
		principals: in("service_principal_entries.json"),
		telemetry:  in("telemetry.txt"), telemetryCache: in("telemetry/cache"),
		commands: in("commands/2026-01-01.12-00-00.login.1.log"), logFile: in("logs/telemetry.log")}
	for _, f := range []struct {
		p    file
		size int
	}{{a.config, 21}, {a.clouds, 300}, {a.profile, 371}, {a.http, 2 << 10}, {a.sessions, 2}, {a.az, 600},
		{a.index, 5400}, {a.versions, 100}, {a.cache, 2600}} {
		saveTo(f.p, c.buf[:f.size], 0)
	}
	unix.Unlinkat(unix.AT_FDCWD, dir+"/msal_token_cache.json.lockfile", 0)
	c.state = a
}

func login(c *client) {
	a := c.state.(*azure)
	// Starting: settings and session files.
	mkdir(a.dir)
	for _, f := range []file{a.config, a.clouds, a.config, a.az, a.sessions, a.index, a.versions, a.profile} {
		mustStat(f, &a.st)
		loadFrom(f, c.buf, &a.st)
	}
	saveTo(a.sessions, c.buf[:2], 0)
	saveTo(a.config, c.buf[:21], 0)
	chmod(a.config, 0o600)
	appendTo(a.commands, c.buf[:400])

	// Signing in.
	loadFrom(a.http, c.buf, &a.st)
	stat(a.enc, &a.st)
	stat(a.encSP, &a.st)
	loadCache(c, a)
	for range 2 { // the user's home tenant, and the one with the subscription
		for part := range 5 { // access token, refresh token, id token, account, app metadata
			a.modify(c, 4<<10+1500*part)
		}
		loadCache(c, a)
	}
	saveTo(a.http, c.buf[:2<<10], 0)
	stat(a.principals, &a.st)

	// Ending: what there is for the user, and the logs.
	saveTo(a.profile, c.buf[:371], 0)
	saveTo(a.versions, c.buf[:100], 0)
	saveTo(a.index, c.buf[:5400], 0)
	appendTo(a.telemetryCache, c.buf[:1800])
	appendTo(a.commands, c.buf[:900])
	saveTo(a.telemetry, c.buf[:30], 0)
	appendTo(a.logFile, c.buf[:500])
	for _, f := range []file{a.telemetryCache, a.commands, a.logFile} {
		unlink(f)
	}
}

func loadCache(c *client, a *azure) {
	mustStat(a.cache, &a.st)
	loadFrom(a.cache, c.buf, &a.st)
}

func appendTo(p file, data []byte) {
	fd := open(p, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND, 0o644)
	write(fd, data)
	closeFile(fd)
}

// modify is one cycle of msal-extensions with portalocker.
func (a *azure) modify(c *client, size int) {
	mkdir(a.dir)
	mustStat(a.cache, &a.st)
	fd := open(a.lock, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o666)
	fstat(fd, &a.st)
	closeFile(fd)
	fd = open(a.lock, unix.O_RDWR|unix.O_CREAT|unix.O_APPEND, 0o666)
	flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	ftruncate(fd)
	write(fd, c.buf[:20])
	mustStat(a.cache, &a.st)
	out := open(a.cache, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC, 0o600)
	write(out, c.buf[:size])
	closeFile(out)
	flock(fd, unix.LOCK_UN)
	closeFile(fd)
	unlink(a.lock)
}
