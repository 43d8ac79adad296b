#!/bin/sh
# Builds the programs of the image, static, into FOLDER/usr/bin: build.sh PROFILE FOLDER
set -eu
cd "$(dirname "$0")/../.."
# With a target named, the flag isn't for what runs while building: macros of Rust's can't be static.
target=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile "$1" --target "$target" \
    --package peermemd --package peermem-device-plugin --bins
built=${CARGO_TARGET_DIR:-target}/$target/$1
install -D -t "$2/usr/bin" "$built/peermemd" "$built/peermem-device-plugin"
