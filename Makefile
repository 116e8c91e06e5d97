# One recipe for people and for CI. `make` alone lists the targets; each says in a sentence which tool it lacks.

SHELL         := /bin/bash
.SHELLFLAGS   := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VERSION  := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SOVERSION := 0
PORT     ?= 8080
HOST     ?= 127.0.0.1
PREFIX   ?= /usr/local
LIBDIR   ?= lib
CC       ?= cc
CXX      ?= c++
CFLAGS   ?= -O2 -g
PYTHON   ?= python3
export CC CXX PYTHON
export CARGO_TARGET_DIR := $(CURDIR)/target

need     := .ci/need
strict   := -std=c11 -Wall -Wextra -Wpedantic -Werror
# What Rust's standard library wants from the system, as `rustc --print native-static-libs` tells it on Linux. Written
# down, because asking costs a second link-time optimised build.
native   := -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc
header   := include/libwsx.h
compile   = $(CC) $(strict) $(CFLAGS) -Iinclude
static    = $(compile) -o $@ $< build/libwsx.a $(native)
dynamic   = $(compile) -o $@ $< build/libwsx.so -Wl,-rpath,'$$ORIGIN$(1)' -lpthread

c_tests  := $(patsubst tests/c/%.c,build/tests/%,$(wildcard tests/c/*.c))
asan     := $(c_tests:build/tests/%=build/asan/%)
deny     := $(or $(shell command -v cargo-deny),build/tools/bin/cargo-deny)

help: ## list the targets
	@echo "libwsx $(VERSION)"; echo
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name what; do printf '  make %-13s %s\n' "$$name" "$$what"; done

# --- Building: cargo knows when the library is stale; the copies in build/ change only when it did

build: library build/echo build/chat build/autobahn-client $(c_tests) ## the C library, the examples and the C tests, into build/

library:
	@$(need) cargo cc
	cargo build --release -p libwsx
	@mkdir -p build/tests build/asan
	@cmp -s target/release/libwsx.a build/libwsx.a || cp target/release/libwsx.a build/
	@cmp -s target/release/libwsx.so build/libwsx.so.$(SOVERSION) || cp target/release/libwsx.so build/libwsx.so.$(SOVERSION)
	@ln -sf libwsx.so.$(SOVERSION) build/libwsx.so

$(header) build/libwsx.a build/libwsx.so.$(SOVERSION): library ; @:

# The reference server is one whole program; the chat and the tests show that the shared library does as well.
build/echo: examples/echo.c $(header) build/libwsx.a
	$(static)
build/autobahn-client: tests/autobahn/client.c $(header) build/libwsx.a
	$(static)
build/chat: examples/chat.c $(header) build/libwsx.so.$(SOVERSION)
	$(call dynamic,)
build/tests/%: tests/c/%.c $(wildcard tests/c/*.h) $(header) build/libwsx.so.$(SOVERSION)
	$(call dynamic,/..)
build/asan/%: tests/c/%.c $(wildcard tests/c/*.h) $(header) build/libwsx.a
	$(static) -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

# --- Using it

DOOR     ?= c
chat_c      := build/chat
chat_rust   := target/release/examples/chat
chat_python := build/venv/bin/python examples/chat.py
chat_node   := node examples/chat.mjs

demo: ## build, and serve the chat page (DOOR=c, rust, python or node; PORT=8080, HOST=127.0.0.1)
	@[ -n "$(chat_$(DOOR))" ] || { echo "libwsx: there is no door $(DOOR): DOOR is c, rust, python or node." >&2; exit 1; }
	@$(MAKE) --no-print-directory door-$(DOOR)
	@echo "Starting the chat; open the address below in two windows, Ctrl-C ends it."
	@exec $(chat_$(DOOR)) --host $(HOST) --port $(PORT) --page examples/chat.html

# --- The doors: what it takes to run a program of each

door-c: library build/chat

door-rust:
	@$(need) cargo
	cargo build -q --release --examples

door-python: build/venv/door ; @:

door-node: bindings/node/node_modules/.package-lock.json
	@$(need) cargo node
	cd bindings/node && node build.js
	@mkdir -p node_modules && ln -sfn ../bindings/node node_modules/libwsx

build/venv/ready: tests/python/requirements.txt bindings/python/tests/requirements.txt
	@$(need) python3
	$(PYTHON) -m venv build/venv
	build/venv/bin/python -m pip install -q --disable-pip-version-check $(^:%=-r %)
	@touch $@

build/venv/door: build/venv/ready $(shell find bindings/python/src bindings/python/python core/src -name '*.rs' -o -name '*.py*' -not -name '*.pyc') \
    Cargo.toml core/Cargo.toml bindings/python/Cargo.toml bindings/python/pyproject.toml
	@$(need) cargo
	build/venv/bin/python -m pip install -q --disable-pip-version-check --force-reinstall --no-deps ./bindings/python
	@touch $@

%/node_modules/.package-lock.json: %/package-lock.json
	@$(need) node
	cd $* && npm ci --no-audit --no-fund

# What is installed is what is there: root need not have cargo, nor be let at the sources.
install: ## library, header, pkg-config and CMake files into DESTDIR and PREFIX (/usr/local); after make build
	@for file in $(header) build/libwsx.a build/libwsx.so.$(SOVERSION); do \
	  [ -e "$$file" ] || { echo "libwsx: $$file is missing: run make build first." >&2; exit 1; }; done
	install -d "$(DESTDIR)$(PREFIX)/include" "$(DESTDIR)$(PREFIX)/$(LIBDIR)/pkgconfig" "$(DESTDIR)$(PREFIX)/$(LIBDIR)/cmake/libwsx"
	install -m 644 $(header) "$(DESTDIR)$(PREFIX)/include/"
	install -m 644 build/libwsx.a "$(DESTDIR)$(PREFIX)/$(LIBDIR)/"
	install -m 755 build/libwsx.so.$(SOVERSION) "$(DESTDIR)$(PREFIX)/$(LIBDIR)/libwsx.so.$(VERSION)"
	ln -sf libwsx.so.$(VERSION) "$(DESTDIR)$(PREFIX)/$(LIBDIR)/libwsx.so.$(SOVERSION)"
	ln -sf libwsx.so.$(SOVERSION) "$(DESTDIR)$(PREFIX)/$(LIBDIR)/libwsx.so"
	@fill() { sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@SOVERSION@|$(SOVERSION)|g' -e 's|@PREFIX@|$(PREFIX)|g' \
	  -e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|@NATIVE@|$(native)|g' "ffi/$$1.in" > "$(DESTDIR)$(PREFIX)/$(LIBDIR)/$$2/$$1"; }; \
	fill libwsx.pc pkgconfig; fill libwsx-config.cmake cmake/libwsx; fill libwsx-config-version.cmake cmake/libwsx
	@[ -n "$(DESTDIR)" ] || printf '%s\n' "Now run sudo ldconfig, so that programs find libwsx.so; or, where ldconfig does not look into" \
	  "$(PREFIX)/$(LIBDIR), set LD_LIBRARY_PATH to it or link with -Wl,-rpath and that folder."

installcheck: build ## build strangers' programs against an installed copy, by pkg-config and CMake
	@$(need) pkg-config cmake
	@tests/install/check.sh

# --- Testing. The doors are built first, so that none is left out because it is not there.

test: test-rust test-c test-python test-node test-promises ## all tests in all four languages, and real clients against all four

test-rust:
	@$(need) cargo
	cargo test --workspace
	cargo test -q -p wsx-core --no-default-features
	cargo test --locked --manifest-path bench/Cargo.toml -p wsx-load

test-c: build build/certificates/ca.pem
	@[ -n "$(c_tests)" ] || { echo "libwsx: tests/c holds no tests." >&2; exit 1; }
	@for test in $(c_tests); do echo "$$test"; "$$test"; done

pytest := build/venv/bin/python -m pytest -q -p no:cacheprovider

# The servers of the examples in turn: the first passes all tests, each other one those of a real client's messages.
test-python: build build/certificates/ca.pem door-rust door-python door-node
	$(pytest) tests/python
	WSX_ECHO=target/release/examples/echo $(pytest) tests/python/test_interop.py
	WSX_ECHO="build/venv/bin/python examples/echo.py" $(pytest) tests/python/test_interop.py
	WSX_ECHO="node examples/echo.mjs" $(pytest) tests/python/test_interop.py
	$(pytest) bindings/python/tests

test-node: build build/certificates/ca.pem door-node tests/node/node_modules/.package-lock.json
	cd tests/node && node --test --test-reporter=spec
	cd bindings/node && npm test

test-promises: library build/promises/c build/certificates/ca.pem door-python door-node ## one table of promises, kept by all four doors
	cargo build -q --example promises
	$(pytest) tests/promises --doors c,rust,python,asyncio,node

proxies: library build/promises/c build/certificates/ca.pem door-python door-node ## clients of all four doors through tinyproxy and microsocks, and by names with several addresses
	@$(need) tinyproxy microsocks unshare ip
	cargo build -q --example promises
	$(pytest) tests/proxies --doors c,rust,python,asyncio,node

build/promises/c: tests/promises/actor.c $(wildcard tests/promises/*.h) $(header) build/libwsx.a
	@mkdir -p $(@D)
	$(static)

# The tests' own certificates: cargo knows when their program is stale, and a file says whether it has run.
build/certificates/ca.pem: tests/certificates/certificates.rs
	@$(need) cargo
	cargo run -q --example certificates -- build/certificates

autobahn: build build/certificates/ca.pem ## the Autobahn test suite, strict: build/echo as server, build/autobahn-client as client
	@$(need) python3
	@$(PYTHON) tests/autobahn/run.py

browser: build build/certificates/ca.pem door-rust door-python door-node tests/browser/node_modules/.package-lock.json ## headless Chromium: the chat page over all four servers, and messages over ws and wss (SCREENSHOT=docs/chat.png keeps a picture)
	@$(need) node chromium
	@for server in "$(chat_c)" "$(chat_rust)" "$(chat_python)" "$(chat_node)"; do echo "$$server"; \
	  node tests/browser/chat.mjs -- $$server --page examples/chat.html; done
	cd tests/browser && node --test --test-reporter=spec echo.mjs

budgets: build build/budgets/heartbeat build/budgets/client build/certificates/ca.pem ## instructions, system calls, memory and wake-ups, each with its ceiling (Debian: valgrind, strace; ACCEPT=1 sets them)
	@$(need) python3 valgrind strace
	@$(PYTHON) tests/budgets/run.py $(if $(ACCEPT),--accept)

build/budgets/%: tests/budgets/%.c tests/budgets/program.h $(header) build/libwsx.a
	@mkdir -p $(@D)
	$(static)

bench-parts: ## how long the parts of the engine take: unmasking, parsing, UTF-8, handshakes, compression, timers
	@$(need) cargo
	cargo bench -p wsx-core

# Wants two cores with nothing else to do. BENCH= is for run.py: --quick, --smoke, --rows REGEX, --servers REGEX, --list, --print.
bench: build door-python door-node build/venv/bench ## the servers beside their peers and a raw TCP loop, into bench/RESULTS.md: 32 minutes (BENCH=--quick: 7)
	@$(need) python3 cargo cc node
	@$(PYTHON) bench/run.py $(value BENCH)

bench-calls: build door-python door-node build/venv/bench ## where the time of a small message goes, by system call (Debian: linux-perf)
	@$(need) python3 cargo cc node perf
	@$(PYTHON) bench/calls.py

build/venv/bench: bench/requirements.txt build/venv/ready
	build/venv/bin/python -m pip install -q --disable-pip-version-check -r $<
	@touch $@

memcheck: build build/certificates/ca.pem $(asan) ## the C tests under valgrind (Debian: valgrind) and AddressSanitizer
	@$(need) valgrind
	@for test in $(c_tests); do echo "valgrind $$test"; valgrind -q --error-exitcode=1 --leak-check=full \
	  --errors-for-leak-kinds=definite,possible --suppressions=tests/c/valgrind.supp "$$test"; done
	@for test in $(asan); do echo "$$test"; "$$test"; done

# --- Looking

lint: lint-rust lint-bench lint-header lint-deny ## formatting, clippy, the header and its compilers, layering, licences

lint-rust:
	@$(need) cargo rustfmt clippy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p wsx-core -p libwsx --no-default-features --all-targets -- -D warnings
	cargo test -q -p wsx-core --test layering

lint-bench:
	@$(need) cargo rustfmt clippy
	cargo fmt --manifest-path bench/Cargo.toml --all --check
	cargo clippy --locked --manifest-path bench/Cargo.toml --workspace --all-targets -- -D warnings

lint-header: library
	@$(need) c++ git
	@git diff --exit-code -- $(header) || { echo "libwsx: $(header) is not what ffi/ says: commit the one that the build has written." >&2; exit 1; }
	@for std in c99 c11; do $(CC) -std=$$std -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c $(header); done
	@$(CXX) -std=c++17 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c++ $(header)
	@others=$$(nm -D --defined-only build/libwsx.so | awk '$$2 != "A" && $$3 !~ /^wsx_/ {print $$3}'); \
	  [ -z "$$others" ] || { echo "libwsx: the shared library exports more than wsx_ names: $$others" >&2; exit 1; }

lint-deny: $(filter build/%,$(deny))
	$(deny) --log-level error check bans licenses sources
	@.ci/notices --check

build/tools/bin/cargo-deny:
	@$(need) cargo
	cargo install cargo-deny --version 0.20.2 --locked --profile dev --root build/tools --quiet

clean: ## remove everything that was built or fetched into the project
	rm -rf build target node_modules bindings/node/node_modules bindings/node/*.node tests/node/node_modules \
	  tests/browser/node_modules bench/peers/node/node_modules bench/target

.PHONY: help build library demo door-c door-rust door-python door-node install installcheck test test-rust test-c test-python test-node test-promises proxies autobahn browser budgets bench-parts bench bench-calls memcheck lint lint-rust lint-bench lint-header lint-deny clean
