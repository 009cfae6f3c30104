//! Secret bytes: wiped when dropped, never printed, never copied by accident.
//!
//! Does not lock memory. `expose` is the only way to the bytes; `tests/architecture.rs` lists who may call it.

use std::fmt;
use zeroize::Zeroizing;

/// A secret text. Holding one obliges: no log, no error, no `Debug` shows it, and it is not cloned.
#[derive(PartialEq, Eq)]
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// Takes over `text`; the caller keeps no copy.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the few places that must send it on.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_text() {
        assert_eq!(format!("{:?}", SecretValue::new("hunter2".into())), "[redacted]");
    }
}
