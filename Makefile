# neap: `make` builds ./neap; `make demo` shows it; `make test` proves it.

# Settings, each may be given on the command line -----------------------------
PREFIX  = /usr/local
CC      = gcc
LUAC    = luac5.4
OPT     = -O2 -g
WARN    = -Wall -Wextra -Werror
V       = 0

# No need to change anything below ============================================

VERSION = 0.1.0
PACKAGES = lua5.4 libuv libpq sqlite3 libcrypto jansson libutf8proc
FLOORS  = base loop drive guard script bind cli

# The `deps` target makes these available on a machine that has none of them.
PKG    := $(shell pkg-config --exists $(PACKAGES) 2>/dev/null && echo yes)
ifeq ($(PKG),yes)
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES))
PKG_LIBS   := $(shell pkg-config --libs $(PACKAGES)) -lpg_query
endif

CFLAGS_ALL = -std=c11 -D_GNU_SOURCE -DNEAP_VERSION='"$(VERSION)"' -DNEAP_SHARE='"$(PREFIX)/share/neap"' \
             -Iruntime $(WARN) $(PKG_CFLAGS) $(CFLAGS)

BUILD   = build/$(KIND)
KIND    = release
SOURCES = $(foreach floor,$(FLOORS),$(wildcard runtime/$(floor)/*.c))
OBJECTS = $(SOURCES:runtime/%.c=$(BUILD)/%.o)
STDLIB  = $(shell find stdlib -name '*.lua' | LC_ALL=C sort)

ifeq ($(V),0)
Q = @
say = @printf '  %-5s %s\n' $(1) $(2)
endif

all: neap

neap: $(OBJECTS) $(BUILD)/main.o $(BUILD)/stdlib.o
	$(call say,LINK,$@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -o $@.part $^ $(PKG_LIBS) && mv $@.part $@

$(BUILD)/%.o: runtime/%.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(OPT) -MMD -MP -c -o $@ $<

# The standard library travels inside the binary, as bytecode in one C file.
$(BUILD)/stdlib.c: $(STDLIB) tests/support/embed.lua
	$(call say,LUAC,stdlib)
	$(Q)mkdir -p $(@D)
	$(Q)lua5.4 tests/support/embed.lua $@ $(STDLIB)

$(BUILD)/stdlib.o: $(BUILD)/stdlib.c
	$(Q)$(CC) $(CFLAGS_ALL) $(OPT) -c -o $@ $<

# The test interpreter: the same objects with sanitizers or coverage, a full Lua state and the library T.
TEST_SOURCES = $(wildcard tests/support/*.c)
test-interpreter: $(BUILD)/neap-test
$(BUILD)/neap-test: $(OBJECTS) $(TEST_SOURCES:tests/support/%.c=$(BUILD)/support/%.o) $(BUILD)/stdlib.o
	$(call say,LINK,$@)
	$(Q)$(CC) $(OPT) $(LDFLAGS) -rdynamic -o $@ $^ $(PKG_LIBS)

$(BUILD)/support/%.o: tests/support/%.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS_ALL) $(OPT) -Itests/support -MMD -MP -c -o $@ $<

clean:
	$(Q)rm -rf build neap

-include $(wildcard build/*/*/*.d build/*/*.d)

.PHONY: all clean test-interpreter
