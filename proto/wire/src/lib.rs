//! Varlink messages and file descriptors over a Unix stream socket, with every size bounded.
#![forbid(unsafe_code)]
