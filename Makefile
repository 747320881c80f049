# Each target does all of its own set-up on a fresh Debian 12 that has git, make, curl, a C
# compiler and rustup's toolchain; see README.md.
#
#   make demo    a calderad, two tenants, real proofs, who owned which core (minutes)
#   make test    every check, as continuous integration runs it
#   make bench   measures beside all peers, and appends lines to benches/results;
#                PEERS="--peer rapidsnark=PATH" adds provers that are programs of their own;
#                BENCH_MAX_LOG2=12 BENCH_FLIPS=200 keeps it to small sizes and minutes
#   make cuda    compiles the CUDA kernels for all GPUs, with no GPU, into the bundle that lies
#                beside the binary (part of test)
#   make deb     a package for Debian 12, in target/package; NO_CUDA=1 makes it without CUDA kernels
#   make tarball the same for any x86-64 Linux with glibc 2.36 or newer
#   make test-package   both, built twice, installed, upgraded and purged, of the debug build
#   make test-vm   boots a machine in QEMU and tries the package of a release build on it, without KVM and without
#                network: provisioned, judged, killed, upgraded, purged (part of soak)
#   make carried a folder of 50 MiB at most, with a script that tries and measures a box without
#                compiler and without network: target/carried
#   make peers   the peers of a GPU (sppark, snarkrs by CUDA and WebGPU; open-icicle, if ICICLE_SOURCE names a
#                checkout of it), compiled with no GPU, into target/peers: half an hour each, sppark minutes.
#                `make carried` takes along what is there
#   make test-peers     those of them that can compute without a GPU, against ours (needs make peers)
#   make test-threats   takes each line that stops a threat to state units out of a copy of the sources and expects
#                a test to fail; ONLY=revocation tries those with this word (part of soak)
#   make test-fuzz   a minute of each fuzz target but the configuration's, with a nightly toolchain (part of test)
#   make test-asan   unsafe code under AddressSanitizer, with a nightly toolchain (part of soak)
#   make soak    the checks that take long

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help build demo test bench soak interop cuda peers test-peers carried deb tarball test-package \
        test-ansible test-vm check-fmt check-clippy check-doc check-deny test-rust test-dashboard test-fleet test-wgpu test-models \
        test-threats test-fuzz test-asan test-bench

INTEROP := deploy/tests/interop
SEMAPHORE := $(INTEROP)/node_modules/@zk-kit/semaphore-artifacts/semaphore
CLIENT := deploy/client-ts
DASHBOARD := deploy/tests/dashboard
STAGE := .ci/stage
DEPTH ?= 16
BENCH_MAX_LOG2 ?= 20
BENCH_FLIPS ?= 100000
BENCH := cargo run --release --locked -p caldera-benches --features peers

help:
	@sed -n 's/^#   //p' Makefile

build:
	cargo build --release --locked --bins

# snarkjs, circom2 and the Semaphore ceremony keys, pinned by a lock file.
interop: $(INTEROP)/node_modules/.package-lock.json
$(INTEROP)/node_modules/.package-lock.json: $(INTEROP)/package.json $(INTEROP)/package-lock.json
	.ci/tools node
	cd $(INTEROP) && npm ci --no-fund --no-audit --loglevel=error

# The TypeScript compiler and Node's types, pinned by a lock file.
$(CLIENT)/node_modules/.package-lock.json: $(CLIENT)/package.json $(CLIENT)/package-lock.json
	.ci/tools node
	cd $(CLIENT) && npm ci --no-fund --no-audit --loglevel=error

demo: build
	@if $(MAKE) --no-print-directory interop && \
	    node $(INTEROP)/semaphore-witness.mjs $(DEPTH) target/demo-semaphore-$(DEPTH).wtns; then \
	    target/release/caldera demo \
	        --zkey $(INTEROP)/node_modules/@zk-kit/semaphore-artifacts/semaphore-$(DEPTH).zkey \
	        --witness target/demo-semaphore-$(DEPTH).wtns; \
	else \
	    echo "demo: the npm registry could not be reached (or node is missing): running on a synthetic development key instead"; \
	    target/release/caldera demo; \
	fi

test:
	@rm -f target/stages.tsv
	@$(STAGE) tools .ci/tools node deny vulkan cpp nginx nats
	@$(STAGE) fmt $(MAKE) --no-print-directory check-fmt
	@$(STAGE) build cargo build --locked --workspace --all-targets
	@$(STAGE) clippy $(MAKE) --no-print-directory check-clippy
	@$(STAGE) docs $(MAKE) --no-print-directory check-doc
	@$(STAGE) deny $(MAKE) --no-print-directory check-deny
	@$(STAGE) cuda $(MAKE) --no-print-directory cuda
	@$(STAGE) tests $(MAKE) --no-print-directory test-rust
	@$(STAGE) dashboard $(MAKE) --no-print-directory test-dashboard
	@$(STAGE) fleet $(MAKE) --no-print-directory test-fleet
	@$(STAGE) package $(MAKE) --no-print-directory test-package
	@$(STAGE) ansible $(MAKE) --no-print-directory test-ansible
	@$(STAGE) wgpu $(MAKE) --no-print-directory test-wgpu
	@$(STAGE) models $(MAKE) --no-print-directory test-models
	@$(STAGE) fuzz $(MAKE) --no-print-directory test-fuzz
	@$(STAGE) benches $(MAKE) --no-print-directory test-bench

# Fails on a spilt register in BN254's field, NTT and G1 kernels, and where a figure of the record
# has risen. The whole workspace and one of its examples are named so that cargo takes the features, and so the crates, of all tests.
CUDA_BUNDLE := target/cuda/caldera-cuda-kernels.bin
cuda:
	.ci/tools cuda
	mkdir -p target/cuda
	cargo build --locked --workspace --bin caldera-cuda-kernels --example nvtx_double
	target/debug/caldera-cuda-kernels \
	    target/tools/cuda/nvidia/cu13 $(CUDA_BUNDLE) kernels/cuda/cuda/record.tsv
	@for profile in debug release; do \
	    [ ! -d target/$$profile ] || cp $(CUDA_BUNDLE) target/$$profile/; \
	done

# Those kernels that these binaries were built with the sources of.
deb tarball: build $(if $(NO_CUDA),,cuda)
	NO_CUDA=$(NO_CUDA) deploy/debian/build $@ target/release target/package

# Of the build that all tests had.
test-package:
	.ci/tools package
	deploy/debian/test target/debug

# Of the build that all tests had: the role, run by Ansible.
test-ansible:
	.ci/tools ansible
	deploy/ansible/test target/debug

# The role too, on the system that the machine was made of.
VM := target/vm
test-vm: build interop
	.ci/tools vm ansible package
	@[ ! -e $(CUDA_BUNDLE) ] || cp $(CUDA_BUNDLE) target/release/
	deploy/tests/vm/run target/release $(VM)
	rm -rf --one-file-system $(VM)/system && mkdir $(VM)/system
	tar -xf $(VM)/debian-*.tar -C $(VM)/system --exclude './dev/*'
	deploy/ansible/test target/release $(VM)/system

check-fmt:
	cargo fmt --all --check

check-clippy:
	cargo clippy --locked --workspace --all-targets -- -D warnings

check-doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

check-deny:
	target/tools/bin/cargo-deny --locked check licenses bans sources

# In one go: cargo builds the crates below anew for each choice of crates above.
test-rust: interop $(CLIENT)/node_modules/.package-lock.json
	.ci/tools vulkan
	cargo test --locked --workspace --exclude caldera-wgpu

# playwright-core, pinned by a lock file; it drives the browser that is installed.
$(DASHBOARD)/node_modules/.package-lock.json: $(DASHBOARD)/package.json $(DASHBOARD)/package-lock.json
	.ci/tools node
	cd $(DASHBOARD) && npm ci --no-fund --no-audit --loglevel=error

# Of the build that all tests had: the dashboard in a real browser, before a box that proves.
test-dashboard: $(DASHBOARD)/node_modules/.package-lock.json
	.ci/tools chromium
	node $(DASHBOARD)/walk.mjs target/debug "$$(command -v chromium)"

# Alert rules, on series of boxes that are well and of one that is not.
test-fleet:
	.ci/tools promtool
	cd deploy/prometheus && $(CURDIR)/target/tools/bin/promtool check rules caldera.rules.yml && \
	    $(CURDIR)/target/tools/bin/promtool test rules caldera.test.yml && \
	    $(CURDIR)/target/tools/bin/promtool check config --syntax-only prometheus.yml

# On lavapipe, an emulation of a GPU, whose driver compiles each shader for some seconds; one of the
# proofs is for a key of Semaphore's. Fails if the tests take longer than their share of the checks' time, with
# all shaders to compile: no cache of them that is left from before is used. Those of one crate out of a build of all: built
# for itself, cargo would take other features of the crates below, and build those anew.
VULKAN := . target/tools/vulkan/environment
WGPU_SECONDS := 360
test-wgpu: interop
	.ci/tools vulkan
	cargo test --locked --workspace --no-run --lib --test conformance --test proofs
	@tests=$$(cargo test --locked --workspace --no-run --lib --test conformance --test proofs --message-format=json 2> /dev/null | \
	    sed -n 's|.*/kernels/wgpu#caldera-wgpu.*"executable":"\([^"]*\)".*|\1|p') && [ -n "$$tests" ] && \
	$(VULKAN) && rm -rf "$${MESA_SHADER_CACHE_DIR:?}" && mkdir "$$MESA_SHADER_CACHE_DIR" && \
	start=$$(date +%s) && \
	{ cd kernels/wgpu && timeout $(WGPU_SECONDS) bash -c 'for test; do "$$test" || exit; done' bash $$tests; code=$$?; } && \
	echo "test-wgpu: $$(($$(date +%s) - start)) s with all shaders to compile, of $(WGPU_SECONDS)" && \
	{ [ $$code -ne 124 ] || echo "test-wgpu: not done within $(WGPU_SECONDS) s" >&2; } && exit $$code

# Every interleaving of the mailbox and of plans that are taken away, and some hundred of the arbiter's thread with workers that prove:
# seconds each, after minutes of building. Loom's flag is another build of all crates, which takes half the time without
# optimisations; shuttle is a feature of two, in the build that all tests had, whose
# calderad is put back at the end.
LOOM := RUSTFLAGS="--cfg loom" cargo --config profile.dev.opt-level=0 test --locked --target-dir target/loom --test loom
test-models:
	$(LOOM) -p caldera-scheduler
	$(LOOM) -p caldera-kernels
	cargo test --locked --workspace --features caldera-node/shuttle --test shuttle
	cargo build --locked --workspace --all-targets

# Of the same build as all tests, into a folder of its own.
test-threats:
	cargo build --locked --workspace --exclude caldera-wgpu --example threats
	target/debug/examples/threats $(if $(ONLY),--only "$(ONLY)")

test-fuzz:
	.ci/fuzz $(or $(FUZZ_SECONDS),60)

# Minutes of building with another flag.
test-asan:
	.ci/asan

# Of the build that all tests had. Every body once; then 20,000 hand-overs, none of which may take longer than 100 ms.
test-bench:
	.ci/tools nats
	cargo build --locked --workspace --all-targets
	target/debug/caldera-bench once
	target/debug/caldera-bench reallocate --flips 13500 --synthetic 1000 --no-record

# Two builds: arkworks for many threads is other code, even on one thread. The second runs even if
# the first says that a gate was missed. Utilisation is the simulator's, which asks no machine.
SIM := cargo run --release --locked -p caldera-scheduler --bin sim
bench:
	.ci/tools nats
	cargo build --release --locked -p caldera-node -p caldera-fleet --bins
	@one=0; many=0; cores=$$(nproc); \
	all="all --max-log2 $(BENCH_MAX_LOG2) --flips $(BENCH_FLIPS) $(PEERS)"; \
	$(BENCH) -- $$all --threads 1 --states-svg target/states.svg || one=$$?; \
	[ $$cores -eq 1 ] || $(BENCH),parallel -- $$all --threads $$cores || many=$$?; \
	$(SIM) -- --gate || one=1; \
	$(SIM) -- convert scheduler/traces/azure-llm-2023.csv --series reqs_code=financial:4 \
	    --series reqs_conv=retail:4 -o target/azure.csv && $(SIM) -- target/azure.csv || one=1; \
	results=$$(ls -t benches/results/*.jsonl | head -n 1); \
	target/release/caldera-bench plot $$results --output $${results%.jsonl}.svg && \
	cp target/states.svg $${results%.jsonl}.states.svg && \
	echo "measured: $$results, drawn: $${results%.jsonl}.svg, $${results%.jsonl}.states.svg"; \
	exit $$((one | many))

# Somebody else's code with NVIDIA's compiler: no part of the checks.
PEERS_DIR := target/peers
peers:
	benches/peers/build sppark snarkrs $(if $(ICICLE_SOURCE),icicle)

# Proofs by snarkrs' WebGPU backend on lavapipe; and each that needs a GPU says that there is none.
test-peers:
	.ci/tools vulkan
	$(VULKAN) && CALDERA_PEERS=$(CURDIR)/$(PEERS_DIR) \
	    cargo test --locked -p caldera-benches --features built-peers --test peers

# The ICICLE loader is in the programs. Peers that are crates come along, and those of a GPU that have been made; those
# that are programs of their own are given to the script. The programs have most of their code in common: xz finds it
# again over that distance, gzip does not and makes them more than twice as large.
CARRIED := target/carried
CARRIED_KIB_MAX := 51200
carried: cuda
	cargo build --release --locked -p caldera-cli -p caldera-node -p caldera-hwtests -p caldera-benches \
	    --features caldera-benches/peers --bins
	rm -rf $(CARRIED) $(CARRIED)-programs && mkdir -p $(CARRIED) $(CARRIED)-programs
	for program in caldera calderad caldera-hwtest caldera-bench; do \
	    strip -o $(CARRIED)-programs/$$program target/release/$$program || exit 1; \
	done
	cp $(CUDA_BUNDLE) $(CARRIED)-programs/
	@for it in libcaldera_peer_sppark.so libcaldera_peer_snarkrs.so snarkrs icicle; do \
	    if [ -e $(PEERS_DIR)/$$it ]; then \
	        mkdir -p $(CARRIED)-programs/peers && cp -r $(PEERS_DIR)/$$it $(CARRIED)-programs/peers/ || exit 1; \
	    else \
	        echo "carried: without $$it, which make peers makes"; \
	    fi; \
	done
	XZ_OPT=-9 tar -cJf $(CARRIED)/programs.tar.xz -C $(CARRIED)-programs .
	cp hwtests/carried/run $(CARRIED)/
	@kib=$$(du -sk $(CARRIED) | cut -f 1); echo "carried: $(CARRIED), $$kib KiB"; \
	[ $$kib -le $(CARRIED_KIB_MAX) ] || { echo "carried: more than $(CARRIED_KIB_MAX) KiB" >&2; exit 1; }

# A million hand-overs, and a fifth of one on a busy machine; half an hour of each fuzz target;
# AddressSanitizer; a thousand kills; ten minutes of tenants and faults; a ceremony of the circuit of state units; ten million operations of the
# ledger, a year of ten thousand parties within its bars, and a year in which nobody gains by a trick; each line taken out that
# stops a threat to state units; the package on a machine of its own. Before that the WebGPU device, every size of the suite, with and without checks.
soak: interop
	.ci/tools stress vulkan
	cargo build --locked -p caldera-cli -p caldera-node --bins
	$(VULKAN) && CALDERA_WGPU_SOAK=1 cargo test --release --locked -p caldera-wgpu --test conformance
	$(BENCH) -- reallocate --flips 660000 --synthetic 1000
	$(BENCH) -- reallocate --flips 100000 --stress $$(nproc)
	.ci/fuzz 1800 all
	.ci/asan
	CALDERA_KILLS=1000 cargo test --locked -p caldera-tests --test kills -- --nocapture
	cargo build --release --locked -p caldera-node -p caldera-icicle-double --bins --lib
	node $(INTEROP)/semaphore-witness.mjs 1 target/soak-1.wtns
	node $(INTEROP)/semaphore-witness.mjs 16 target/soak-16.wtns
	$(BENCH) -- soak --witness target/soak-1.wtns,target/soak-16.wtns \
	    --zkey $(SEMAPHORE)-1.zkey,$(SEMAPHORE)-16.zkey
	CALDERA_CEREMONY_SOAK=1 cargo test --locked -p caldera-tests --test units snarkjs
	CALDERA_LEDGER_OPERATIONS=10000000 cargo test --release --locked -p caldera-scheduler --test ledger agreement -- --nocapture
	cargo run --release --locked -p caldera-scheduler --no-default-features --example ledger_year -- 50 8760
	cargo run --release --locked -p caldera-scheduler --bin sim -- economy --epochs 8760
	CALDERA_KILLS=1000 cargo test --locked -p caldera-tests --test era nothing_acknowledged -- --nocapture
	CALDERA_FLEET_JOBS=2000 cargo test --locked -p caldera-fleet --test brokers few_are_proved -- --nocapture
	cargo build --locked -p caldera-fleet --example power_cut && sudo target/debug/examples/power_cut
	$(MAKE) --no-print-directory test-threats
	$(MAKE) --no-print-directory test-vm
