//! What peermemd and its clients say to each other: types, errors, interface definition. No I/O.
#![forbid(unsafe_code)]
