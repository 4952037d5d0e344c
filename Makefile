# make is make lint test, for the root module. bash .ci/run is everything that CI
# runs, with the modules in bench, examples and verify that need other modules.

.PHONY: all
all: lint test

.PHONY: lint
lint:
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "gofmt -w $$files"; exit 1; }
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

.PHONY: test
test:
	go test ./...

# make work writes a go.work, so that an editor and the go command see all
# modules as one. Undo it by: rm go.work go.work.sum
.PHONY: work
work: export GOWORK ?= $(CURDIR)/go.work
work:
	rm -f '$(GOWORK)' '$(GOWORK).sum'
	go work init
	go work use -r .
