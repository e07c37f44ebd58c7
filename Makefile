# SPDX-License-Identifier: GPL-2.0
#
#   make             p2pmem.ko for the running kernel (or KDIR=DIRECTORY)
#   make install     install it for that kernel
#
# Everything below runs in the sandbox, which is set up at the first use:
#
#   make demo        see an RDMA application use an emulated drive's memory
#   make check       every test; ends with a line of counts
#   make check-debug the tests in the guest on a kernel that looks for bugs (KERNEL=kasan, or kcsan)
#   make stress      recycle memory and look for a word in a wrong place (SECONDS=60, CYCLES=)
#   make teardown    the same while the device goes away and comes back (CYCLES=50)
#   make fuzz        random system calls (SECONDS=600)
#                    all three also take SEED= and KERNEL=stock, kasan or kcsan
#   make bench       measure it beside the kernel's own allocator and ordinary memory (ROUNDS=11; QUICK=1: fewer,
#                    and it fails if something has become much worse than in bench/)
#   make shell       a shell in the guest
#   make module      p2pmem.ko for the guest's kernel
#   make selftests   the tests' own program
#   make fmt         check the formatting of Rust code (FIX=1: correct it)
#   make clippy      lint the module and the selftests
#   make clean       remove what was built in this directory

KDIR ?= /lib/modules/$(shell uname -r)/build

kbuild = $(MAKE) -C "$(KDIR)" M="$(CURDIR)"
sandbox := $(if $(P2PMEM_INSIDE),,scripts/sandbox run)
cargo_flags := --release --locked --manifest-path selftests/Cargo.toml
rust_files = $(shell find src selftests/*.rs selftests/src selftests/tests -name '*.rs' ! -name generated.rs)

all:
	@scripts/check-kernel "$(KDIR)"
	+$(kbuild) modules

install: all
	+$(kbuild) modules_install

demo: selftests
	scripts/vm --timeout 900 -- scripts/demo

check:
	@scripts/check

check-debug: KERNEL = kasan
check-debug:
	@scripts/check debug "$(KERNEL)"

stress: SECONDS = 60
teardown: CYCLES = 50
fuzz: SECONDS = 600
stress teardown fuzz: KERNEL = stock
stress teardown fuzz: in_guest = scripts/vm --kernel $(KERNEL) --memory 4G --timeout $(if $1,$$(($1 + 1800)),7200) -- \
	$(if $(filter kasan,$(KERNEL)),scripts/guest-leaks) selftests/target/release

stress: selftests
	$(call in_guest,$(SECONDS))/p2pmem-stress --seconds $(SECONDS) $(addprefix --cycles=,$(CYCLES)) $(addprefix --seed=,$(SEED))

teardown: selftests
	$(in_guest)/p2pmem-stress --teardown $(CYCLES) $(addprefix --seed=,$(SEED))
	$(in_guest)/p2pmem-stress --teardown $(CYCLES) --slot $(addprefix --seed=,$(SEED))

fuzz: selftests
	$(call in_guest,$(SECONDS))/p2pmem-fuzz --seconds $(SECONDS) $(addprefix --seed=,$(SEED))

bench: selftests
	scripts/bench $(if $(QUICK),quick,$(ROUNDS))

shell:
	scripts/vm

module:
	@$(sandbox) make --no-print-directory $(if $(findstring s,$(firstword -$(MAKEFLAGS))),-s) all

selftests:
	$(sandbox) cargo build $(cargo_flags)

fmt:
	@$(sandbox) rustfmt --edition 2021 $(if $(FIX),,--check) $(rust_files)

# Module and lints are built into the same objects, so that one run makes the other's stale.
clippy:
ifdef P2PMEM_INSIDE
	+$(kbuild) CLIPPY=1 W=e modules
	cargo clippy $(cargo_flags) --all-targets -- -D warnings
else
	@$(sandbox) make --no-print-directory clippy
endif

clean:
	find . -path ./.git -prune -o \( -name '*.o' -o -name '.*.cmd' -o -name '*.ko' -o -name '*.mod' -o -name '*.mod.c' \
		-o -name modules.order -o -name Module.symvers -o -name generated.rs \) -exec rm -f {} +
	rm -rf selftests/target

.PHONY: all install demo check check-debug stress teardown fuzz bench shell module selftests fmt clippy clean
