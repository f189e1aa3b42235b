# Each target is one script; the scripts say what they do.
.PHONY: help demo up down test check fmt bench chaos
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 16

demo: ## install, start the platform, deploy an app by git push, show its page
	@scripts/demo

up: ## install and start the platform in the background
	@scripts/up

down: ## stop the platform and everything it runs; PURGE=1 deletes its data too
	@scripts/down $(if $(filter 1,$(PURGE)),--purge)

test: ## all tests, on real parts
	@scripts/test $(ARGS)

check: ## format, lint, types, imports
	@scripts/check

fmt: ## format and mend what can be mended
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

bench: ## the benchmarks, each with its table
	@scripts/bench

chaos: ## shake a platform with faults at random; SEED=7 COUNT=200
	@scripts/chaos $(if $(SEED),--seed $(SEED)) $(if $(COUNT),--count $(COUNT))
