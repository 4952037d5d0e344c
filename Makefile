# For working on all modules of this repository at once: the root module, and those
# in examples/ and verify/, which need others. Undone by: rm go.work go.work.sum

export GOWORK ?= $(CURDIR)/go.work

.PHONY: work
work:
	rm -f '$(GOWORK)' '$(GOWORK).sum'
	go work init
	go work use -r .
