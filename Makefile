# SPDX-License-Identifier: Apache-2.0
# The few commands that a person needs; meson does the work.
#
#   make run            build, and run a command in a sandbox over this machine's own files
#   make check          all tests
#   make lint           the direction of includes, the layout and clang-tidy's list
#   make bench          the table of measurements, beside runc, crun and runsc where they are there
#   make install        PREFIX= (default /usr/local) and DESTDIR= are honoured
#   make check-sanitize the tests under the address and undefined-behaviour sanitizers, then the thread's
#                       (check-sanitize-address, check-sanitize-thread: one of the two)
PREFIX ?= /usr/local
DESTDIR ?=
BUILD ?= build
NINJA = ninja -C $(BUILD)
comma := ,
CMD ?= uname -a; dmesg; echo; echo "processes in here:"; ps

all: build

$(BUILD)/build.ninja: | deps
	meson setup $(BUILD) --prefix=$(PREFIX) --buildtype=debugoptimized >/dev/null

build: $(BUILD)/build.ninja
	@$(NINJA)

# What a bare Debian 12 lacks; nothing happens when all is there.
deps:
	@tools/install-deps.sh

run: build
	$(BUILD)/bin/bailey do -- sh -c '$(CMD)'

check: build
	tests/check

unit: build
	$(NINJA) unit-quick

bench: build
	bench/run

lint: build
	BUILD=$(BUILD) tools/lint

# Guests are the plain build's programs. What a sanitizer of the sentry's reports is in a file (base/sanitize.c). The
# first build checks the order of locks too.
SANITIZER_REPORTS = /var/tmp/bailey-sanitizer.*
LANE_FILES = files files_meta locks mmap_file exec unix
LANE_TESTS = busybox snapshot terminal seccomp
define sanitizer_lane
	rm -f $(SANITIZER_REPORTS)
	test -d $(1) || meson setup $(1) $(2) -Db_lundef=false >/dev/null
	ninja -C $(1)
	BUILD=$(1) tests/check unit
	tests/run-guest --bailey --bin $(CURDIR)/$(1)/bin/bailey --timeout 180
	tests/run-guest --bailey --bin $(CURDIR)/$(1)/bin/bailey --timeout 180 --flags=--directfs=false $(LANE_FILES)
	tests/run-integration --build $(1) --timeout 600 $(LANE_TESTS)
	! tail -n +1 $(SANITIZER_REPORTS) 2>/dev/null
endef

check-sanitize: check-sanitize-address check-sanitize-thread

check-sanitize-address: build
	$(call sanitizer_lane,build-asan,-Db_sanitize=address$(comma)undefined -Dlock_debug=true)

check-sanitize-thread: build
	$(call sanitizer_lane,build-tsan,-Db_sanitize=thread)

install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/bailey \
		$(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)$(PREFIX)/share/doc/bailey
	install -m 755 $(BUILD)/bin/bailey $(BUILD)/bin/containerd-shim-bailey-v1 $(DESTDIR)$(PREFIX)/bin/
	install -m 755 $(BUILD)/bin/bailey-sentry $(BUILD)/bin/bailey-gofer $(BUILD)/bin/bailey-proxy \
		$(DESTDIR)$(PREFIX)/libexec/bailey/
	install -m 644 runtime/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	tools/gen-man $(BUILD)/bin/bailey $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	$(BUILD)/bin/bailey completion > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/bailey
	install -m 644 README.md LICENSE $(DESTDIR)$(PREFIX)/share/doc/bailey/
	install -d $(DESTDIR)$(PREFIX)/include/ocirt $(DESTDIR)$(PREFIX)/lib/pkgconfig \
		$(DESTDIR)$(PREFIX)/share/man/man3 $(DESTDIR)$(PREFIX)/share/doc/ocirt
	install -m 644 ocirt/ocirt.h $(DESTDIR)$(PREFIX)/include/ocirt/
	install -m 755 $(BUILD)/ocirt/libocirt.so.0.1.0 $(DESTDIR)$(PREFIX)/lib/
	ln -sf libocirt.so.0.1.0 $(DESTDIR)$(PREFIX)/lib/libocirt.so.0
	ln -sf libocirt.so.0 $(DESTDIR)$(PREFIX)/lib/libocirt.so
	install -m 644 $(BUILD)/ocirt/libocirt.a $(DESTDIR)$(PREFIX)/lib/
	sed 's|@prefix@|$(PREFIX)|; s|@version@|0.1.0|' ocirt/ocirt.pc.in \
		>$(DESTDIR)$(PREFIX)/lib/pkgconfig/ocirt.pc
	install -m 644 shim/man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	install -m 644 ocirt/man/*.3 $(DESTDIR)$(PREFIX)/share/man/man3/
	install -m 644 ocirt/example/ocirt-example.c $(DESTDIR)$(PREFIX)/share/doc/ocirt/

clean:
	rm -rf $(BUILD) build-asan build-tsan

.PHONY: all build deps run check unit lint bench check-sanitize check-sanitize-address check-sanitize-thread \
	install clean
