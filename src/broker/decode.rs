//! Answers that come compressed although nobody asked for it: undone piece by piece, so that the key can be found in them.
//!
//! Pure. A piece that would grow out of all proportion ends it: what is sent may not decide how much memory is needed.

use super::fault::Fault;
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use std::io::{self, Write};

/// How many bytes one byte may become.
const RATIO: u64 = 100;
/// How many bytes may be there beside that: short texts repeat themselves more than long ones.
const SLACK: u64 = 64 * 1024;
/// How much is undone at a time, in bytes: DEFLATE makes at most 1032 times as much of it.
const STEP: usize = 1024;

/// A coding of answers (RFC 9110 section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// Whether `Content-Encoding` names it.
    #[must_use]
    pub fn is(self, name: &[u8]) -> bool {
        match self {
            Self::Gzip => name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip"),
        }
    }
}

/// Undoes one body.
pub struct Decoder {
    inner: MultiGzDecoder<Bounded>,
    pending: Bytes,
    taken: u64,
}

/// What came out, up to what may come out.
#[derive(Default)]
struct Bounded {
    out: Vec<u8>,
    made: u64,
    most: u64,
}

impl Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.made += piece.len() as u64;
        if self.made > self.most {
            return Err(io::Error::other("it grows out of all proportion"));
        }
        self.out.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoder {
    /// Of a body that begins now.
    #[must_use]
    pub fn new(coding: Coding) -> Self {
        let Coding::Gzip = coding;
        Self { inner: MultiGzDecoder::new(Bounded::default()), pending: Bytes::new(), taken: 0 }
    }

    /// Takes the next piece; the one before must be used up ([`Self::give`] gave `None`).
    pub fn feed(&mut self, piece: Bytes) {
        self.pending = piece;
    }

    /// Some of what the pieces so far were made of; `None`: another one is needed.
    ///
    /// # Errors
    /// [`Fault::UpstreamProtocol`]: it is not encoded so. [`Fault::ResponseTooLarge`]: it would grow more than a hundredfold.
    pub fn give(&mut self) -> Result<Option<Bytes>, Fault> {
        while !self.pending.is_empty() {
            let step = self.pending.split_to(STEP.min(self.pending.len()));
            self.taken += step.len() as u64;
            self.inner.get_mut().most = SLACK + RATIO * self.taken;
            let done = self.inner.write_all(&step).and_then(|()| self.inner.flush());
            self.judge(done)?;
            let out = std::mem::take(&mut self.inner.get_mut().out);
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
        Ok(None)
    }

    /// The rest; the body has ended.
    ///
    /// # Errors
    /// [`Fault::UpstreamAborted`]: it ended in the middle.
    pub fn finish(&mut self) -> Result<Bytes, Fault> {
        // A body of nothing is nothing.
        if self.taken > 0 {
            let done = self.inner.try_finish();
            self.judge(done).map_err(|fault| match fault {
                Fault::UpstreamProtocol => Fault::UpstreamAborted,
                fault => fault,
            })?;
        }
        Ok(std::mem::take(&mut self.inner.get_mut().out).into())
    }

    fn judge(&self, done: io::Result<()>) -> Result<(), Fault> {
        let bounded = self.inner.get_ref();
        done.map_err(|_| match bounded.made > bounded.most {
            true => Fault::ResponseTooLarge,
            false => Fault::UpstreamProtocol,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(pieces: &[&[u8]]) -> Result<Vec<u8>, Fault> {
        let (mut decoder, mut out) = (Decoder::new(Coding::Gzip), Vec::new());
        for piece in pieces {
            decoder.feed(Bytes::copy_from_slice(piece));
            while let Some(piece) = decoder.give()? {
                out.extend(piece);
            }
        }
        out.extend(decoder.finish()?);
        Ok(out)
    }

    #[test]
    fn a_text_comes_out_however_it_is_cut() {
        let text: Vec<u8> = (0..50_000_u32).flat_map(|n| n.to_be_bytes()).collect();
        let coded = gzip(&text);
        for size in [1, 7, 1000, coded.len()] {
            assert_eq!(decode(&coded.chunks(size).collect::<Vec<_>>()).unwrap(), text, "{size}");
        }
        assert_eq!(decode(&[&gzip(b"one, "), &gzip(b"two")]).unwrap(), b"one, two");
        assert_eq!(decode(&[]).unwrap(), b"");
        assert_eq!(decode(&[&gzip(b"")]).unwrap(), b"");
    }

    #[test]
    fn what_is_there_comes_out_before_the_next_piece_comes() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"data: 1\n\n").unwrap();
        encoder.flush().unwrap();
        let mut decoder = Decoder::new(Coding::Gzip);
        decoder.feed(encoder.get_ref().clone().into());
        let mut out = Vec::new();
        while let Some(piece) = decoder.give().unwrap() {
            out.extend(piece);
        }
        assert_eq!(out, b"data: 1\n\n");
    }

    #[test]
    fn what_is_cut_off_or_something_else_or_a_bomb_is_refused() {
        let coded = gzip(b"some text that is long enough to be cut");
        for end in 1..coded.len() {
            assert_eq!(decode(&[&coded[..end]]), Err(Fault::UpstreamAborted), "{end}");
        }
        assert_eq!(decode(&[b"this is no gzip"]), Err(Fault::UpstreamProtocol));
        assert_eq!(
            decode(&[&coded, b"and more than the ten bytes of a header"]),
            Err(Fault::UpstreamProtocol)
        );
        let mut wrong = coded.clone();
        let at = wrong.len() - 5;
        wrong[at] ^= 1;
        assert!(decode(&[&wrong]).is_err());
        assert_eq!(decode(&[&gzip(&vec![0; 10_000_000])]), Err(Fault::ResponseTooLarge));
    }
}
