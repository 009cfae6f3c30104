//! Headers that are between two machines only, and those that say where a message ends and where it goes.
//!
//! Pure. Names in lower case.

/// What concerns one connection and not the message (RFC 9110 section 7.6.1, RFC 9113 section 8.2.2).
const HOP: [&str; 8] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header of this name concerns one connection only.
#[must_use]
pub fn is_of_one_hop(name: &str) -> bool {
    HOP.contains(&name)
}

/// Whether a header of this name frames or routes the message: whoever sends it on writes it anew.
#[must_use]
pub fn frames_or_routes(name: &str) -> bool {
    is_of_one_hop(name) || matches!(name, "host" | "content-length" | "expect")
}
