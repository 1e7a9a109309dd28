# make help tells what there is.

GO      ?= go
SHELL    = bash -o pipefail
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

# The phases of make test. No package is in two of them without a reason.
#
# With the race detector: what shares memory between goroutines.
RACE     = ./cmd/... ./crypt ./fs ./fs/fuse ./integration/apps ./integration/doctor ./lifecycle/...
# Clients of a command that has the race detector. Theirs would only slow them down,
# as they share no memory with it. They need root, to mount what they compare with.
CLIENTS  = ./fs/conformance
# As the command is shipped, without C and without the detector. Of these, sandbox is
# in the first phase as well: only without C can every thread be reached, to show
# what none of them can do any more.
PLAIN    = ./bench ./docs ./integration/test/attack ./integration/test/entra ./integration/test/mounted ./integration/test/msal \
           ./integration/test/needs ./integration/test/programs ./integration/test/ram ./integration/test/run ./lifecycle/sandbox ./packaging/...
# One after the other, since they search memory or keep both processors busy. crypt
# is in the first phase as well: with the detector it cannot search memory.
MEASURED = ./integration/test/hygiene ./integration/test/scan ./integration/test/torture ./crypt
# Side by side, since they mostly wait.
WAITING  = ./integration/test/faults ./integration/test/demo
# Users log in to systems in containers.
LOGIN    = ./integration/test/login ./integration/test/pam
# Real programs sign in. Of those that test-apps runs, make test runs the ones that
# need no more than Debian's MSAL.
APPS     = ./integration/test/clients
FEW_APPS = 'TestSearchFinds|TestMSALPython$$|GitCredential/^linked$$|TestLoadsMeetSaves/(Python|NET)'
PHASES   = $(RACE) $(CLIENTS) $(PLAIN) $(MEASURED) $(WAITING) $(LOGIN) $(APPS)
ROOT     = $(filter 0,$(shell id -u))

.PHONY: build
build: ## bin/tokenfs, one static file, and bin/tokenfs-pam
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.releaseVersion=$(VERSION)' -o bin/tokenfs ./cmd/tokenfs
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/tokenfs-pam ./cmd/tokenfs-pam
	@$(MAKE) -s bin/share

# Manual pages, completions and licences are made from the program and its sources.
.PHONY: bin/share
bin/share:
	@rm -rf $@; mkdir -p bin; new=$$(mktemp -d bin/share.XXXXXX) && chmod 755 $$new && \
	$(GO) run ./packaging/manual $(PROGRAM) $$new && packaging/licences.sh $$new/doc/tokenfs/licences && \
	{ mv -T $$new $@ 2>/dev/null || rm -rf $$new; }

PREFIX ?= /usr/local
PROGRAM ?= bin/tokenfs
SYSTEMD  = $(DESTDIR)$(PREFIX)/lib/systemd
SHARE    = $(DESTDIR)$(PREFIX)/share
DOC      = $(SHARE)/doc/tokenfs
# Only root can give files away; packages say themselves whose they are.
OWNER    = $(if $(filter 0,$(shell id -u)),-o root -g root)
# make takes what has a space for several names, and uninstall would remove others.
PLACE    = $(if $(word 2,[$(DESTDIR)$(PREFIX)]),$(error DESTDIR and PREFIX must have no space: "$(DESTDIR)$(PREFIX)"))

.PHONY: install
install: ## the program and all that belongs to it, below $(DESTDIR)$(PREFIX)
	$(PLACE)
	@test -d bin/share || $(MAKE) -s bin/share
	install -D $(OWNER) -m 0711 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/tokenfs
	install -D $(OWNER) -m 0644 packaging/systemd/tokenfs.service $(SYSTEMD)/user/tokenfs.service
	install -D $(OWNER) -m 0644 packaging/systemd/tokenfs.preset $(SYSTEMD)/user-preset/90-tokenfs.preset
	install -D $(OWNER) -m 0644 packaging/systemd/user@.service.conf $(SYSTEMD)/system/user@.service.d/tokenfs.conf
	install -D $(OWNER) -m 0644 packaging/profile.d/tokenfs.sh $(DESTDIR)/etc/profile.d/tokenfs.sh
	test -e $(DESTDIR)/etc/tokenfs/config || install -D $(OWNER) -m 0644 packaging/config $(DESTDIR)/etc/tokenfs/config
	cd bin/share && find * -type f -exec install -D $(OWNER) -m 0644 {} $(abspath $(SHARE))/{} \;
	install -D $(OWNER) -m 0644 -t $(DOC) README.md SECURITY.md CHANGELOG.md LICENSE
	install -D $(OWNER) -m 0644 -t $(DOC)/docs docs/*.md docs/*.svg
	install -D $(OWNER) -m 0644 packaging/apparmor/fusermount3 $(DOC)/examples/apparmor-fusermount3
	install -D $(OWNER) -m 0644 packaging/environment.conf $(DOC)/examples/environment.conf

.PHONY: uninstall
uninstall: ## what install has installed, but for the settings
	$(PLACE)
	@new=$$(mktemp -d) && $(MAKE) -s install DESTDIR=$$new >/dev/null && \
	(cd $$new && find * -type f ! -path etc/tokenfs/config) | while read -r file; do \
		rm -f "$(DESTDIR)/$$file"; \
	done && rm -rf $$new
	test ! -d $(DOC) || find $(DOC) -type d -empty -delete

.PHONY: deb
deb: build ## a Debian package, in bin
	packaging/build.sh deb bin/tokenfs $(VERSION) bin

.PHONY: rpm
rpm: build ## an rpm, in bin; wants rpmbuild
	packaging/build.sh rpm bin/tokenfs $(VERSION) bin

.PHONY: release
release: ## programs, packages, components and checksums for amd64 and arm64, in bin/release; wants rpmbuild
	packaging/release.sh $(VERSION) bin/release

.PHONY: test-package
test-package: ## install, upgrade and remove that package on a Debian with systemd, in a container; root only
	@integration/test/packages.sh systemd-container openssh-client
	integration/test/package.sh

.PHONY: test-rpm
test-rpm: ## the same with the rpm, by Debian's rpm in a root directory of its own; root only
	@integration/test/packages.sh rpm fuse3 systemd
	integration/test/rpm.sh

.PHONY: install-pam
install-pam: ## for hosts without a systemd user manager, after install
	$(PLACE)
	install -D $(OWNER) -m 0755 $(PROGRAM)-pam $(DESTDIR)$(PREFIX)/libexec/tokenfs-pam
	install -d $(DESTDIR)/usr/share/pam-configs
	sed 's,/usr/libexec,$(PREFIX)/libexec,' packaging/pam/tokenfs >$(DESTDIR)/usr/share/pam-configs/tokenfs

.PHONY: uninstall-pam
uninstall-pam: ## what install-pam has installed, once PAM no longer runs it
	$(PLACE)
	@! grep -s $(PREFIX)/libexec/tokenfs-pam $(DESTDIR)/etc/pam.d/* || \
	{ echo 'PAM still runs it: take these lines out, on Debian by pam-auth-update --remove tokenfs' >&2; exit 1; }
	rm -f $(DESTDIR)$(PREFIX)/libexec/tokenfs-pam $(DESTDIR)/usr/share/pam-configs/tokenfs

.PHONY: demo
demo: bin/demo ## a guided tour with a real app; two minutes
	@bin/demo

.PHONY: bin/demo
bin/demo:
	@echo 'building the tour (the first time, this takes a while)'
	@CGO_ENABLED=0 $(GO) build -trimpath -o bin/demo ./integration/test/demo

# The inner loop leaves out what mounts and what runs other programs.
UNIT     = $(filter-out tokenfs/integration/test/% tokenfs/fs/conformance,$(shell $(GO) list ./...))

.PHONY: unit
unit: check ## the inner loop: unit tests, vet, gofmt; no root, no FUSE, nothing to install
	@$(GO) test -short -v $(UNIT) 2>&1 | awk -f integration/test/quiet.awk

.PHONY: unit-arm64
unit-arm64: ## the unit tests for arm64, under qemu-user
	@command -v qemu-aarch64-static >/dev/null || { echo 'make: no qemu-aarch64-static: apt-get install qemu-user-static' >&2; exit 1; }
	@CGO_ENABLED=0 GOARCH=arm64 $(GO) test -short -v -exec qemu-aarch64-static $(UNIT) 2>&1 | awk -f integration/test/quiet.awk

# Pinned: a new release of either must not turn a commit red.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0

.PHONY: lint
lint: ## staticcheck, and govulncheck where its database can be reached
	$(GO) run $(STATICCHECK) ./...
	@packaging/govulncheck.sh $(GO) run $(GOVULNCHECK) ./...

.PHONY: device
device:
	@test -r /dev/fuse -a -w /dev/fuse || { echo 'make: no /dev/fuse that you may open, so nothing can be mounted: as root try: modprobe fuse; chmod 666 /dev/fuse' >&2; exit 1; }

# What the phases print: the packages, failures, and what was skipped and why.
QUIETLY  = 2>&1 | awk -f integration/test/quiet.awk || status=1

.PHONY: test
test: device packages check phases ## unit, conformance and integration tests
	@echo 'NOT TESTED here: most of $(APPS). Try: make test-apps'
	@$(if $(ROOT),,echo 'NOT TESTED without root: $(CLIENTS). Try: sudo make test')
	@status=0; \
	$(GO) test -count=1 -v -race -timeout 20m $(RACE) $(QUIETLY); \
	$(if $(ROOT),TOKENFS_TEST_RACE=1 $(GO) test -count=1 -v -timeout 20m $(CLIENTS) $(QUIETLY);) \
	CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 20m $(PLAIN) $(QUIETLY); \
	$(GO) test -count=1 -v -p 1 -timeout 20m $(MEASURED) $(QUIETLY); \
	$(GO) test -count=1 -v -parallel 8 -timeout 20m $(WAITING) $(QUIETLY); \
	$(GO) test -count=1 -v -p 1 -parallel 6 -timeout 20m $(LOGIN) $(QUIETLY); \
	$(GO) test -count=1 -v -timeout 20m -run $(FEW_APPS) $(APPS) $(QUIETLY); \
	$(MAKE) -s fuzz FUZZTIME=2s || status=1; \
	exit $$status

# A package that is in no phase would never be tested.
.PHONY: phases
phases:
	@missing=$$(comm -23 <($(GO) list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | sort -u) <($(GO) list $(PHASES) | sort -u)); \
	test -z "$$missing" || { echo "make: in no phase of make test: $$missing" >&2; exit 1; }

.PHONY: check
check: ## formatting and vet
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "not formatted, try gofmt -w: $$unformatted" >&2; exit 1; }
	$(GO) vet ./...

.PHONY: packages
packages: ## what the tests need from Debian or Ubuntu
	@integration/test/packages.sh fuse3 gcc libc6-dev git python3-msal-extensions sqlite3 systemd-container openssh-client e2fsprogs

.PHONY: test-long
test-long: packages ## the long forms: a million random operations, 200 memory samples
	$(GO) test -count=1 -v -timeout 60m ./fs/conformance -model.ops 1000000 -draft.reads 1000000 -draft.kills 1000
	$(GO) test -count=1 -v -timeout 60m ./integration/test/hygiene -samples 200
	$(GO) test -count=1 -v -timeout 60m ./integration/test/faults -many -thorough
	CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 60m ./integration/test/attack -run UpgradeUnderBlows -thorough
	$(GO) test -run '^$$' -bench Pause -benchtime 1000x ./integration/test/faults
	$(GO) test -count=1 -v -timeout 60m $(APPS) -run TestLoadsMeetSaves -race.loads 1000000

.PHONY: test-apps
test-apps: ## real programs sign in: installs them from Debian, npm and the Go proxy
	integration/test/clients/programs.sh
	$(GO) test -count=1 -v -timeout 60m $(APPS)

KILLS    ?= 1000
DURATION ?= 10m

.PHONY: torture
torture: packages ## kill the worker KILLS times under clients that check everything
	$(GO) test -count=1 -v -timeout 0 ./integration/test/torture -kills $(KILLS) -upgrades 40 $(TORTURE)

.PHONY: soak
soak: packages ## the same clients without kills, for DURATION
	$(GO) test -count=1 -v -timeout 0 ./integration/test/torture -run TestSoak -soak $(DURATION) $(TORTURE)

.PHONY: test-login
test-login: ## users log in and out of Debians in containers; tokenfs run in Docker and Podman; root only
	@integration/test/packages.sh systemd-container openssh-client
	@$(GO) test -count=1 -v -p 1 -parallel 6 -timeout 20m $(LOGIN) -must -all 2>&1 | grep -v '^=== '
	@$(GO) test -count=1 -v -timeout 10m ./integration/test/run -run Engines -engines 2>&1 | grep -v '^=== '

.PHONY: test-vm
test-vm: build ## everything on Debian 12's own kernel, in a virtual machine
	integration/test/vm/run.sh
	integration/test/vm/run.sh --secretmem

.PHONY: test-ram
test-ram: build ## what all of a machine's memory has of tokens and keys, in every state; root only; hours
	integration/test/ram/run.sh $(RAM)

.PHONY: test-suites
test-suites: build ## pjdfstest, and fsx and fsstress of xfstests; root only
	integration/test/suites.sh

FUZZTIME ?= 60s

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME
	@found=$$(grep -r --include='*_test.go' -o '^func Fuzz[A-Za-z]*' cmd crypt fs integration lifecycle); status=0; \
	test -n "$$found" || { echo 'no fuzz targets found' >&2; exit 1; }; \
	for target in $${found//func /}; do \
		$(GO) test -run '^$$' -fuzz "^$${target#*:}\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$target) || status=1; \
	done; exit $$status

# The build cache is the caller's, the rest needs root; see bench/doc.go.
RUN_BENCH = CGO_ENABLED=0 $(GO) build -o bin/bench ./bench && bin/bench

.PHONY: bench
bench: packages-bench build ## tokenfs against what a user could have instead, as root; ten minutes
	$(RUN_BENCH) -tokenfs bin/tokenfs -log bench/performance.txt -pictures bench/pictures $(BENCH)

.PHONY: bench-traces
bench-traces: packages-bench ## what the kernel asks for each workload, as root
	$(RUN_BENCH) -traces bench/traces.txt

.PHONY: packages-bench
packages-bench: ## what tokenfs is compared with, from Debian or Ubuntu
	@integration/test/packages.sh fuse3 gcc libc6-dev pkg-config libfuse3-dev gocryptfs securefs encfs cryfs

.PHONY: bench-go
bench-go: ## throughput and allocations of the parts
	$(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: clean
clean:
	rm -rf bin

.PHONY: help
help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 20
