//! Follows a JSON text piece by piece, as far as what stands at its top: whether it is an envelope of Vault's that gives out a token, a
//! wrapped answer or a lease.
//!
//! Pure. Keeps nothing of it but a name, and does not judge whether it is JSON: what is none gives nothing out.

use memchr::memchr2;

/// The longest name that is of interest, in bytes.
const LONGEST: usize = 16;

/// A token, a wrapped answer or a lease is given out from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("something is given out that would have to be known whole")]
pub(super) struct Given;

/// Where in the text we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before it.
    Start,
    /// Where a name may begin.
    Name,
    /// In a name.
    InName,
    /// Before its value.
    Value(Sought),
    /// In what must be an empty text.
    Empty,
    /// Anywhere else, so deep, and in a text or not.
    Within { depth: u32, text: bool },
    /// It is none, or all of it has come.
    Over,
}

/// What is of interest in a value at the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sought {
    Nothing,
    /// It must be null.
    Null,
    /// It must be an empty text, or null.
    Empty,
}

/// Such a text.
#[derive(Debug)]
pub(super) struct Top {
    at: At,
    name: Vec<u8>,
    /// The next byte of a text stands for itself.
    escaped: bool,
}

impl Top {
    pub(super) fn new() -> Self {
        Self { at: At::Start, name: Vec::with_capacity(LONGEST), escaped: false }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`Given`]: nothing of this piece may be passed on.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), Given> {
        while let Some((byte, rest)) = piece.split_first() {
            piece = rest;
            self.at = match self.at {
                At::Over => return Ok(()),
                At::Within { depth, text: true } => {
                    let text = !self.ends(*byte);
                    if text && !self.escaped {
                        // Most of a large answer is in texts.
                        piece = piece
                            .get(memchr2(b'"', b'\\', piece).unwrap_or(piece.len())..)
                            .unwrap_or_default();
                    }
                    At::Within { depth, text }
                }
                At::InName => self.named(*byte)?,
                at => self.step(at, *byte)?,
            };
        }
        Ok(())
    }

    /// Whether a text ends with this byte.
    fn ends(&mut self, byte: u8) -> bool {
        let escaped = self.escaped;
        self.escaped = !escaped && byte == b'\\';
        byte == b'"' && !escaped
    }

    fn named(&mut self, byte: u8) -> Result<At, Given> {
        match byte {
            // Nobody writes these names so but to hide them.
            b'\\' => Err(Given),
            b'"' => Ok(At::Value(self.sought())),
            byte => {
                if self.name.len() <= LONGEST {
                    self.name.push(byte.to_ascii_lowercase());
                }
                Ok(At::InName)
            }
        }
    }

    /// Some readers take names of either case for one another.
    fn sought(&self) -> Sought {
        match self.name.as_slice() {
            b"auth" | b"wrap_info" => Sought::Null,
            b"lease_id" => Sought::Empty,
            _ => Sought::Nothing,
        }
    }

    fn step(&mut self, at: At, byte: u8) -> Result<At, Given> {
        if byte.is_ascii_whitespace() && at != At::Empty {
            return Ok(at);
        }
        Ok(match (at, byte) {
            (At::Start, b'{') => At::Name,
            (At::Start, _) => At::Over,
            (At::Name, b'"') => {
                self.name.clear();
                At::InName
            }
            (At::Name, b',') => At::Name,
            (At::Value(_), b':') => at,
            (At::Value(Sought::Null | Sought::Empty), b'n') => At::Within { depth: 1, text: false },
            (At::Value(Sought::Empty), b'"') => At::Empty,
            (At::Value(Sought::Null | Sought::Empty), _) => return Err(Given),
            (At::Value(Sought::Nothing), byte) => within(1, byte),
            (At::Empty, b'"') => At::Within { depth: 1, text: false },
            (At::Empty, _) => return Err(Given),
            (At::Within { depth, .. }, byte) => within(depth, byte),
            (At::Name | At::InName | At::Over, _) => At::Over,
        })
    }
}

/// After a byte outside of texts, so deep.
fn within(depth: u32, byte: u8) -> At {
    match byte {
        b'{' | b'[' => At::Within { depth: depth.saturating_add(1), text: false },
        b'}' | b']' if depth <= 1 => At::Over,
        b'}' | b']' => At::Within { depth: depth - 1, text: false },
        b'"' => At::Within { depth, text: true },
        b',' if depth == 1 => At::Name,
        _ => At::Within { depth, text: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(), Given>) {
        for size in [1, 2, 3, 7, text.len().max(1)] {
            let mut top = Top::new();
            let found = text.as_bytes().chunks(size).try_for_each(|piece| top.push(piece));
            assert_eq!(found, expected, "{text} by {size}");
        }
    }

    #[test]
    fn a_secret_gives_nothing_out() {
        for text in [
            r#"{"request_id":"x","lease_id":"","renewable":false,"lease_duration":0,"data":{"auth":{"a":1},"x":"\"auth\":{"},"wrap_info":null,"auth":null}"#,
            r#"{"data": ["auth", {"lease_id": "x"}], "lease_id": null , "auth" : null}"#,
            r#"{"auth2":{},"xauth":{},"a_name_that_is_longer_than_any":{"auth":1}}"#,
            r#"{"data":"\\","auth":null}"#,
            r#"[{"auth":{}}]"#,
            "-----BEGIN CERTIFICATE-----",
            "\u{1f}\u{8b}{\"auth\":{}}",
            r#"{"errors":["auth"]}"#,
            "{}",
            "",
        ] {
            check(text, Ok(()));
        }
    }

    #[test]
    fn a_token_a_wrapped_answer_or_a_lease_is_seen_where_it_begins() {
        for text in [
            r#"{"auth":{"client_token":"x"}}"#,
            r#" { "data" : {"a": [1, "]"]} , "auth" : {} }"#,
            r#"{"data":"\\\"","AUTH":{}}"#,
            r#"{"wrap_info":{"token":"x"}}"#,
            r#"{"wrap_info":"x"}"#,
            r#"{"lease_id":"database/creds/app/x","data":{}}"#,
            r#"{"lease_id":" "}"#,
            r#"{"lease_id":1}"#,
            r#"{"\u0061uth":null}"#,
        ] {
            check(text, Err(Given));
        }
    }
}
