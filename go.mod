module github.com/gracefulgo/graceful

go 1.25.0
