//! Writes canonical JSON (RFC 8785) into a buffer, value by value; the order of the keys is the caller's care.
//!
//! Pure. Does not know events.

use super::escape::{escape, fitting};
use crate::crypto::{append_hex, sha256};
use std::{fmt::Display, io::Write};

/// The largest integer that every JSON reader keeps (RFC 8785 section 3.2.2.3).
pub(super) const EXACT: u64 = (1 << 53) - 1;

/// How much of each text is written.
#[derive(Clone, Copy)]
pub(super) struct Caps {
    /// Bytes of one text, escaped.
    pub(super) text: usize,
    /// Members of a list.
    pub(super) keys: usize,
    /// How long the line would be, if it is cut.
    pub(super) original: Option<usize>,
}

/// Whether paths in Vault are readable in events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paths {
    /// As they are.
    Clear,
    /// `sha256:` and the hex digits of the path's hash.
    Hashed,
}

/// Writes one value after the other; absent ones leave no key behind.
pub(super) struct Pen<'a> {
    out: &'a mut Vec<u8>,
    caps: Caps,
    /// Bytes that the caps left out.
    pub(super) left_out: usize,
    first: bool,
}

impl<'a> Pen<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, caps: Caps) -> Self {
        Self { out, caps, left_out: 0, first: true }
    }

    pub(super) fn open(&mut self) {
        self.out.push(b'{');
        self.first = true;
    }

    pub(super) fn close(&mut self) {
        self.out.push(b'}');
        self.first = false;
    }

    fn key(&mut self, key: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    pub(super) fn object<T>(&mut self, key: &str, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        if let Some(value) = value {
            self.key(key);
            self.open();
            write(self, value);
            self.close();
        }
    }

    /// A text of any origin.
    pub(super) fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.key(key);
            self.string(value, self.caps.text);
        }
    }

    /// A value whose text needs no escape.
    pub(super) fn quoted(&mut self, key: &str, value: impl Display) {
        self.key(key);
        self.print(format_args!("\"{value}\""));
    }

    pub(super) fn hex(&mut self, key: &str, prefix: &str, bytes: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(prefix.as_bytes());
        append_hex(self.out, bytes);
        self.out.push(b'"');
    }

    /// A path, as paths are written.
    pub(super) fn path(&mut self, path: Option<&str>, paths: Paths) {
        match (paths, path) {
            (Paths::Hashed, Some(path)) => self.hex("path", "sha256:", &sha256(path.as_bytes())),
            (_, path) => self.text("path", path),
        }
    }

    /// A number of an event: a text, since it may pass what JSON readers keep.
    pub(super) fn seq(&mut self, key: &str, value: Option<u64>) {
        if let Some(seq) = value {
            self.quoted(key, format_args!("{seq:020}"));
        }
    }

    pub(super) fn number(&mut self, key: &str, value: Option<u64>) {
        self.bare(key, value.map(|number| number.min(EXACT)));
    }

    /// A number or a truth value.
    pub(super) fn bare(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.key(key);
            self.print(format_args!("{value}"));
        }
    }

    /// A list of objects; the caller sees to it that they fit.
    pub(super) fn objects<T>(&mut self, key: &str, values: &[T], write: impl Fn(&mut Self, &T)) {
        self.key(key);
        self.out.push(b'[');
        for (place, value) in values.iter().enumerate() {
            if place > 0 {
                self.out.push(b',');
            }
            self.open();
            write(self, value);
            self.close();
        }
        self.out.push(b']');
    }

    pub(super) fn list(&mut self, key: &str, values: &[String]) {
        if values.is_empty() {
            return;
        }
        self.key(key);
        self.out.push(b'[');
        for (place, value) in values.iter().take(self.caps.keys).enumerate() {
            if place > 0 {
                self.out.push(b',');
            }
            self.string(value, self.caps.text / 8);
        }
        for value in values.iter().skip(self.caps.keys) {
            self.left_out = self.left_out.saturating_add(value.len()).saturating_add(3);
        }
        self.out.push(b']');
    }

    fn string(&mut self, value: &str, cap: usize) {
        let (kept, left_out) = fitting(value, cap);
        self.left_out = self.left_out.saturating_add(left_out);
        self.out.push(b'"');
        escape(self.out, kept);
        self.out.push(b'"');
    }

    fn print(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a Vec cannot fail.
        self.out.write_fmt(text).unwrap_or_default();
    }
}

pub(super) fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
