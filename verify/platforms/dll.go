//go:build unix

package main

import (
	"bytes"
	"encoding/binary"
)

// forwarder returns a library for Windows on amd64 that has no code: its one
// function is a function of another library, target. Wine 8 lacks the library
// bcryptprimitives.dll, in which each Go program looks for ProcessPrng, but has
// a function that does the same, under another name.
func forwarder(library, function, target string) []byte {
	const (
		unit    = 0x200  // sizes in the file are multiples of it
		section = 0x1000 // address of the section, relative to the base
		tables  = section + 40
		names   = tables + 12
	)
	encode := func(values ...any) []byte {
		var b bytes.Buffer
		for _, v := range values {
			binary.Write(&b, binary.LittleEndian, v) // cannot fail: fixed size, in memory
		}
		return b.Bytes()
	}
	zero := func(n int) []byte { return make([]byte, n) }
	padded := func(b []byte) []byte { return append(b, zero(unit-len(b))...) }

	functionName := uint32(names + len(library) + 1)
	targetName := functionName + uint32(len(function)+1)
	exports := encode(
		zero(12),
		uint32(names),    // of the library
		uint32(1),        // the first ordinal
		[2]uint32{1, 1},  // functions, names
		uint32(tables),   // of functions,
		uint32(tables+4), // of names,
		uint32(tables+8), // of ordinals
		targetName,       // an address in this directory makes it a forwarder
		functionName, zero(4),
		[]byte(library+"\x00"+function+"\x00"+target+"\x00"))

	const (
		amd64      = 0x8664
		executable = 0x2002 // and a library
		addresses  = 0x20   // of more than two gigabytes
		wide       = 0x20b  // the optional header has 64 bits
		readable   = 0x40000040
		any64      = 0x100 // needs no relocation
	)
	size := uint32(len(exports))
	header := encode(
		[]byte("MZ"), zero(58), uint32(64),
		[]byte("PE\x00\x00"),
		uint16(amd64), uint16(1), zero(12), uint16(240), uint16(executable|addresses),
		uint16(wide), zero(2), uint32(0), size, zero(12),
		uint64(0x180000000), uint32(section), uint32(unit),
		[6]uint16{6, 0, 0, 0, 6, 0}, zero(4), // versions
		uint32(2*section), uint32(unit), zero(4), // sizes of the image, of the headers
		uint16(3), uint16(any64),
		[4]uint64{1 << 20, 1 << 12, 1 << 20, 1 << 12}, // stack and heap
		uint32(0), uint32(16),
		uint32(section), size, zero(15*8), // 16 directories: the exports are the first
		[]byte(".rdata\x00\x00"), size, uint32(section), uint32(unit), uint32(unit), zero(12),
		uint32(readable))
	return append(padded(header), padded(exports)...)
}
