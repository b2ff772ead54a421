# onp: build, tests, checks and installation. `make help` lists the targets.
#
# Nothing here may fail while the file is read: `make setup` must work on a machine that has only gcc, make and git.
# Targets that need packages (demo, test) therefore run setup first and then start make again.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDEXPANSION:
.DEFAULT_GOAL := all

BUILD ?= build
SAN ?=
PREFIX ?= /usr/local
DESTDIR ?=
WERROR ?= 1
V ?= 0
CC := gcc
AR := ar

# Objects of a sanitizer build live apart, so that switching back and forth rebuilds nothing.
B := $(BUILD)$(if $(SAN),/san-$(SAN))

ifeq ($(V),0)
Q := @
say = @printf '  %-8s %s\n' '$(1)' '$(2)'
else
Q :=
say = @:
endif

# ---------------------------------------------------------------------------------------------------------------------
# Modules. The one table of who may link whom; tests/lint/includes.awk checks the include lines by the same levels.

MODULES := common nn store http onnx data graph prune expose evaluate agent mitigate baselines jobs api app client forge

DIR_common := common
DIR_app := server
DIR_client := client
DIR_forge := tests/forge
$(foreach m,$(filter-out common app client forge,$(MODULES)),$(eval DIR_$(m) := server/$(m)))

DEPS_common :=
DEPS_nn := common
DEPS_store := common
DEPS_http := common
DEPS_onnx := common nn
DEPS_data := common nn
DEPS_graph := common nn data
DEPS_prune := common nn data graph
DEPS_expose := common nn data
DEPS_evaluate := common nn data
DEPS_agent := common nn graph
DEPS_mitigate := common nn onnx data graph prune expose evaluate agent
DEPS_baselines := $(DEPS_mitigate) mitigate
DEPS_jobs := common store mitigate
DEPS_api := common http jobs store
DEPS_app := common store http onnx data mitigate baselines jobs api
DEPS_client := common
DEPS_forge := common nn onnx data graph prune evaluate
DEPS_pipeline := $(filter-out store http jobs api app client,$(MODULES))
DEPS_bench := $(filter-out app client,$(MODULES))

# System libraries that a module calls itself.
LIBS_common := jansson libsodium nettle
LIBS_nn := openblas dnnl gomp
LIBS_store := sqlite3
LIBS_http := libmicrohttpd libuv gnutls
LIBS_onnx := libprotobuf-c
LIBS_data := libzip spng libturbojpeg
LIBS_jobs := libseccomp
LIBS_api := nettle
LIBS_app := libmicrohttpd libuv
LIBS_client := libcurl

# Above before below: a static archive gives only what was asked for before it.
LINK_ORDER := forge client app api jobs baselines mitigate agent evaluate expose prune graph data onnx http store nn common

# $(call closure,modules): they and all below them, in link order.
walk = $(1) $(foreach m,$(1),$(call walk,$(DEPS_$(m))))
closure = $(filter $(sort $(call walk,$(1))),$(LINK_ORDER))
archives = $(foreach m,$(1),$(B)/lib/$(m).a)
libraries = $(foreach l,$(sort $(foreach m,$(1),$(LIBS_$(m)))),$(LDLIBS_$(l))) -lpthread -lm

# ---------------------------------------------------------------------------------------------------------------------
# Flags

PACKAGE_NAMES := $(sort $(foreach m,$(MODULES),$(LIBS_$(m))) cmocka)
$(foreach l,$(PACKAGE_NAMES),$(eval LDLIBS_$(l) := $(or $(shell pkg-config --libs $(l) 2>/dev/null),-l$(l:lib%=%))))
LDLIBS_openblas := -lopenblas
PACKAGE_CFLAGS := $(sort $(foreach l,$(filter-out openblas,$(PACKAGE_NAMES)),$(shell pkg-config --cflags $(l) 2>/dev/null)))

# -Wformat-truncation guesses sizes after inlining; snprintf() into a bounded buffer is how this tree cuts text.
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wundef \
    -Wpointer-arith -Wcast-qual -Wwrite-strings -Wold-style-definition -Wno-format-truncation $(if $(filter 1,$(WERROR)),-Werror)
SAN_address := -fsanitize=address,undefined -fno-sanitize-recover=undefined
SAN_undefined := -fsanitize=undefined -fno-sanitize-recover=undefined
SAN_thread := -fsanitize=thread
# The same, but the loops over the network's numbers are not watched, which takes nine tenths of the time: a test with jobs takes minutes.
# They share data only by way of engine*.c and pool.c, which are; that they do not tread on each other is for unit-nn under `thread`.
SAN_thread_light := -fsanitize=thread
ARITHMETIC_thread_light := $(patsubst %,server/nn/%.c,kernels% backend_blas backend_depthwise backend_direct% backend_winograd \
    op% loss optim)
# For `make coverage` and, with clang, `make fuzz` alone.
SAN_coverage := --coverage -fprofile-update=atomic
SAN_fuzz := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
ifneq ($(SAN),)
ifeq ($(SAN_$(SAN)),)
$(error SAN is "$(SAN)", expected address, undefined, thread or thread_light)
endif
MODE_CFLAGS := -O2 -g -fno-omit-frame-pointer $(SAN_$(SAN))
MODE_LDFLAGS := $(SAN_$(SAN))
else
MODE_CFLAGS := -O3 -g -D_FORTIFY_SOURCE=2
endif

HARDENING := -fstack-protector-strong -fstack-clash-protection -fPIE
CPPFLAGS_ALL := -I. -I$(B)/gen -D_GNU_SOURCE $(PACKAGE_CFLAGS) $(CPPFLAGS)
CFLAGS_BASE := -std=c11 $(MODE_CFLAGS) $(HARDENING) -fno-common
CFLAGS_ALL := $(CFLAGS_BASE) $(WARNINGS) $(CFLAGS)
LDFLAGS_ALL := $(MODE_LDFLAGS) -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(LDFLAGS)

# The baseline is any x86-64; only the files that say so in their name use more, and they are entered after
# __builtin_cpu_supports() has said yes. No -ffast-math: checks for NaN must work.
NUMERIC_CFLAGS := -fno-math-errno -fno-trapping-math
MACHINE := $(shell uname -m)
KERNELS_avx512 := -mavx512f -mavx512vl -mavx512bw -mavx512dq -mfma -mprefer-vector-width=512
KERNELS_avx2 := -mavx2 -mfma
extra_cflags = $(if $(filter $(ARITHMETIC_$(SAN)),$(1)),-fno-sanitize=thread) \
    $(if $(filter server/nn/% server/agent/% server/expose/%,$(1)),$(NUMERIC_CFLAGS)) \
    $(if $(filter x86_64,$(MACHINE)),$(if $(filter server/nn/kernels_avx512%,$(1)),$(KERNELS_avx512)) \
    $(if $(filter server/nn/kernels_avx2%,$(1)),$(KERNELS_avx2)))

# ---------------------------------------------------------------------------------------------------------------------
# Sources. A file with a main() is a program; the rest of its folder is a library. Empty folders are fine.

MAIN_PATTERN := ^int main *\(
main_of = $(if $(wildcard $(1)/*.c),$(shell grep -lE '$(MAIN_PATTERN)' $(wildcard $(1)/*.c) 2>/dev/null))
MAIN_app := $(call main_of,server)
MAIN_client := $(call main_of,client)
MAIN_forge := $(call main_of,tests/forge)
$(foreach m,$(MODULES),$(eval SRC_$(m) := $(filter-out $(MAIN_$(m)),$(sort $(wildcard $(DIR_$(m))/*.c)))))
$(foreach m,$(MODULES),$(eval OBJ_$(m) := $(SRC_$(m):%.c=$(B)/obj/%.o)))
OBJ_store += $(B)/gen/migrations.o
OBJ_api += $(B)/gen/dashboard.o $(B)/gen/openapi.o
OBJ_agent += $(B)/gen/policy.o
OBJ_onnx += $(B)/gen/onnx.pb-c.o

SUPPORT_SRC := $(sort $(wildcard tests/support/*.c))
SUPPORT := $(B)/lib/support.a

BINARIES := $(if $(MAIN_app),$(B)/onpd) $(if $(MAIN_client),$(B)/onp) $(if $(MAIN_forge),$(B)/onp-forge)

UNIT_MODULES := $(filter $(MODULES),$(notdir $(wildcard tests/unit/*)))
$(foreach m,$(UNIT_MODULES),$(eval UNIT_$(m) := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/unit/$(m)/test_*.c)))))
UNIT_TESTS := $(foreach m,$(UNIT_MODULES),$(UNIT_$(m)))
PIPELINE_TESTS := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/pipeline/test_*.c)))
BENCHES := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/bench/*.c)))
# E2E='api jobs': only these.
E2E ?=
E2E_TESTS := $(if $(E2E),$(E2E:%=tests/e2e/test_%.sh),$(sort $(wildcard tests/e2e/*.sh)))
FUZZ_TARGETS := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
TOOL_TESTS := $(sort $(wildcard tests/lint/test_*.sh))

# ---------------------------------------------------------------------------------------------------------------------
# Building

.PHONY: all all-tests lib help setup test demo lint format bench conformance conformance-networks contract quality install clean FORCE
all: $(BINARIES) lib

lib: $(call archives,$(filter-out app client forge,$(MODULES)))

# Changed flags rebuild everything: the file changes only when they do.
FLAGS_TEXT := $(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(LDFLAGS_ALL) $(NUMERIC_CFLAGS) $(KERNELS_avx512) $(KERNELS_avx2)
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(FLAGS_TEXT)' | cmp -s - $@ || printf '%s\n' '$(FLAGS_TEXT)' > $@

# The generated header must be there before its users are compiled for the first time; later the .d files know.
NEEDS_SCHEMA := $(filter server/onnx/% tests/%,$(SRC_onnx) $(SRC_forge) $(SUPPORT_SRC) \
    $(wildcard tests/conformance/*.c tests/unit/onnx/*.c tests/unit/mitigate/*.c tests/pipeline/*.c tests/bench/*.c))
$(NEEDS_SCHEMA:%.c=$(B)/obj/%.o): | $(B)/gen/onnx.pb-c.h

$(B)/obj/%.o: %.c $(B)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(call extra_cflags,$<) -MMD -MP -c -o $@ $<

# Generated code is not ours to lint: base flags without our warnings.
$(B)/gen/%.o: $(B)/gen/%.c $(B)/flags
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_BASE) -w -MMD -MP -c -o $@ $<

ONNX_PROTO := /usr/include/onnx/onnx.proto
$(B)/gen/onnx.pb-c.c: $(wildcard $(ONNX_PROTO))
	$(call say,PROTOC,$(ONNX_PROTO))
	@mkdir -p $(@D)
	$(Q)protoc-c --proto_path=$(dir $(ONNX_PROTO)) --c_out=$(@D) $(ONNX_PROTO)
$(B)/gen/onnx.pb-c.h: $(B)/gen/onnx.pb-c.c
	@test -f $@ && touch $@

MIGRATIONS := $(sort $(wildcard migrations/*.sql))
DASHBOARD := $(sort $(shell find server/dashboard -type f 2>/dev/null))
OPENAPI := $(sort $(wildcard server/api/openapi.*))
$(B)/gen/migrations.c: $(MIGRATIONS) migrations common/embed.sh
	$(call say,EMBED,migrations)
	@mkdir -p $(@D)
	$(Q)common/embed.sh embedded_migrations migrations $(MIGRATIONS) > $@
$(B)/gen/dashboard.c: $(DASHBOARD) $(wildcard server/dashboard) common/embed.sh
	$(call say,EMBED,server/dashboard)
	@mkdir -p $(@D)
	$(Q)common/embed.sh embedded_dashboard server/dashboard $(DASHBOARD) > $@
$(B)/gen/openapi.c: $(OPENAPI) server/api common/embed.sh
	$(call say,EMBED,openapi)
	@mkdir -p $(@D)
	$(Q)common/embed.sh embedded_openapi server/api $(OPENAPI) > $@

POLICY := $(sort $(wildcard server/agent/weights/*.bin))
$(B)/gen/policy.c: $(POLICY) $(wildcard server/agent/weights) common/embed.sh
	$(call say,EMBED,server/agent/weights)
	@mkdir -p $(@D)
	$(Q)common/embed.sh embedded_policy server/agent/weights $(POLICY) > $@

# An archive is made anew, so that the object of a deleted source does not stay in it. The folder is a prerequisite
# because deleting a source changes no object.
define archive_rule
$(B)/lib/$(1).a: $(OBJ_$(1)) $(wildcard $(DIR_$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(Q)$(AR) rcsD $$@ $(OBJ_$(1))
endef
$(foreach m,$(MODULES),$(eval $(call archive_rule,$(m))))

$(SUPPORT): $(SUPPORT_SRC:%.c=$(B)/obj/%.o) $(wildcard tests/support)
	@mkdir -p $(@D)
	@rm -f $@
	$(Q)$(AR) rcsD $@ $(filter %.o,$^)

, := ,
# $(call link_rule,target,objects,modules,more archives,more libraries)
define link_rule
$(1): $(2) $(4) $(call archives,$(call closure,$(3)))
	$$(call say,LINK,$(1))
	@mkdir -p $$(@D)
	$(Q)$(CC) $(CFLAGS_BASE) $(LDFLAGS_ALL) -o $$@ $(2) $(4) $(call archives,$(call closure,$(3))) \
	    $(call libraries,$(call closure,$(3))) $(5)
endef
object = $(1:%.c=$(B)/obj/%.o)
$(if $(MAIN_app),$(eval $(call link_rule,$(B)/onpd,$(call object,$(MAIN_app)),app)))
$(if $(MAIN_client),$(eval $(call link_rule,$(B)/onp,$(call object,$(MAIN_client)),client)))
$(if $(MAIN_forge),$(eval $(call link_rule,$(B)/onp-forge,$(call object,$(MAIN_forge)),forge)))

# A test program is test_x.c with the files of its folder that are not tests themselves.
helpers_of = $(filter-out $(wildcard $(1)/test_*.c),$(wildcard $(1)/*.c))
test_objects = $(call object,$(patsubst $(B)/%,%.c,$(1)) $(call helpers_of,$(patsubst $(B)/%/,%,$(dir $(1)))))
# These tests put their own functions in the place of others.
WRAP_test_faults := write fsync fdatasync link rename fchmod mkdir
WRAP_test_clock_jumps := clock_wall_ms
fault_flags = $(patsubst %,-Wl$(,)--wrap=%,$(WRAP_$(notdir $(1))))
$(foreach m,$(UNIT_MODULES),$(foreach t,$(UNIT_$(m)),$(eval \
    $(call link_rule,$(t),$(call test_objects,$(t)),$(m),$(SUPPORT),$(LDLIBS_cmocka) $(call fault_flags,$(t))))))
$(foreach t,$(PIPELINE_TESTS),$(eval \
    $(call link_rule,$(t),$(call test_objects,$(t)),pipeline $(DEPS_pipeline),$(SUPPORT),$(LDLIBS_cmocka))))
$(foreach t,$(BENCHES),$(eval \
    $(call link_rule,$(t),$(call object,$(t:$(B)/%=%.c)),bench $(DEPS_bench),$(SUPPORT))))

# The trainer of the policy, and the ablation of the search.
POLICY_TOOLS := $(B)/tests/policy/train $(B)/tests/policy/ablation
$(foreach t,$(POLICY_TOOLS),$(eval $(call link_rule,$(t),$(call object,$(t:$(B)/%=%.c)),mitigate)))

# A target is linked with libFuzzer in that build, with a program that replays files in all others.
FUZZ_MODULE_onnx := onnx
FUZZ_MODULE_npy := data
FUZZ_MODULE_samples := data
FUZZ_MODULE_headers := api
FUZZ_MODULE_request := api
FUZZ_MODULE_job_request := api
FUZZ_MODULE_message := jobs
FUZZ_MODULE_config := app
fuzz_module = $(FUZZ_MODULE_$(patsubst fuzz_%,%,$(notdir $(1))))
$(foreach t,$(FUZZ_TARGETS),$(eval $(call link_rule,$(t),$(call object,$(t:$(B)/%=%.c)) \
    $(if $(filter fuzz,$(SAN)),,$(call object,tests/fuzz/replay.c)),$(call fuzz_module,$(t)),,$(if $(filter fuzz,$(SAN)),-fsanitize=fuzzer))))

CONFORMANCE := $(B)/tests/conformance/run
$(eval $(call link_rule,$(CONFORMANCE),$(call object,tests/conformance/run.c),onnx))
CONFORMANCE_UNITS := $(B)/tests/conformance/units
$(eval $(call link_rule,$(CONFORMANCE_UNITS),$(call object,tests/conformance/units.c),onnx prune))

all-tests: all $(FUZZ_TARGETS) $(UNIT_TESTS) $(PIPELINE_TESTS) $(BENCHES) $(POLICY_TOOLS)

-include $(shell find $(B)/obj $(B)/gen -name '*.d' 2>/dev/null)

# ---------------------------------------------------------------------------------------------------------------------
# Tests. `make test` sets up first and starts make again, so that the library flags are read after the packages came.

# OpenBLAS is not instrumented: how its threads hand over work looks like races. Jobs run it with one, too.
# Slow builds are given more time, as a whole and for each thing that a test waits for.
SAN_ENV := ONP_FORGED=$(abspath $(BUILD))/forge-test ONP_TEST_TIMEOUT=$${ONP_TEST_TIMEOUT:-$(if $(SAN),2400,900)} ONP_TEST_PATIENCE=$${ONP_TEST_PATIENCE:-$(if $(SAN),6,1)} \
    ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:strict_string_checks=1 \
    UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 $(if $(SAN),OPENBLAS_NUM_THREADS=1)

unit-%: $$(UNIT_$$*)
	$(if $(UNIT_$*),,$(error there is no test in tests/unit/$*))
	$(Q)ONP_BUILD=$(B) $(SAN_ENV) tests/run $(UNIT_$*)

pipeline: all $(PIPELINE_TESTS)
	$(Q)ONP_BUILD=$(B) $(SAN_ENV) tests/run $(PIPELINE_TESTS)

e2e: all
	$(Q)ONP_BUILD=$(B) $(SAN_ENV) tests/run $(E2E_TESTS)

test:
	$(Q)$(MAKE) --no-print-directory setup
	$(Q)$(MAKE) --no-print-directory test-built

# The dashboard in chromium; says so, and does nothing, where that, node or npm is missing. Screenshots: $(B)/browser/shots.
test-browser: all
	$(Q)ONP_BUILD=$(B) ONP_TEST_TIMEOUT=$${ONP_TEST_TIMEOUT:-900} tests/run tests/browser/test_browser.sh

# The long form of tests/e2e/test_kill.sh; KILL_SEED chooses the points.
test-kill: all
	$(Q)ONP_BUILD=$(B) ONP_TEST_TIMEOUT=3600 KILL_POINTS=20 tests/run tests/e2e/test_kill.sh

.PHONY: test-built test-browser test-kill pipeline e2e
test-built: all-tests
	$(Q)ONP_BUILD=$(B) $(SAN_ENV) tests/run $(TOOL_TESTS) tests/fuzz/test_replay.sh $(UNIT_TESTS) $(PIPELINE_TESTS) $(E2E_TESTS)

bench: all $(BENCHES)
	$(Q)for program in $(BENCHES); do printf '== %s\n' "$$program"; "$$program" || exit 1; done

# Whole networks, NETWORKS="resnet18 ..." or all of them: minutes, and gigabytes for a moment. See networks.sh for what it needs.
NETWORKS ?=
conformance-networks: $(CONFORMANCE) $(CONFORMANCE_UNITS)
	$(Q)tests/conformance/networks.sh $(B) $(filter-out all,$(NETWORKS))

# Latencies, uploads, streams and long histories of a running onpd; PARTS chooses (see load.sh).
.PHONY: load
load: all
	$(Q)ONP_BUILD=$(B) tests/bench/load.sh

# The ONNX project's own cases for every operator that the lowering knows; needs Debian's python3-onnx. With NETWORKS=all (or
# names) whole networks first.
CONFORMANCE_CASES := $(B)/conformance
conformance: $(CONFORMANCE) $(if $(NETWORKS),conformance-networks)
	$(Q)rm -rf $(CONFORMANCE_CASES)
	$(Q)/usr/bin/python3 tests/conformance/generate.py $(CONFORMANCE_CASES) \
	    $$(sed -n '/onnx_operators\[\]/,/};/s/^ *"\([A-Za-z]*\)",$$/\1/p' server/onnx/onnx_lower.c)
	$(Q)$(CONFORMANCE) --skipped tests/conformance/skipped.txt $(CONFORMANCE_CASES)

HOSTILE := $(B)/tests/hostile/hostile
$(eval $(call link_rule,$(HOSTILE),$(call object,tests/hostile/hostile.c),data))

# COUNT=10000 SEED=1
.PHONY: test-hostile
test-hostile: all $(HOSTILE)
	$(Q)ONP_BUILD=$(B) $(SAN_ENV) $(if $(SAN),ASAN_ROOM=524288) ONP_TEST_TIMEOUT=7200 COUNT=$(COUNT) SEED=$(SEED) tests/run tests/hostile/run.sh

# All tests in each of these builds; RUNS='thread' only that, TESTS='unit-jobs e2e' only these.
RUNS ?= address undefined thread
.PHONY: sanitize
sanitize:
	$(Q)failed=; for run in $(RUNS); do printf '== %s\n' "$$run"; \
	    $(MAKE) --no-print-directory SAN=$$run $(or $(TESTS),test-built) || failed="$$failed $$run"; done; \
	    [ -z "$$failed" ] || { printf 'failed under:%s\n' "$$failed"; exit 1; }

# Children without a sandbox, which would not let them write their counts. TESTS='unit-onnx unit-http': only these.
.PHONY: coverage
coverage:
	$(Q).ci/setup coverage
	$(Q)ONP_SANDBOX=off $(MAKE) --no-print-directory SAN=coverage $(or $(TESTS),test-built)
	$(Q)gcovr --root . --object-directory $(B)/san-coverage --filter 'common/|server/|client/' --exclude-throw-branches \
	    --gcov-ignore-parse-errors --sort-percentage --print-summary

.PHONY: soak
soak: all
	$(Q)ONP_BUILD=$(B) $(SAN_ENV) ONP_TEST_TIMEOUT=$$(($(SECONDS) + 900)) SECONDS_OF_SOAK=$(SECONDS) tests/run tests/soak.sh

# Each target for SECONDS; TARGETS='onnx npy' runs only these.
SECONDS ?= 60
fuzz:
	$(Q).ci/setup fuzz
	$(Q)$(MAKE) --no-print-directory SAN=fuzz CC=clang WERROR=0 fuzz-built

.PHONY: fuzz fuzz-built
fuzz-built: $(FUZZ_TARGETS)
	$(Q)tests/fuzz/run $(B) $(SECONDS) $(TARGETS)

# Node 20 and its packages (some 200, into the build folder): openapi.yaml is linted and compared with the real server.
contract: all
	$(Q)tests/contract/run.sh $(B)

quality: all
	$(Q)ONP_BUILD=$(B) tests/quality.sh

# The weights of the built-in policy, trained anew, and what each part of the search is worth (see the two scripts).
.PHONY: policy ablation
policy: all $(POLICY_TOOLS)
	$(Q)ONP_BUILD=$(B) tests/policy/make.sh

ablation: all $(POLICY_TOOLS)
	$(Q)ONP_BUILD=$(B) tests/policy/ablation.sh

demo:
	$(Q)$(MAKE) --no-print-directory setup
	$(Q)$(MAKE) --no-print-directory all
	$(Q)ONP_BUILD=$(B) MODEL='$(MODEL)' SAMPLES='$(SAMPLES)' PROBE='$(PROBE)' deploy/demo.sh

# ---------------------------------------------------------------------------------------------------------------------
# Setting up, checking, installing

setup:
	$(Q).ci/setup build

# clang-tidy needs the generated headers and the flags of the project.
lint:
	$(Q).ci/setup lint
	$(Q)$(MAKE) --no-print-directory lint-ready

.PHONY: lint-ready
lint-ready: $(B)/gen/onnx.pb-c.h
	$(Q)LINT_CPPFLAGS='$(CPPFLAGS_ALL)' LINT_CACHE='$(B)/lint' tests/lint/run

format:
	$(Q).ci/setup lint
	$(Q)clang-format -i $$(git ls-files --cached --others --exclude-standard '*.c' '*.h')

MAN_PAGES = $(wildcard deploy/man/*.[1-8] docs/man/*.[1-8])
# Beside the programs: completion and the systemd unit where their readers look, the rest of deploy/ under share/onp.
SHARE := $(DESTDIR)$(PREFIX)/share
DEPLOY_FILES := onpd.json onpd.md compose.yaml nginx/onpd.conf prometheus/onpd.rules.yaml grafana/onpd.json pipeline/repair.sh \
    pipeline/repair.py pipeline/github-actions.yaml pipeline/argo.yaml
install: all
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(BINARIES) $(DESTDIR)$(PREFIX)/bin/
	$(Q)$(MAKE) --no-print-directory install-files

.PHONY: install-files
install-files:
	$(foreach f,$(DEPLOY_FILES),install -D -m $(if $(filter %.sh %.py,$(f)),755,644) deploy/$(f) $(SHARE)/onp/$(f) &&) true
	install -D -m 644 deploy/completion/onp.bash $(SHARE)/bash-completion/completions/onp
	install -D -m 644 deploy/completion/_onp $(SHARE)/zsh/vendor-completions/_onp
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(SHARE)/doc/onp
	sed 's#/usr/local/bin/#$(PREFIX)/bin/#' deploy/onpd.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/onpd.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/onpd.service
	install -m 644 $(wildcard LICENSE README.md SECURITY.md CHANGELOG.md docs/*.md) $(SHARE)/doc/onp/
	$(foreach p,$(MAN_PAGES),install -D -m 644 $(p) \
	    $(SHARE)/man/man$(subst .,,$(suffix $(p)))/$(notdir $(p)) &&) true

clean:
	rm -rf $(BUILD)

help:
	@printf '%s\n' \
	    'make                 build onpd (server), onp (client), onp-forge into $(BUILD)/' \
	    'make setup           install the Debian packages that are missing' \
	    'make demo            forge a backdoored model, repair it, show before and after' \
	    '                     (MODEL=m.onnx SAMPLES=clean.npz PROBE=probe.npz: your own files)' \
	    'make test            all tests; last line "N passed, N failed"' \
	    'make unit-MODULE     unit tests of one module: $(UNIT_MODULES)' \
	    'make pipeline e2e    the other tests' \
    'make test-browser    the dashboard in chromium (.ci/setup browser installs it)' \
	    'make test-kill       kill -9 at 20 points under load; minutes' \
	    'make lint format     check, and format, the sources' \
	    'make test-hostile    10000 generated bad inputs against a live onpd (COUNT, SEED)' \
    'make sanitize        all tests under the address, undefined and thread sanitizers (RUNS, TESTS, E2E)' \
    'make coverage        run the tests counting lines and branches (TESTS=unit-http: only some)' \
    'make soak            mixed load for SECONDS=60' \
    'make fuzz            fuzz what reads bytes of strangers (SECONDS=60 each)' \
    'make bench quality   measure speed, and results on real models' \
    'make policy ablation train the built-in policy; what each part of the search is worth' \
	    'make contract        compare the server with openapi.yaml (needs node 20)' \
	    'make load            measure latencies, uploads, streams against their goals (PARTS="polls busy")' \
	    'make install         to $$(DESTDIR)$$(PREFIX), default /usr/local' \
	    'make clean           remove $(BUILD)/' \
	    'settings: SAN=address|undefined|thread|thread_light  BUILD=dir  V=1  WERROR=0'
