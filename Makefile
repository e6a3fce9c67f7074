# mydocker, stage by stage. make alone lists what there is to make.

CH   ?= ch05-overlayfs
ARGS ?= $(shell [ -t 0 ] && echo -it || echo -i) busybox sh

# What starts containers runs as root, with the caller's go.
SUDO = $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env=PATH,MYDOCKER_ROOT env PATH="$$PATH")

STAGES = $(wildcard ch[0-9][0-9]-* final)
LINT_VERSION = v2.15.0

# No cgo in any program: a stage runs wherever its kernel does.
export CGO_ENABLED = 0

.DEFAULT_GOAL = help
.PHONY: help run image build test test-all test-vm test-negative test-crash test-mutants bench forward diff lock lint ci clean go

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: image ## run a stage: make run CH=ch04-rootfs ARGS='-it busybox ls /'
	@$(SUDO) go run ./$(CH) run $(ARGS)

image: go ## make the image busybox, in /var/lib/mydocker/images
	@$(SUDO) scripts/image.sh

build: go ## build every stage into bin/
	@for stage in $(STAGES); do go build -o bin/$$stage ./$$stage || exit; done

test: ## run the tests of one stage: make test CH=ch03-cgroups
	@scripts/test-all.sh ./$(CH)

test-all: ## run all tests, in the Vagrant VM if it is up
	@scripts/test-all.sh

test-vm: go ## run the stages' tests on cgroup v2, in QEMU
	@scripts/vm/qemu.sh

test-negative: ## show that each chapter's scripts fail on the chapter before
	@MYDOCKER_TEST_NEGATIVE=1 scripts/test-all.sh -run '^TestScripts$$' $(addprefix ./,$(wildcard ch[0-9][0-9]-*))

test-crash: ## kill final's processes at 1,000 random times, and cut the power at 250
	@MYDOCKER_CRASH_ROUNDS=$${MYDOCKER_CRASH_ROUNDS:-1000} scripts/test-all.sh -timeout 2h -run TestScripts/random ./final

test-mutants: go ## show that a test notices when a protection is taken out
	@scripts/test-mutants.sh

bench: go ## time final against the container runtimes that are installed, for its READMEs
	@scripts/image.sh .cache/busybox.tar
	@go build -o bin/final ./final && go build -o bin/bench ./bench
	@$(SUDO) bench/bench.sh final/README.md final/README.zh-CN.md

forward: ## carry uncommitted changes of a stage to all later ones
	@scripts/forward.sh

diff: ## show what a stage changes: make diff FROM=ch04 TO=ch05
	@scripts/diff.sh $(FROM) $(TO)

lock: go ## write stages.lock and the tables of what changes anew
	@go run ./internal/tour lock
	@go run ./internal/tour table

lint: go ## check the code, the scripts, the lock and the texts
	@LINT_VERSION=$(LINT_VERSION) scripts/lint.sh

ci: ## do what CI does
	@.ci/run

clean: ## remove what was built and downloaded
	@rm -rf bin .cache

# A machine without a go that can read go.work lacks more.
go:
	@go list -m >/dev/null 2>&1 || scripts/setup.sh
