# neap: `make` builds ./neap; `make demo` shows it; `make test` proves it.

# Settings, each may be given on the command line -----------------------------
PREFIX  = /usr/local
DESTDIR =
CC      = gcc
OPT     = -O2 -g
WARN    = -Wall -Wextra -Werror
V       = 0
JOBS    = $(shell nproc)

# No need to change anything below ============================================

VERSION = 0.1.0
PACKAGES = lua5.4 libuv libpq sqlite3 libcrypto jansson libutf8proc
FLOORS  = base loop drive guard script bind cli

# The `deps` target makes these available on a machine that has none of them.
PKG    := $(shell pkg-config --exists $(PACKAGES) 2>/dev/null && echo yes)
ifeq ($(PKG),yes)
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES))
# Lua, SQLite and two small ones travel inside the binary: binding their symbols is a fifth of a start. Of libcrypto only the digests do, so that
# none of it is loaded with them. The rest is loaded when it is first used: drive/lib*.c, drive/hiredis.c, guard/pg_query.c.
INSIDE     = lua5.4 sqlite3 jansson libutf8proc
PKG_LIBS   := -Wl,-Bstatic $(shell pkg-config --libs-only-l $(INSIDE)) -Wl,-Bdynamic $(shell pkg-config --libs libuv) -lm
DIGESTS    = -l:libcrypto.a
LIMIT_LIBS := $(shell pkg-config --libs $(PACKAGES))
PG_QUERY   := $(shell objdump -p "$$($(CC) -print-file-name=libpg_query.so)" 2>/dev/null | sed -n 's/.*SONAME *//p')
HIREDIS    := $(shell objdump -p "$$($(CC) -print-file-name=libhiredis.so)" 2>/dev/null | sed -n 's/.*SONAME *//p')
endif

# One tree of objects per kind: `make KIND=asan binary test-interpreter`.
KIND    = release
BUILD   = build/$(KIND)
BINARY  = $(BUILD)/neap
ifeq ($(KIND),release)
BINARY  = neap
else ifeq ($(KIND),debug)
KIND_FLAGS = -O0 -DNEAP_DEBUG
else ifeq ($(KIND),asan)
KIND_FLAGS = -O1 -DNEAP_DEBUG -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
else ifeq ($(KIND),cover)
KIND_FLAGS = -O0 -DNEAP_DEBUG --coverage -fprofile-abs-path -fprofile-update=atomic
else ifeq ($(KIND),fuzz)
CC         = clang
KIND_FLAGS = -O1 -DNEAP_DEBUG -DNEAP_LIBFUZZER -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif

CFLAGS_ALL = -std=c11 -D_GNU_SOURCE -DNEAP_VERSION='"$(VERSION)"' -DNEAP_SHARE='"$(PREFIX)/share/neap"' \
             -DNEAP_PG_QUERY='"$(PG_QUERY)"' -DNEAP_HIREDIS='"$(HIREDIS)"' \
             -Iruntime $(WARN) $(PKG_CFLAGS) $(OPT) $(KIND_FLAGS) $(CFLAGS)
LINK       = $(CC) $(OPT) $(KIND_FLAGS) $(LDFLAGS)

SOURCES = $(foreach floor,$(FLOORS),$(wildcard runtime/$(floor)/*.c))
OBJECTS = $(SOURCES:runtime/%.c=$(BUILD)/%.o)
STDLIB  = $(shell find stdlib -name '*.lua' | LC_ALL=C sort)
SUPPORT = $(wildcard tests/support/*.c)
TARGETS = $(wildcard tests/fuzz/*.c)

ifeq ($(V),0)
Q = @
say = @printf '  %-5s %s\n' $(1) $(2)
MAKEFLAGS += --no-print-directory
endif

all: neap

# ---- building ----------------------------------------------------------------

binary: $(BINARY)

$(BINARY): $(OBJECTS) $(BUILD)/main.o $(BUILD)/stdlib.o
	$(call say,LINK,$@)
	$(Q)$(LINK) -Wl,--export-dynamic-symbol=_gnutls_global_init_skip -o $@.part $^ $(PKG_LIBS) $(DIGESTS) && mv $@.part $@

# Objects are made again when a setting changes, PREFIX among them.
$(BUILD)/settings: force
	$(Q)mkdir -p $(@D)
	$(Q)printf '%s\n' '$(subst ','"'"',$(CC) $(CFLAGS_ALL))' | cmp -s - $@ || printf '%s\n' '$(subst ','"'"',$(CC) $(CFLAGS_ALL))' >$@

$(BUILD)/%.o: runtime/%.c $(BUILD)/settings
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# The standard library travels inside the binary, as bytecode in one C file.
$(BUILD)/stdlib.c: $(STDLIB) tests/support/embed.lua
	$(call say,LUAC,stdlib)
	$(Q)mkdir -p $(@D)
	$(Q)lua5.4 tests/support/embed.lua $@ $(STDLIB)
	$(Q)printf 'const char neap_stdlib_hash[] = "%s";\n' "$$(cat $(STDLIB) | sha256sum | cut -d' ' -f1)" >>$@

$(BUILD)/stdlib.o: $(BUILD)/stdlib.c
	$(Q)$(CC) $(CFLAGS_ALL) -c -o $@ $<

# The test interpreter: the same objects, a full Lua state and the library T, whose SSH server needs all of libcrypto.
test-interpreter: $(BUILD)/neap-test

$(BUILD)/neap-test: $(OBJECTS) $(SUPPORT:tests/support/%.c=$(BUILD)/support/%.o) $(TARGETS:tests/fuzz/%.c=$(BUILD)/fuzz/%.o) $(BUILD)/stdlib.o
	$(call say,LINK,$@)
	$(Q)$(LINK) -rdynamic -o $@ $^ $(PKG_LIBS) -lcrypto

$(BUILD)/support/%.o: tests/support/%.c $(BUILD)/settings
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -Itests/support -MMD -MP -c -o $@ $<

$(BUILD)/fuzz/%.o: tests/fuzz/%.c $(BUILD)/settings
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -Itests/fuzz -MMD -MP -c -o $@ $<

# One fuzzer per target, with KIND=fuzz: the floors without Lua.
fuzzers: $(TARGETS:tests/fuzz/%.c=$(BUILD)/fuzzer-%)

$(BUILD)/fuzzer-%: $(BUILD)/fuzz/%.o $(filter $(BUILD)/base/% $(BUILD)/loop/% $(BUILD)/drive/% $(BUILD)/guard/%,$(OBJECTS))
	$(call say,LINK,$@)
	$(Q)$(LINK) -fsanitize=fuzzer -o $@ $^ $(PKG_LIBS) $(DIGESTS)

# ---- a machine that has nothing ----------------------------------------------

# What is missing of the packages that building, testing and showing need. Does nothing when all are there.
deps:
	$(Q)sh tests/support/deps.sh

# The migration tools the tests and the demo drive; skipped aloud when there is no npm or no registry.
tools:
	$(Q)sh tests/support/tools/install.sh

# ---- showing and proving -----------------------------------------------------

demo: deps
	$(Q)$(MAKE) -j$(JOBS) neap tools
	$(Q)$(MAKE) -j$(JOBS) KIND=debug test-interpreter
	$(Q)build/debug/neap-test tests/support/demo.lua

test: deps
	$(Q)$(MAKE) -j$(JOBS) neap tools
	$(Q)$(MAKE) -j$(JOBS) KIND=debug test-interpreter
	$(Q)sh tests/support/test.sh build/debug/neap-test ./neap

# Everything, the sweeps that take hours included.
check-long: deps
	$(Q)$(MAKE) -j$(JOBS) neap tools
	$(Q)$(MAKE) -j$(JOBS) KIND=debug test-interpreter
	$(Q)NEAP_TEST_EXCLUDE= NEAP_TEST_LIMIT=6h sh tests/support/test.sh build/debug/neap-test ./neap

# AddressSanitizer and UBSan, without the tests that move gigabytes or kill -9. What is freed stays for a while, so specs that
# see ASAN_OPTIONS do not count memory, and the suite may take three times as long.
check-asan: deps tools
	$(Q)$(MAKE) -j$(JOBS) KIND=asan binary test-interpreter
	$(Q)ASAN_OPTIONS=quarantine_size_mb=32 NEAP_TEST_EXCLUDE=bulk,kill,long NEAP_TEST_LIMIT=2h sh tests/support/test.sh build/asan/neap-test build/asan/neap

# What the tests reach, per floor; fails when the guard and the journal are below 95 % of branches, exceptions named.
cover: deps tools
	$(Q)$(MAKE) -j$(JOBS) KIND=cover binary test-interpreter
	$(Q)find build/cover -name '*.gcda' -delete
	$(Q)NEAP_TEST_EXCLUDE=kill,long sh tests/support/test.sh build/cover/neap-test build/cover/neap; status=$$?; \
	gcovr --root . --object-directory build/cover --filter runtime/ --exclude-unreachable-branches --exclude-throw-branches \
	  --json build/cover/coverage.json && build/cover/neap-test tests/support/cover.lua build/cover/coverage.json && exit $$status

# Every target of tests/fuzz for FUZZ_SECONDS, from the corpora in tests/fuzz/corpus; what crashes one is kept and fails.
FUZZ_SECONDS = 30

fuzz: deps
	$(Q)sh tests/fuzz/deps.sh
	$(Q)$(MAKE) -j$(JOBS) KIND=fuzz fuzzers
	$(Q)sh tests/fuzz/run.sh build/fuzz $(FUZZ_SECONDS) $(TARGETS:tests/fuzz/%.c=%)

lint: deps
	$(Q)$(MAKE) -j$(JOBS) neap
	$(Q)$(MAKE) -j$(JOBS) KIND=debug test-interpreter
	$(Q)sh tests/support/lint.sh

# What neap costs, as ratios to programs that do only the work (tests/bench/limit/*.c) and to the tools that are installed.
LIMITS = $(patsubst tests/bench/limit/%.c,build/bench/%,$(wildcard tests/bench/limit/*.c))

bench: deps
	$(Q)$(MAKE) -j$(JOBS) neap
	$(Q)$(MAKE) -j$(JOBS) KIND=release test-interpreter
	$(Q)$(MAKE) -j$(JOBS) limits
	$(Q)sh tests/bench/run.sh build/release/neap-test

limits: $(LIMITS)

build/bench/%: tests/bench/limit/%.c $(BUILD)/settings
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) -o $@ $< -Wl,--as-needed $(LIMIT_LIBS) -lssh2 -lhiredis

# A Debian made from nothing in a chroot: make demo and make test on a clean clone. Root only.
check-fresh:
	$(Q)sh tests/support/fresh.sh

# ---- installing --------------------------------------------------------------

install: neap
	$(Q)sh tests/support/install.sh "$(DESTDIR)$(PREFIX)"

clean:
	$(Q)rm -rf build neap neap.part

-include $(wildcard $(BUILD)/*.d $(BUILD)/*/*.d)

force:
.PHONY: all binary test-interpreter deps tools demo test check-long check-asan cover fuzz fuzzers lint bench limits check-fresh install clean force
